//! What is wrong with what runs: sockets, the certificate, the clock, the gateway.

use std::path::{Path, PathBuf};

use super::{
    super::facts::{Facts, File, Kind},
    BEGINNING, DAY, Found, may_read,
};

impl Found {
    pub(super) fn sockets(&mut self, facts: &Facts) {
        for socket in facts.sockets() {
            let (path, shown) = (&socket.path, socket.path.display());
            let restart = "restart the service that makes it";
            if let Some(directory) = path.parent() {
                self.run_directory(facts, directory);
            }
            let expected = facts.ids(socket.user);
            match facts.files.get(path) {
                Some(File::There { kind: Kind::Socket, uid, mode, .. }) => {
                    if let Some(ids) = expected.filter(|ids| ids.uid != *uid) {
                        let what =
                            format!("it belongs to uid {uid}, not to {} (uid {})", socket.user, ids.uid);
                        self.error(&shown, what, restart);
                    }
                    if *mode != socket.mode {
                        let what = format!("its mode is {mode:04o}, not {:04o}", socket.mode);
                        self.error(&shown, what, restart);
                    }
                }
                Some(File::There { .. }) => {
                    self.error(&shown, "it is no socket", format!("rm {shown}, then {restart}"));
                }
                Some(File::Hidden(why)) => self.unseen(path, why),
                Some(File::Missing) | None => {
                    self.warning(&shown, "there is no such socket: the service does not run", "start it");
                }
            }
            match facts.listeners.get(path) {
                Some(Err(why)) => {
                    let mend = "start the service; its log says why it does not run";
                    self.error(&shown, format!("nobody answers: {why}"), mend);
                }
                // Under a service manager's socket it is root who listens.
                Some(Ok(0)) | None => {}
                Some(Ok(uid)) => {
                    if expected.is_some_and(|ids| ids.uid != *uid) {
                        let what = format!("uid {uid} listens there, which is not {}", socket.user);
                        self.error(&shown, what, "find out who that is (ss -xlp), and restart the service");
                    }
                }
            }
        }
    }

    fn run_directory(&mut self, facts: &Facts, directory: &Path) {
        let shown = directory.display().to_string();
        if self.0.iter().any(|finding| finding.place == shown) {
            return;
        }
        match facts.files.get(directory) {
            Some(File::There { uid, mode, .. }) => {
                if facts
                    .services()
                    .iter()
                    .any(|(_, user, ..)| facts.ids(user).is_some_and(|ids| ids.uid == *uid))
                {
                    self.warning(
                        &shown,
                        "it belongs to a service, which could put another socket into it",
                        format!("chown root {shown}"),
                    );
                } else if *uid != 0 {
                    self.error(&shown, format!("it belongs to uid {uid}"), format!("chown root {shown}"));
                }
                if mode & 0o022 != 0 {
                    let what = format!("others can write it (mode {mode:04o})");
                    self.error(&shown, what, format!("chmod go-w {shown}"));
                }
            }
            Some(File::Hidden(why)) => self.unseen(directory, why),
            // The services make it.
            Some(File::Missing) | None => {}
        }
    }

    pub(super) fn certificate(&mut self, facts: &Facts) {
        let Some(certificate) = &facts.certificate else { return };
        let shown = certificate.path.display();
        let renew = match certificate.own {
            true => "restart doorward-gateway, which renews its own certificate".to_owned(),
            false => "renew it, then: systemctl reload doorward-gateway (or kill -HUP)".to_owned(),
        };
        match &certificate.holds {
            Err(why) => self.error(&shown, why, "name a PEM file with the chain (tls.certificate)"),
            Ok((from, _)) if facts.now < *from => {
                self.error(
                    &shown,
                    "it is not valid yet",
                    "look at the clock of this host, or make a new one",
                );
            }
            Ok((_, to)) if facts.now >= *to => self.error(&shown, "it has expired", renew),
            Ok((_, to)) if to - facts.now < 14 * DAY => {
                let what = format!("it expires in {} days", (to - facts.now) / DAY);
                self.warning(&shown, what, renew);
            }
            Ok(_) => {}
        }
        let key = certificate.key.display();
        match &certificate.key_fits {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                self.error(
                    &key,
                    format!("it is not the key of {shown}: {why}"),
                    "name the two files of one pair",
                );
            }
            None => self.unseen(&certificate.key, "the key cannot be read"),
        }
        if let (false, Some(File::There { uid, gid, mode, .. }), Ok(gateway)) =
            (certificate.own, facts.files.get(&certificate.key), &facts.gateway)
        {
            if mode & 0o007 != 0 {
                self.error(&key, "others can read it: the gateway refuses it", format!("chmod o= {key}"));
            }
            if let Some(ids) = facts.ids(&gateway.user).filter(|ids| !may_read(*ids, *uid, *gid, *mode)) {
                let what = format!(
                    "{} cannot read it: it does not start under systemd, and otherwise a reload takes no new one",
                    gateway.user
                );
                self.warning(&key, what, format!("chgrp {} {key} && chmod 640 {key}", ids.gid));
            }
        }
    }

    /// The keys of `[[jwt]]`: authd reads them at its start, and does not start without.
    pub(super) fn issuers(&mut self, facts: &Facts) {
        let Ok(authd) = &facts.authd else { return };
        for issuer in &authd.jwt {
            for path in issuer.key_file.iter().chain(&issuer.jwks_file) {
                self.issuer_key(facts, path, &authd.user, issuer.algorithm == "HS256");
            }
        }
    }

    fn issuer_key(&mut self, facts: &Facts, path: &Path, user: &str, secret: bool) {
        let shown = path.display();
        let (uid, gid, mode) = match facts.files.get(path) {
            Some(File::There { uid, gid, mode, .. }) => (*uid, *gid, *mode),
            Some(File::Hidden(why)) => return self.unseen(path, why),
            Some(File::Missing) | None => {
                return self.error(&shown, "there is no such file", "name another in [[jwt]] of authd.toml");
            }
        };
        if secret && mode & 0o077 != 0 {
            let mend = format!("chown {user} {shown} && chmod 600 {shown}");
            self.error(&shown, format!("others than {user} can read it: authd refuses it"), mend);
        } else if mode & 0o022 != 0 {
            let mend = format!("chmod go-w {shown}");
            self.error(&shown, "others can write it: authd refuses it", mend);
        }
        if let Some(ids) = facts.ids(user).filter(|ids| !may_read(*ids, uid, gid, mode)) {
            let mend = match secret {
                true => format!("chown {user} {shown}"),
                false => format!("chgrp {} {shown} && chmod g+r {shown}", ids.gid),
            };
            self.error(&shown, format!("{user} cannot read it"), mend);
        }
    }

    pub(super) fn clock(&mut self, facts: &Facts) {
        let mend = "set the clock, for example: timedatectl set-ntp true";
        let written = facts.files.iter().filter_map(|(path, file)| match file {
            File::There { modified, .. } => Some((modified, path)),
            File::Missing | File::Hidden(_) => None,
        });
        if facts.now < BEGINNING {
            self.error("clock", "it shows a time before there was a doorward", mend);
        } else if let Some((_, path)) = written.max().filter(|(modified, _)| **modified > facts.now + DAY) {
            let what = format!("{} was written more than a day later than it is now", path.display());
            self.error("clock", what, mend);
        }
    }

    pub(super) fn gateway(&mut self, facts: &Facts) {
        let Ok(gateway) = &facts.gateway else { return };
        let path: &PathBuf = &gateway.listen.unix;
        if path.as_os_str().is_empty() {
            return;
        }
        if let Err(why) = &facts.identify {
            self.error(
                path.display(),
                format!("rpc/identify is not answered: {why}"),
                "start doorward-gateway",
            );
        }
    }
}

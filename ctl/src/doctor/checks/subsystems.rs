//! What is wrong with subsystems: their registrations, their sockets, and who listens there.

use super::{
    super::facts::{Facts, File, Kind, Registered},
    Found, may_write,
};

impl Found {
    pub(super) fn subsystems(&mut self, facts: &Facts) {
        let Ok(gateway) = &facts.gateway else { return };
        let directory = &gateway.subsystems.directory;
        match facts.files.get(directory) {
            Some(File::There { kind: Kind::Directory, uid, mode, .. }) => {
                self.roots_alone(directory, *uid, *mode);
            }
            Some(File::There { .. }) => {
                self.error(directory.display(), "it is no directory", "make it a directory of root's");
            }
            Some(File::Hidden(why)) => self.unseen(directory, why),
            // Nothing is registered.
            Some(File::Missing) | None => {}
        }
        for sentence in &gateway.registrations.wrong {
            let mend = "mend the file: it counts within 2 seconds, without a reload";
            self.error(directory.display(), format!("{sentence}: that subsystem is not there"), mend);
        }
        for registered in &gateway.registrations.found {
            if let Some(File::There { uid, mode, .. }) = facts.files.get(&registered.file) {
                self.roots_alone(&registered.file, *uid, *mode);
            }
            self.subsystem(facts, registered, &gateway.user);
        }
        if let (Some(Ok(config)), Some(registered)) =
            (&facts.sysinfo, gateway.registrations.found.iter().find(|one| one.is_sysinfo()))
        {
            let file = registered.file.display();
            if config.socket.path != registered.socket {
                let (own, said) = (config.socket.path.display(), registered.socket.display());
                let what = format!("it is {own}, but {file} says {said}");
                self.error("sysinfo.toml socket.path", what, "make both the same");
            }
            if let Some(ids) = facts.ids(&config.user).filter(|ids| ids.uid != registered.uid) {
                let what = format!(
                    "uid {} is registered, but {} (uid {}) runs it",
                    registered.uid, config.user, ids.uid
                );
                self.error(file, what, format!("user = \"{}\"", config.user));
            }
        }
    }

    fn subsystem(&mut self, facts: &Facts, registered: &Registered, gateway: &str) {
        let Registered { file, socket, uid, .. } = registered;
        let (shown, file) = (socket.display(), file.display());
        let name = format!("{}/{}", registered.namespace, registered.name);
        let others = facts.services().into_iter().filter(|(service, ..)| {
            !(registered.is_sysinfo() && *service == super::super::facts::Service::Sysinfo)
        });
        let same: Vec<_> = others
            .filter(|(_, user, ..)| facts.ids(user).is_some_and(|ids| ids.uid == *uid))
            .map(|(service, ..)| service.program())
            .collect();
        if *uid == 0 {
            self.warning(&file, format!("{name} runs as root"), "give it a user of its own");
        } else if let Some(program) = same.first() {
            let what = format!("{name} and {program} run as the same user: no separation");
            self.error(&file, what, "give the subsystem a user of its own");
        }
        if let Some(parent) = socket.parent()
            && let Some(File::There { uid: owner, mode, .. }) = facts.files.get(parent)
        {
            let parent = parent.display();
            if *owner != 0 && owner != uid {
                let what = format!("it belongs to uid {owner}, who can put another socket into it");
                self.error(&parent, what, format!("chown root {parent}"));
            }
            if mode & 0o022 != 0 && mode & 0o1000 == 0 {
                let what = format!("others can write it (mode {mode:04o})");
                self.error(&parent, what, format!("chmod go-w {parent}"));
            }
        }
        match facts.files.get(socket) {
            Some(File::There { kind: Kind::Socket, uid: owner, gid, mode, .. }) => {
                if let Some(ids) = facts.ids(gateway).filter(|ids| !may_write(*ids, *owner, *gid, *mode)) {
                    let what = format!("{gateway} (uid {}) may not connect to it (mode {mode:04o})", ids.uid);
                    self.error(&shown, what, format!("chgrp {gateway} {shown} && chmod 660 {shown}"));
                }
            }
            Some(File::There { .. }) => {
                self.error(&shown, "it is no socket", format!("rm {shown}, then restart what is {name}"));
            }
            Some(File::Hidden(why)) => self.unseen(socket, why),
            Some(File::Missing) | None => {
                let what = format!("there is no such socket: {name} does not run");
                self.warning(&shown, what, format!("start it, or remove {file}"));
            }
        }
        match facts.listeners.get(socket) {
            Some(Err(why)) => {
                let mend = format!("start what is {name}; its log says why it does not run");
                self.error(&shown, format!("nobody answers: {why}"), mend);
            }
            // Under a service manager's socket it is root who listens, until the service does.
            Some(Ok(0)) | None => {}
            Some(Ok(listens)) if listens != uid => {
                let what = format!(
                    "uid {listens} listens there, but {file} says uid {uid}: the gateway does not call it"
                );
                self.error(&shown, what, "find out who that is (ss -xlp), or mend `user` in the file");
            }
            Some(Ok(_)) => {}
        }
    }
}

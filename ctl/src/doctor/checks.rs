//! What is wrong with what was seen, and the command that mends it. Pure.

mod agreement;
mod running;
mod subsystems;

use std::path::Path;

use super::facts::{Facts, File, Ids, Kind};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// Something does not work, or is open to somebody who should not have it.
    Error,
    /// Something works and will not for long, or not as well as it could.
    Warning,
    /// It could not be looked at.
    Unseen,
}

impl Grade {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Unseen => "unseen",
        }
    }
}

/// One thing that somebody has to mend, or look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    /// A path, or the name of what it is about.
    pub(super) place: String,
    pub(super) what: String,
    /// A command, or what to do.
    pub(super) mend: String,
}

const DAY: i64 = 24 * 60 * 60;
/// No doorward is older than this (2025-01-01): a clock that shows less is wrong.
const BEGINNING: i64 = 1_735_689_600;
/// Below this the stores of sessions and keys soon fail.
const BYTES_LEAST: u64 = 64 << 20;
const BYTES_FEW: u64 = 512 << 20;
const FILES_LEAST: u64 = 1_000;

/// Every check, in the order in which one would mend things.
pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Found::default();
    found.configurations(facts);
    found.users(facts);
    found.agreement(facts);
    found.ports(facts);
    found.groups(facts);
    found.pam(facts);
    found.states(facts);
    found.logs(facts);
    found.sockets(facts);
    found.subsystems(facts);
    found.certificate(facts);
    found.issuers(facts);
    found.clock(facts);
    found.gateway(facts);
    found.0
}

#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, grade: Grade, place: impl ToString, what: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding { grade, place: place.to_string(), what: what.into(), mend: mend.into() });
    }

    fn error(&mut self, place: impl ToString, what: impl Into<String>, mend: impl Into<String>) {
        self.add(Grade::Error, place, what, mend);
    }

    fn warning(&mut self, place: impl ToString, what: impl Into<String>, mend: impl Into<String>) {
        self.add(Grade::Warning, place, what, mend);
    }

    fn unseen(&mut self, path: &Path, why: &str) {
        self.add(Grade::Unseen, path.display(), why, "run `doorward doctor` as root");
    }

    fn configurations(&mut self, facts: &Facts) {
        use super::facts::Service::{Authd, Certd, Gateway, Sysinfo};
        for (service, refused) in [
            (Gateway, facts.gateway.as_ref().err()),
            (Authd, facts.authd.as_ref().err()),
            (Certd, facts.certd.as_ref().err()),
            (Sysinfo, facts.sysinfo.as_ref().and_then(|sysinfo| sysinfo.as_ref().err())),
        ] {
            let path = facts.directory.join(service.file());
            if let Some(why) = refused {
                self.error(
                    path.display(),
                    why,
                    format!("mend the file, then: {} --check-config", service.program()),
                );
            }
            if let Some(File::There { uid, mode, .. }) = facts.files.get(&path) {
                self.roots_alone(&path, *uid, *mode);
            }
        }
        match facts.files.get(&facts.directory) {
            Some(File::There { uid, mode, .. }) => self.roots_alone(&facts.directory, *uid, *mode),
            Some(File::Hidden(why)) => self.unseen(&facts.directory, why),
            Some(File::Missing) | None => {}
        }
    }

    /// What decides for root is root's, and nobody else writes it.
    fn roots_alone(&mut self, path: &Path, uid: u32, mode: u32) {
        let shown = path.display();
        if uid != 0 {
            self.error(
                &shown,
                format!("it belongs to uid {uid}, who can change it"),
                format!("chown root {shown}"),
            );
        }
        if mode & 0o022 != 0 {
            self.error(
                &shown,
                format!("others can write it (mode {mode:04o})"),
                format!("chmod go-w {shown}"),
            );
        }
    }

    fn users(&mut self, facts: &Facts) {
        for (name, ids) in &facts.users {
            match ids {
                None => self.error(
                    format!("user {name}"),
                    "there is no such user",
                    format!("useradd --system --no-create-home --shell /usr/sbin/nologin {name}"),
                ),
                Some(Ids { uid: 0, .. }) => self.error(
                    format!("user {name}"),
                    "a service must not run as root",
                    "name a user of the service's own (`user` in its configuration)",
                ),
                Some(_) => {}
            }
        }
        let services = facts.services();
        for (index, (service, user, ..)) in services.iter().enumerate() {
            for (other, second, ..) in services.iter().skip(index + 1) {
                if let (Some(one), Some(two)) = (facts.ids(user), facts.ids(second))
                    && one.uid == two.uid
                {
                    self.error(
                        format!("user {user}"),
                        format!(
                            "{} and {} run as the same user: no separation",
                            service.program(),
                            other.program()
                        ),
                        "give each service a user of its own",
                    );
                }
            }
        }
    }

    fn groups(&mut self, facts: &Facts) {
        let Ok(authd) = &facts.authd else { return };
        let there = |groups: &[String]| groups.iter().any(|name| facts.groups.get(name) == Some(&true));
        let (full, limited) = (&authd.access.full_groups, &authd.access.limited_groups);
        let mend = |group: Option<&String>| {
            let group = group.map_or("doorward", String::as_str);
            format!("groupadd --system {group}, then usermod --append --groups {group} USER")
        };
        let further: Vec<String> = authd.access.group_acl.keys().cloned().collect();
        if !there(full) && !there(limited) && !there(&further) {
            self.error(
                "authd.toml access",
                "none of the access groups exists: nobody but root can log in",
                mend(full.first().or(limited.first())),
            );
        } else if !there(full) {
            let names = full.join(", ");
            self.warning(
                "authd.toml access.full_groups",
                format!("none of them exists ({names}): nobody but root has full access"),
                mend(full.first()),
            );
        }
        let of_tokens = authd.token_api.group_acl.keys().map(|group| ("token_api.group_acl", group));
        for (key, group) in further.iter().map(|group| ("access.group_acl", group)).chain(of_tokens) {
            if facts.groups.get(group) == Some(&false) {
                self.warning(
                    format!("authd.toml {key}"),
                    format!("there is no group {group}: nobody has its entries"),
                    mend(Some(group)),
                );
            }
        }
    }

    fn pam(&mut self, facts: &Facts) {
        let (path, text) = &facts.pam;
        let shown = path.display();
        match facts.files.get(path) {
            Some(File::There { kind: Kind::File, uid, mode, .. }) => self.roots_alone(path, *uid, *mode),
            Some(File::There { .. }) => {
                self.error(&shown, "it is no regular file", "put the PAM service file there");
                return;
            }
            Some(File::Hidden(why)) => return self.unseen(path, why),
            Some(File::Missing) | None => {
                self.error(
                    &shown,
                    "there is no PAM service file: nobody can log in with a password",
                    format!("install the one that comes with doorward as {shown}"),
                );
                return;
            }
        }
        match text {
            Err(why) => self.unseen(path, why),
            Ok(text) => {
                for phase in ["auth", "account"] {
                    if !has_phase(text, phase) {
                        self.error(
                            &shown,
                            format!("it has no {phase} line: PAM falls back to the service `other`"),
                            format!("add what {phase} takes, for example `@include common-{phase}`"),
                        );
                    }
                }
            }
        }
    }

    fn states(&mut self, facts: &Facts) {
        for (service, user, path, _) in facts.services() {
            let shown = path.display();
            match facts.files.get(path) {
                Some(File::There { kind: Kind::Directory, uid, mode, .. }) => {
                    if let Some(ids) = facts.ids(user).filter(|ids| ids.uid != *uid) {
                        let what = format!("it belongs to uid {uid}, not to {user} (uid {})", ids.uid);
                        self.error(&shown, what, format!("chown -R {user} {shown}"));
                    }
                    if mode & 0o077 != 0 {
                        let what = format!("others can look into it (mode {mode:04o})");
                        self.error(&shown, what, format!("chmod 700 {shown}"));
                    }
                }
                Some(File::There { .. }) => {
                    self.error(
                        &shown,
                        "it is no directory",
                        format!("move it away and start {}", service.program()),
                    );
                }
                Some(File::Hidden(why)) => self.unseen(path, why),
                // The service makes it.
                Some(File::Missing) | None => {}
            }
        }
        for (path, room) in &facts.room {
            let mend = "make room on that file system";
            if room.bytes < BYTES_LEAST || room.files < FILES_LEAST {
                let what = format!("{} MiB and {} files are left", room.bytes >> 20, room.files);
                self.error(path.display(), what, mend);
            } else if room.bytes < BYTES_FEW {
                self.warning(path.display(), format!("{} MiB are left", room.bytes >> 20), mend);
            }
        }
    }

    fn logs(&mut self, facts: &Facts) {
        for (_, user, _, log) in facts.services() {
            let Some((file, directory)) = log.file.as_ref().and_then(|file| Some((file, file.parent()?)))
            else {
                continue;
            };
            let shown = directory.display();
            let mend = format!("install -d -o {user} -m 750 {shown}");
            match facts.files.get(directory) {
                Some(File::There { kind: Kind::Directory, uid, gid, mode, .. }) => {
                    let writes = facts.ids(user).is_none_or(|ids| may_write(ids, *uid, *gid, *mode));
                    if !writes {
                        let what = format!(
                            "{user} cannot make a new log there: a moved log is not opened anew on SIGHUP"
                        );
                        self.warning(&shown, what, mend);
                    }
                }
                Some(File::There { .. }) => self.error(&shown, "it is no directory", mend),
                Some(File::Missing) | None => self.error(&shown, "it does not exist", mend),
                Some(File::Hidden(why)) => self.unseen(directory, why),
            }
            if let Some(File::There { uid, .. }) = facts.files.get(file)
                && let Some(ids) = facts.ids(user)
                && *uid != ids.uid
            {
                let what = format!("it belongs to uid {uid}: {user} cannot open it anew on SIGHUP");
                self.warning(file.display(), what, format!("chown {user} {}", file.display()));
            }
        }
    }
}

fn may_write(ids: Ids, uid: u32, gid: u32, mode: u32) -> bool {
    may(ids, uid, gid, mode, 0o2)
}

fn may_read(ids: Ids, uid: u32, gid: u32, mode: u32) -> bool {
    may(ids, uid, gid, mode, 0o4)
}

/// As the kernel decides: the first class that fits is the only one that counts.
fn may(ids: Ids, uid: u32, gid: u32, mode: u32, bit: u32) -> bool {
    let class = if ids.uid == uid {
        6
    } else if ids.gid == gid {
        3
    } else {
        0
    };
    mode >> class & bit != 0
}

/// Whether a PAM service file says what a phase takes, itself or by another file.
fn has_phase(text: &str, phase: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("@include") => words.next().is_some_and(|name| name.ends_with(&format!("-{phase}"))),
            Some(first) => first.trim_start_matches('-').eq_ignore_ascii_case(phase),
            None => false,
        }
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

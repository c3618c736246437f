//! The real programs in a directory of their own, from start to an end that leaves nothing.

mod activation;
mod plugin;
mod start;
mod subsystem;

pub use self::plugin::{Example, Plugin};
pub use self::subsystem::Fake;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::accounts::{Accounts, Service};
use crate::cast::{Cast, Person, Role};
use crate::daemon::Daemon;
use crate::options::{Options, Pam};
use crate::pam::Wrapper;
use crate::{leftovers, logs, skip};
use start::read_listening;

/// One of the programs of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// doorward-pam-guard, listening.
    Guard,
    /// doorward-certd.
    Certd,
    /// doorward-authd.
    Authd,
    /// doorward-gateway.
    Gateway,
}

/// Guard, certd, authd and gateway, ready to be spoken to.
#[derive(Debug)]
pub struct Stack {
    dir: TempDir,
    pam: Pam,
    service: String,
    cast: Cast,
    uids: Uids,
    /// Guard, certd, authd, gateway, in the order of their start.
    daemons: Vec<Daemon>,
    sysinfo: Option<Daemon>,
    accounts: Option<(Service, Arc<Accounts>)>,
    listening: Listening,
}

/// Whom the services run as.
#[derive(Debug, Clone, Copy)]
struct Uids {
    certd: u32,
    authd: u32,
    gateway: u32,
}

/// What the gateway says of itself once it is ready.
#[derive(Debug, Clone, serde::Deserialize)]
struct Listening {
    tls: Vec<String>,
    token: Vec<String>,
    token_plain: Vec<String>,
    fingerprint: String,
}

impl Stack {
    /// Starts everything; `None` when this machine cannot (and that was said).
    ///
    /// # Panics
    /// When a program does not start.
    pub fn start(options: &Options) -> Option<Self> {
        match options.pam {
            Pam::Real if !skip::root("real PAM") => None,
            Pam::Real => Some(Self::real(options)),
            Pam::Wrapper => match Wrapper::find() {
                Some(wrapper) => Some(Self::wrapped(options, &wrapper)),
                None => {
                    skip::skipped("packages libpam-wrapper and libnss-wrapper are missing");
                    None
                }
            },
        }
    }

    /// Everybody that has an account.
    pub fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Somebody of the cast.
    pub fn person(&self, role: Role) -> &Person {
        self.cast.person(role)
    }

    /// Which PAM is behind it.
    pub fn pam(&self) -> Pam {
        self.pam
    }

    /// authd's uid.
    pub fn authd_uid(&self) -> u32 {
        self.uids.authd
    }

    /// certd's uid.
    pub fn certd_uid(&self) -> u32 {
        self.uids.certd
    }

    /// The gateway's uid.
    pub fn gateway_uid(&self) -> u32 {
        self.uids.gateway
    }

    /// The address of the first TLS listener.
    ///
    /// # Panics
    /// When the gateway has none.
    pub fn tls_address(&self) -> &str {
        self.listening.tls.first().expect("a TLS listener")
    }

    /// The token API's own listener, with TLS.
    ///
    /// # Panics
    /// When the gateway has none.
    pub fn token_address(&self) -> &str {
        self.listening.token.first().expect("a TLS listener of the token API")
    }

    /// The same, without TLS.
    ///
    /// # Panics
    /// When the gateway has none.
    pub fn plain_token_address(&self) -> &str {
        self.listening.token_plain.first().expect("a plain listener of the token API")
    }

    /// The fingerprint of the gateway's key, as the gateway tells it.
    pub fn fingerprint(&self) -> &str {
        &self.listening.fingerprint
    }

    /// A path below the stack's directory: `run/gateway.sock`, `run/authd/authd.sock`,
    /// `run/authd/peer.sock`, `run/certd/certd.sock`, `run/certd/authd.sock`, `run/pam/pam.sock`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All that a program has logged.
    pub fn log(&self, program: Program) -> String {
        self.daemon(program).log_text()
    }

    /// The audit records of a program that match all of these fields.
    ///
    /// # Panics
    /// When one is no JSON.
    pub fn records(&self, program: Program, fields: &[(&str, &str)]) -> Vec<Value> {
        matching(&self.audit_text(program), fields)
    }

    /// Waits until there is a record with all of these fields.
    ///
    /// # Panics
    /// When there is none after 10 s, or more than one.
    pub fn await_record(&self, program: Program, fields: &[(&str, &str)]) {
        let check = || match self.records(program, fields) {
            found if found.len() == 1 => Ok(()),
            found => Err(format!("{fields:?}: {found:?}")),
        };
        leftovers::wait_for("a record", Duration::from_secs(10), check).expect("one record");
    }

    /// What is in the file where a program's records go unless a test names another.
    fn audit_text(&self, program: Program) -> String {
        let name = match program {
            Program::Guard => return String::new(),
            Program::Certd => "certd",
            Program::Authd => "authd",
            Program::Gateway => "gateway",
        };
        fs::read_to_string(self.path(&format!("state/{name}/audit.jsonl"))).unwrap_or_default()
    }

    /// The pid of a program.
    pub fn pid(&self, program: Program) -> u32 {
        self.daemon(program).pid()
    }

    /// The PAM service file.
    pub fn pam_service(&self) -> PathBuf {
        match self.pam {
            Pam::Real => PathBuf::from("/etc/pam.d").join(&self.service),
            Pam::Wrapper => self.path("services").join(&self.service),
        }
    }

    /// The configuration file of a program that has one.
    pub fn config_path(&self, program: Program) -> PathBuf {
        self.path(&format!("{}.toml", self.daemon(program).name()))
    }

    /// Sets a key in a program's configuration file; nothing hears of it before a reload.
    ///
    /// # Panics
    /// When the file is not as it was written.
    pub fn set(&self, program: Program, key: &str, value: impl Into<toml::Value>) {
        let path = self.config_path(program);
        let text = fs::read_to_string(&path).expect("a file in our directory");
        let mut table: toml::Table = text.parse().expect("TOML");
        crate::options::set(&mut table, key, value.into());
        fs::write(&path, table.to_string()).expect("a file in our directory");
    }

    /// Sends SIGHUP and waits until the program says that the reload is over; what it logged meanwhile.
    ///
    /// # Panics
    /// When it does not say so in time.
    pub fn reload(&mut self, program: Program) -> String {
        let before = self.log(program).len();
        self.daemon_mut(program).reload();
        if program == Program::Gateway {
            self.listening = read_listening(self.dir.path());
        }
        self.log(program).split_off(before)
    }

    /// Kills a program as `kill -9` does.
    pub fn kill(&mut self, program: Program) {
        self.daemon_mut(program).kill();
    }

    /// Starts a program that was stopped or killed, and kills it as soon as it is so, ready or not.
    ///
    /// # Panics
    /// When it never is.
    pub fn kill_in_start(&mut self, program: Program, what: &str, so: impl Fn() -> bool) {
        self.daemon_mut(program).kill_in_start(what, so);
    }

    /// Sets the wall clock of the services so many seconds ahead of the machine's, or back. For
    /// [`Options::wall_clock`].
    ///
    /// # Panics
    /// Where it has none of its own.
    pub fn set_wall_clock(&self, seconds: i64) {
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().write(true).open(self.path(start::WALL_CLOCK));
        let file = file.expect("services with a wall clock of their own");
        // In place: it is mapped by those who run.
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("a file in our directory");
    }

    /// Sends a program a signal, and waits for nothing.
    pub fn signal(&self, program: Program, signal: Signal) {
        self.daemon(program).signal(signal);
    }

    /// Asks a program to stop, and waits until it has.
    ///
    /// # Panics
    /// When it does not, or says that it failed.
    pub fn stop(&mut self, program: Program) {
        self.daemon_mut(program).stop().expect("a clean end");
    }

    /// Starts a program that was stopped or killed.
    pub fn start_again(&mut self, program: Program) {
        self.daemon_mut(program).start_again();
        if program == Program::Gateway {
            self.listening = read_listening(self.dir.path());
        }
    }

    /// Lets `Role::Expired` have the old password again.
    pub fn forget_changed_passwords(&self) {
        let _ = fs::remove_file(self.path("remember/expired"));
    }

    /// Starts a program that was stopped again, with strace writing these calls of it to a file of the
    /// stack's directory. Needs root, as strace on a program that changes its uid does.
    pub fn start_traced(&mut self, program: Program, calls: &str) -> PathBuf {
        let file = self.path("log/strace");
        self.daemon_mut(program).start_traced(calls, &file);
        if program == Program::Gateway {
            self.listening = read_listening(self.dir.path());
        }
        file
    }

    /// The file that is a program.
    pub fn program_file(&self, program: Program) -> &Path {
        self.daemon(program).program()
    }

    /// Whether all of them still run.
    pub fn runs(&mut self) -> bool {
        self.daemons.iter_mut().all(Daemon::runs)
    }

    /// The processes of PAM conversations: all that have this stack's service in their command line,
    /// the listening guard apart.
    pub fn conversations(&self) -> Vec<String> {
        let listener = format!("{} ", self.pid(Program::Guard));
        let found = leftovers::processes(&[&self.service]);
        found.into_iter().filter(|line| !line.starts_with(&listener)).collect()
    }

    /// Waits until so many processes of conversations are there.
    ///
    /// # Panics
    /// When they are not, after 10 s.
    pub fn await_conversations(&self, processes: usize) {
        let check = || match self.conversations() {
            there if there.len() >= processes => Ok(()),
            there => Err(format!("{there:?}")),
        };
        leftovers::wait_for("processes of a conversation", Duration::from_secs(10), check)
            .expect("they are there");
    }

    /// Waits until no process of any conversation is left.
    ///
    /// # Panics
    /// When some are, after `most`.
    pub fn await_no_conversations(&self, most: Duration) {
        let check = || match self.conversations() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        };
        leftovers::wait_for("no process of a conversation", most, check).expect("nothing remains");
    }

    /// Waits until a line with all these words is in a program's log, and returns it.
    ///
    /// # Panics
    /// When there is none after 10 s.
    pub fn await_log(&self, program: Program, words: &[&str]) -> String {
        let mut found = String::new();
        let check = || {
            let log = self.log(program);
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(|line| line.clone_into(&mut found))
                .ok_or_else(|| format!("no line with {words:?} in\n{log}"))
        };
        leftovers::wait_for("a log line", Duration::from_secs(10), check).expect("the line");
        found
    }

    fn daemon(&self, program: Program) -> &Daemon {
        self.daemons.get(program as usize).expect("guard, certd, authd and gateway")
    }

    fn daemon_mut(&mut self, program: Program) -> &mut Daemon {
        self.daemons.get_mut(program as usize).expect("guard, certd, authd and gateway")
    }

    /// Stops everything and looks at what is left: processes, sockets, secrets in logs.
    fn finish(&mut self) -> Result<(), String> {
        let mut wrong = self.finish_sysinfo();
        for daemon in self.daemons.iter_mut().rev() {
            wrong.extend(daemon.stop().err());
            daemon.close_sockets();
        }
        wrong.extend(leftovers::wait_until_none(self.dir.path(), &self.service).err());
        for daemon in &self.daemons {
            let text = daemon.log_text();
            let complaints = logs::complaints(daemon.name(), &text);
            // What modules print on the guard's side has no form, but holds no secret either.
            let is_guard = daemon.name() == "doorward-pam-guard";
            wrong.extend(complaints.into_iter().filter(|c| !is_guard || c.contains("a secret")));
            if text.contains("panicked at") {
                wrong.push(format!("{} panicked:\n{text}", daemon.name()));
            }
        }
        for (program, name) in [
            (Program::Certd, "doorward-certd"),
            (Program::Authd, "doorward-authd"),
            (Program::Gateway, "doorward-gateway"),
        ] {
            wrong.extend(logs::audit_complaints(name, &self.audit_text(program)));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// The records of a file that match all of these fields.
fn matching(text: &str, fields: &[(&str, &str)]) -> Vec<Value> {
    // The last one may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let records = whole.lines().map(|line| serde_json::from_str(line).expect(line));
    records.filter(|record: &Value| fields.iter().all(|(field, value)| record[field] == *value)).collect()
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for daemon in self.daemons.iter().chain(&self.sysinfo) {
                eprintln!("--- the end of {} ---\n{}", daemon.log_path().display(), daemon.log_end());
            }
        }
        let finished = self.finish();
        // Accounts first: whatever is wrong, they must not stay.
        self.accounts.take();
        match finished {
            Err(wrong) if std::thread::panicking() => eprintln!("{wrong}"),
            Err(wrong) => panic!("{wrong}"),
            Ok(()) => {}
        }
    }
}

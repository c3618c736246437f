//! The password prompt on a real terminal, a pseudo one whose other side the test holds.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, SpecialCodeIndex, Termios, tcgetattr},
};

use crate::World;

pub(crate) struct Terminal {
    /// Our side: what is written here is typed, what is read was shown.
    ours: File,
    /// Kept open, so that the settings outlive the program.
    _theirs: OwnedFd,
    /// Its settings, before the program began.
    before: Termios,
    program: Child,
}

impl Terminal {
    /// Runs `doorward` with a terminal of its own, and stdin somewhere else.
    pub(crate) fn start(world: &World, args: &[&str]) -> Self {
        Self::start_as(world, args, "dumb", false)
    }

    /// The same with stderr on the terminal too, which is of this kind.
    pub(crate) fn start_drawing(world: &World, args: &[&str], kind: &str) -> Self {
        Self::start_as(world, args, kind, true)
    }

    fn start_as(world: &World, args: &[&str], kind: &str, stderr: bool) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(&*name, flags, Mode::empty()).unwrap();
        let before = tcgetattr(&theirs).unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_doorward")]).args(args);
        command.env("XDG_RUNTIME_DIR", world.runtime()).env("DOORWARD_SOCKET", &world.gateway.socket);
        command.env("TERM", kind);
        let stderr = if stderr { Stdio::from(theirs.try_clone().unwrap()) } else { Stdio::null() };
        command.stdin(theirs.try_clone().unwrap()).stdout(Stdio::null()).stderr(stderr);
        Self { ours: ours.into(), _theirs: theirs, before, program: command.spawn().unwrap() }
    }

    /// Reads until the words were shown; everything shown so far.
    pub(crate) fn shown(&mut self, words: &str) -> String {
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(words) {
            let mut byte = [0];
            self.ours.read_exact(&mut byte).unwrap();
            shown.extend(byte);
        }
        String::from_utf8(shown).unwrap()
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.ours).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn code(&mut self) -> Option<i32> {
        self.program.wait().unwrap().code()
    }
}

#[test]
fn a_hidden_answer_is_not_shown_and_a_visible_one_is() {
    let world = World::new();
    let mut terminal = Terminal::start(&world, &["login", "bob"]);
    assert!(terminal.before.local_modes.contains(LocalModes::ECHO));
    terminal.shown("Password for bob: ");
    assert!(!terminal.echoes());
    terminal.type_in("right\n");
    let shown = terminal.shown("New password: ");
    assert!(!shown.contains("right"), "{shown:?}");
    terminal.type_in("new secret\n");
    let shown = terminal.shown("Code: ");
    assert!(!shown.contains("new secret"), "{shown:?}");
    assert!(terminal.echoes());
    terminal.type_in("4711\n");
    terminal.shown("4711");
    assert_eq!(terminal.code(), Some(0));
    world.run(&["call", "rpc/query"], "").expect(0);
}

#[test]
fn the_terminal_is_given_back_whatever_ends_the_prompt() {
    let world = World::new();
    for end in ["\u{3}", "\u{1c}", "\u{4}", "wrong\n"] {
        let mut terminal = Terminal::start(&world, &["login", "alice"]);
        let before = terminal.before.special_codes[SpecialCodeIndex::VSUSP];
        terminal.shown("Password for alice: ");
        assert!(!terminal.echoes());
        terminal.type_in(end);
        assert_ne!(terminal.code(), Some(0));
        assert!(terminal.echoes(), "{end:?}");
        assert_eq!(tcgetattr(&terminal.ours).unwrap().special_codes[SpecialCodeIndex::VSUSP], before);
    }
}

#[test]
fn the_own_name_is_tried_without_a_password_first() {
    let uid = rustix::process::geteuid();
    let me = nix::unistd::User::from_uid(uid.as_raw().into()).unwrap();
    let Some(me) = me.filter(|_| !uid.is_root()) else {
        // As root there is no such try: root always needs a password.
        let world = World::new();
        world.gateway.allow_local();
        let mut terminal = Terminal::start(&world, &["login", "root"]);
        terminal.shown("Password for root: ");
        assert_eq!(world.gateway.take_requests(), Vec::<serde_json::Value>::new());
        terminal.type_in("\u{3}");
        assert_eq!(terminal.code(), Some(130));
        return;
    };
    let world = World::new();
    let mut terminal = Terminal::start(&world, &["login", &me.name]);
    terminal.shown("Password for ");
    assert_eq!(crate::names(&world.gateway.take_requests()), ["identify", "auth"]);
    terminal.type_in("\u{3}");
    assert_eq!(terminal.code(), Some(130));
    world.gateway.allow_local();
    world.run(&["login", &me.name], "").expect(0);
}

#[test]
fn a_token_and_the_password_for_one_are_asked_for_without_echo() {
    let world = World::new();
    for (args, question) in
        [(&["token", "issue", "alice"][..], "Password for alice: "), (&["token", "check"], "Token: ")]
    {
        let mut terminal = Terminal::start(&world, args);
        terminal.shown(question);
        assert!(!terminal.echoes());
        terminal.type_in("\u{3}");
        assert_eq!(terminal.code(), Some(130));
        assert!(terminal.echoes());
    }
}

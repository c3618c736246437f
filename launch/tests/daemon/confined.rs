//! What a daemon that was taken over still reaches: tried from inside.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use rustix::process::Signal;

use crate::place::{Place, SERVICE, Status, is_root, text};

/// What Landlock, the missing call and the owner's check answer.
const EACCES: &str = "13";
const EPERM: &str = "1";
const ENOSYS: &str = "38";

/// A process of the daemon's own uid, which the uid alone would let it send signals to.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null()).stdout(Stdio::null());
        if is_root() {
            command.uid(SERVICE).gid(SERVICE);
        }
        Self(command.spawn().expect("sleep starts"))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this kernel has all that is asked for; says so if not.
fn landlock() -> bool {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create);
    if ruleset.is_err() {
        assert!(std::env::var_os("DOORWARD_NO_SKIP").is_none(), "no Landlock here");
        println!("SKIPPED: this kernel does not have all of Landlock's version 6");
    }
    ruleset.is_ok()
}

/// Everything that is tried, in a place with a directory that is the daemon's own.
struct Scene {
    place: Place,
    listener: TcpListener,
    neighbour: Neighbour,
    _abstract: UnixListener,
    abstract_name: String,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        std::fs::create_dir(place.path("own")).expect("made");
        std::fs::create_dir(place.path("outside")).expect("made");
        for (name, mode) in [("own", 0o700), ("outside", 0o777)] {
            std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(mode)).expect("set");
        }
        for name in ["own/old", "outside/file", "outside/victim"] {
            std::fs::write(place.path(name), "x").expect("written");
            std::fs::set_permissions(place.path(name), PermissionsExt::from_mode(0o666)).expect("set");
        }
        if is_root() {
            for name in ["own", "own/old"] {
                chown(place.path(name), Some(SERVICE), Some(SERVICE)).expect("given");
            }
        }
        let abstract_name = format!("doorward-test-{}-{:p}", std::process::id(), &raw const place);
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("short");
        Self {
            listener: TcpListener::bind("127.0.0.1:0").expect("bound"),
            neighbour: Neighbour::start(),
            _abstract: UnixListener::bind_addr(&address).expect("bound"),
            abstract_name,
            place,
        }
    }

    /// Starts the daemon with these settings and lets it try all; what it got for each.
    fn tried(&self, sandbox: &str, connects: Option<std::net::SocketAddr>, attempts: &[&str]) -> Status {
        let list: Vec<String> = attempts.iter().map(|what| format!("{what:?}")).collect();
        let connects = connects.map(|address| format!("connects = \"{address}\"\n")).unwrap_or_default();
        // Keys of the top table come first.
        let config = format!(
            "keep = {:?}\n{connects}attempts = [{}]\n[sandbox]\n{sandbox}\n",
            self.place.path("own"),
            list.join(", ")
        );
        self.place.configure(&config);
        let daemon = self.place.start(&[]);
        let (status, _) = self.place.status();
        daemon.signal(Signal::TERM);
        let (code, log) = daemon.end();
        assert_eq!(code, Some(0), "{log}");
        status
    }

    fn expect(&self, sandbox: &str, expected: &[(&str, &str)]) {
        self.expect_all(sandbox, None, expected);
    }

    fn expect_connecting(&self, sandbox: &str, connects: std::net::SocketAddr, expected: &[(&str, &str)]) {
        self.expect_all(sandbox, Some(connects), expected);
    }

    fn expect_all(&self, sandbox: &str, connects: Option<std::net::SocketAddr>, expected: &[(&str, &str)]) {
        let attempts: Vec<&str> = expected.iter().map(|(what, _)| *what).collect();
        let status = self.tried(sandbox, connects, &attempts);
        for (what, outcome) in expected {
            assert_eq!(status.line(what), *outcome, "{what} with {sandbox:?}");
        }
    }

    fn path(&self, verb: &str, name: &str) -> String {
        format!("{verb} {}", self.place.path(name).display())
    }

    fn connect(&self) -> String {
        format!("connect {}", self.listener.local_addr().expect("an address"))
    }

    fn signal(&self) -> String {
        format!("signal {}", self.neighbour.0.id())
    }
}

/// What is declared works, what is not does not, whatever the file's mode says.
pub(crate) fn files_tcp_and_signals() {
    if !landlock() {
        return;
    }
    let scene = Scene::new();
    let abstract_socket = format!("abstract {}", scene.abstract_name);
    scene.expect(
        "seccomp = false",
        &[
            (&scene.path("read", "own/old"), "ok"),
            (&scene.path("list", "own"), "ok"),
            (&scene.path("write", "own/new"), "ok"),
            (&scene.path("remove", "own/old"), "ok"),
            // The directory of its configuration: it may be asked to read that again.
            (&scene.path("read", "fixture.toml"), "ok"),
            ("read /dev/null", "ok"),
            ("write /dev/null", "ok"),
            ("read /dev/urandom", "ok"),
            ("read /proc/self/status", "ok"),
            (&scene.path("unix", "socket"), "ok"),
            ("netlink ", "ok"),
            ("read /etc/passwd", EACCES),
            ("read /proc/1/status", EACCES),
            ("read /proc/version", EACCES),
            ("list /", EACCES),
            (&scene.path("write", "outside/file"), EACCES),
            (&scene.path("write", "outside/new"), EACCES),
            (&scene.path("remove", "outside/victim"), EACCES),
            (&scene.path("write", "fixture.toml"), EACCES),
            (&scene.connect(), EACCES),
            ("bind 127.0.0.1:0", EACCES),
            (&abstract_socket, EPERM),
            (&scene.signal(), EPERM),
            ("execute /bin/true", EACCES),
        ],
    );
    assert!(scene.place.path("outside/victim").exists());
}

/// The same without the means: what is refused above is refused by them and by nothing else.
pub(crate) fn switched_off() {
    let scene = Scene::new();
    scene.expect(
        "landlock = false\nseccomp = false",
        &[
            ("read /etc/passwd", "ok"),
            (&scene.path("write", "outside/file"), "ok"),
            (&scene.path("remove", "outside/victim"), "ok"),
            (&scene.connect(), "ok"),
            ("bind 127.0.0.1:0", "ok"),
            ("udp 127.0.0.1:0", "ok"),
            ("netlink ", "ok"),
            (&format!("abstract {}", scene.abstract_name), "ok"),
            (&scene.signal(), "ok"),
            ("execute /bin/true", "ok"),
        ],
    );
}

/// What has no name in the file system.
pub(crate) fn calls() {
    let scene = Scene::new();
    scene.expect(
        "landlock = false",
        &[
            ("execute /bin/true", ENOSYS),
            ("udp 127.0.0.1:0", ENOSYS),
            ("bind 127.0.0.1:0", ENOSYS),
            (&scene.connect(), ENOSYS),
            ("netlink ", ENOSYS),
            ("packet ", ENOSYS),
            (&scene.path("unix", "socket"), "ok"),
            ("read /etc/passwd", "ok"),
        ],
    );
}

/// One port that was declared, by TCP alone; nothing else of the network.
pub(crate) fn a_declared_connection() {
    let scene = Scene::new();
    let declared = scene.listener.local_addr().expect("an address");
    scene.expect_connecting(
        "landlock = false",
        declared,
        &[
            (&scene.connect(), "ok"),
            ("socket 2 1 6", "ok"),
            ("udp 127.0.0.1:0", ENOSYS),
            // MPTCP, SCTP, SMC, ICMP, a raw socket; the other family.
            ("socket 2 1 262", ENOSYS),
            ("socket 2 1 132", ENOSYS),
            ("socket 43 1 0", ENOSYS),
            ("socket 2 2 1", ENOSYS),
            ("socket 2 3 6", ENOSYS),
            ("socket 10 1 0", ENOSYS),
            ("packet ", ENOSYS),
        ],
    );
    drop(scene);
    if !landlock() {
        return;
    }
    let scene = Scene::new();
    let declared = scene.listener.local_addr().expect("an address");
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let other = format!("connect {}", other.local_addr().expect("an address"));
    scene.expect_connecting(
        "seccomp = false",
        declared,
        &[(&scene.connect(), "ok"), (&other, EACCES), ("bind 127.0.0.1:0", EACCES)],
    );
}

pub(crate) fn settings() {
    if !landlock() {
        return;
    }
    let scene = Scene::new();
    let more = format!("read = [{:?}]", scene.place.path("outside"));
    scene.expect(
        &more,
        &[
            (&scene.path("read", "outside/file"), "ok"),
            (&scene.path("write", "outside/file"), EACCES),
            ("read /etc/passwd", EACCES),
        ],
    );
    let path = scene.place.write("[sandbox]\nlandlok = true\n");
    let (code, _, stderr) = scene.place.run(&["--check-config", "-c", text(&path)]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("fixture.toml:2: ") && stderr.contains("landlok"), "{stderr}");
}

/// Without a service manager, in a shell's redirection, descriptors come in that nobody meant.
pub(crate) fn inherited_descriptors() {
    let place = Place::new();
    let config = place.configure("");
    let secret = place.path("secret");
    std::fs::write(&secret, "x").expect("written");
    let program = std::env::current_exe().expect("this program");
    let script = format!("exec 7<'{}' 9<'{0}'; exec \"$0\" -f -c '{}'", text(&secret), text(&config));
    let shell = place.command_of(Path::new("/bin/sh"), &["-c", &script, text(&program)]);
    let daemon = place.start_command(shell);
    let (status, _) = place.status();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", status.line("Pid")));
    if is_root() {
        for entry in descriptors.expect("root sees them") {
            let target = std::fs::read_link(entry.expect("an entry").path()).expect("a link");
            assert_ne!(target, secret);
        }
    }
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    // Whoever runs the tests may have left some more.
    let closed = log.split_once("nobody asked for closed=").expect("it is told").1;
    let closed: u32 = closed.lines().next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(closed >= 2, "{log}");
}

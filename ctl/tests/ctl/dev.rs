//! `doorward dev` with fake services: shell scripts that run this test program again, as
//! `dev::fake_service`. Never as root, so that nothing of the host is touched; what root sees is shown by
//! the demo, which checks that nothing remains.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{copy_program, write_script};

/// Somebody without an account, if the test runs as root.
const NOBODY: u32 = 60_123;

const SERVICES: [&str; 5] =
    ["doorward-pam-guard", "doorward-certd", "doorward-authd", "doorward-sysinfo", "doorward-gateway"];

/// Programs beside `doorward`, and a place for what it makes.
struct Stage {
    directory: TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stage = Self { directory };
        stage.open(stage.directory.path(), 0o755);
        for name in ["bin", "tmp"] {
            fs::create_dir(stage.path(name)).unwrap();
            stage.open(&stage.path(name), 0o755);
        }
        place(Path::new(env!("CARGO_BIN_EXE_doorward")), &stage.path("bin/doorward"));
        place(&std::env::current_exe().unwrap(), &stage.path("bin/fake"));
        fs::write(stage.path("bin/doorward-pam-worker"), "").unwrap();
        for service in SERVICES {
            stage.behave(service, "well");
        }
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// How one of the services acts from its next start on.
    fn behave(&self, service: &str, way: &str) {
        let script = format!(
            "FAKE_SERVICE={service} FAKE_WAY={way} FAKE_ARGUMENTS=\"$*\" FAKE_DIRECTORY='{}' \
             exec '{}' --exact dev::fake_service --nocapture",
            self.path("tmp").display(),
            self.path("bin/fake").display(),
        );
        write_script(&self.path("bin").join(service), &script);
    }

    fn command(&self, args: &[&str]) -> Command {
        let own = self.path("bin/doorward");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(own);
            command
        } else {
            Command::new(own)
        };
        command.arg("dev").args(args).current_dir("/").env_clear().env("TMPDIR", self.path("tmp"));
        command.env("PATH", "/usr/bin:/bin").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).arg("--json").spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut report = String::new();
        out.read_line(&mut report).unwrap();
        let report = serde_json::from_str(&report).unwrap_or(Value::Null);
        Running { child, report }
    }

    /// What the services wrote down, in order.
    fn diary(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("tmp/diary")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Nothing but the diary.
    fn assert_clean(&self) {
        let left: Vec<_> =
            fs::read_dir(self.path("tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "diary"), "{left:?}");
    }
}

/// A link where that is possible, since programs are large.
fn place(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        copy_program(from, to);
    }
}

struct Running {
    child: Child,
    report: Value,
}

impl Running {
    fn pids(&self) -> Vec<i32> {
        let services = self.report["services"].as_array().expect("it was ready");
        services.iter().map(|service| i32::try_from(service["pid"].as_i64().unwrap()).unwrap()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// The exit code and what stood on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

fn assert_gone(pids: &[i32]) {
    for pid in pids {
        assert_eq!(kill(Pid::from_raw(*pid), None), Err(Errno::ESRCH), "{pid}");
    }
}

/// Not a test of its own: what the scripts run.
#[test]
fn fake_service() {
    let Ok(name) = std::env::var("FAKE_SERVICE") else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let (way, arguments) = (variable("FAKE_WAY"), variable("FAKE_ARGUMENTS"));
    let note = |what: &str| {
        let path = Path::new(&variable("FAKE_DIRECTORY")).join("diary");
        let mut diary = fs::File::options().create(true).append(true).open(path).unwrap();
        diary.write_all(format!("{what} {name}\n").as_bytes()).unwrap();
    };
    eprintln!("{name} was called with {arguments}");
    if way == "fails" {
        eprintln!("this is why");
        std::process::exit(7);
    }
    note("start");
    if let Some(file) = arguments.strip_prefix("--foreground --stop-at-eof --config-file ") {
        let config: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        let state = Path::new(config["state_dir"].as_str().unwrap());
        assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o7777, 0o700);
        if name == "doorward-gateway" || name == "doorward-authd" {
            let registered =
                Path::new(config["subsystems"]["directory"].as_str().unwrap()).join("sysinfo.toml");
            let registered: toml::Table = fs::read_to_string(registered).unwrap().parse().unwrap();
            assert_eq!(registered["name"].as_str(), Some("systemmanager"));
        }
        if name == "doorward-gateway" {
            let address: SocketAddr = config["listen"]["tls"][0].as_str().unwrap().parse().unwrap();
            let told = json!({"tls": [address.to_string()], "token": [], "token_plain": ["127.0.0.1:1"], "unix": config["listen"]["unix"].as_str(),
                "fingerprint": "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="});
            fs::write(state.join("listening.json"), told.to_string()).unwrap();
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(arguments.contains("--stop-at-eof"), "{arguments}");
    let diary = variable("FAKE_DIRECTORY");
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        fs::write(Path::new(&diary).join(format!("alone-{}", std::process::id())), "").unwrap();
        std::process::exit(0);
    });
    runtime.block_on(async {
        let kind = tokio::signal::unix::SignalKind::terminate();
        let mut terminate = tokio::signal::unix::signal(kind).unwrap();
        let ready = UnixDatagram::unbound().unwrap();
        ready.send_to(b"STATUS=up\nREADY=1\n", variable("NOTIFY_SOCKET")).unwrap();
        loop {
            terminate.recv().await;
            note("stop");
            if way != "deaf" {
                break;
            }
        }
    });
}

#[test]
fn everything_is_started_reported_stopped_in_reverse_and_taken_away() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let stage = Stage::new();
        let running = stage.start(&["--port", "4711"]);
        let pids = running.pids();
        assert_eq!(running.report["urls"], json!(["wss://127.0.0.1:4711"]));
        assert_eq!(running.report["separated"], false);
        let directory = PathBuf::from(running.report["directory"].as_str().unwrap());
        assert!(directory.starts_with(stage.path("tmp")));
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
        let log = fs::read_to_string(directory.join("log/authd.log")).unwrap();
        assert!(log.contains("doorward-authd was called with"), "{log}");
        running.signal(signal);
        assert_eq!(running.end().0, Some(0));
        let diary = ["start", "stop"].map(|what| SERVICES.map(|service| format!("{what} {service}")));
        let [started, mut stopped] = diary;
        stopped.reverse();
        assert_eq!(stage.diary(), [started, stopped].concat());
        assert_gone(&pids);
        stage.assert_clean();
    }
}

#[test]
fn kill_9_leaves_no_service_running() {
    let stage = Stage::new();
    let running = stage.start(&[]);
    let pids = running.pids();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().0, None);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    for pid in pids {
        // It ends by itself; whoever inherited it reaps it.
        let alone = stage.path("tmp").join(format!("alone-{pid}"));
        while !alone.exists() {
            assert!(std::time::Instant::now() < until, "{pid} runs on");
            std::thread::yield_now();
        }
    }
}

#[test]
fn the_death_of_one_ends_all_and_is_told() {
    for (index, service) in SERVICES.into_iter().enumerate() {
        let stage = Stage::new();
        let running = stage.start(&[]);
        let pids = running.pids();
        kill(Pid::from_raw(pids[index]), Signal::SIGKILL).unwrap();
        let (code, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("{service} ended by itself (signal: 9")), "{text}");
        assert!(text.contains(&format!("{service} was called with")), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        assert_gone(&pids);
        stage.assert_clean();
    }
}

#[test]
fn a_service_that_does_not_start_is_told_with_its_last_words() {
    for service in SERVICES {
        let stage = Stage::new();
        stage.behave(service, "fails");
        let running = stage.start(&[]);
        assert_eq!(running.report["error"]["kind"], "failed");
        let (code, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("this is why") && text.contains(&format!("{service} ended by itself")),
            "{text}"
        );
        stage.assert_clean();
    }
}

#[test]
fn a_service_that_does_not_stop_is_killed() {
    let stage = Stage::new();
    stage.behave("doorward-authd", "deaf");
    let running = stage.start(&[]);
    let pids = running.pids();
    running.signal(Signal::SIGTERM);
    let (code, text) = running.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("doorward-authd did not end within 5 seconds and was killed"), "{text}");
    assert_gone(&pids);
    stage.assert_clean();
}

#[test]
fn a_directory_that_was_named_keeps_what_is_worth_keeping() {
    let stage = Stage::new();
    let kept = stage.path("tmp/kept");
    for _ in 0..2 {
        let running = stage.start(&["--dir", kept.to_str().unwrap()]);
        assert_eq!(running.report["directory"].as_str(), kept.to_str());
        let second = stage.command(&["--dir", kept.to_str().unwrap()]).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(String::from_utf8(second.stderr).unwrap().contains("another"));
        running.signal(Signal::SIGTERM);
        assert_eq!(running.end().0, Some(0));
    }
    let mut left: Vec<_> =
        fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(
        left,
        [
            ".doorward-dev",
            "authd.toml",
            "certd.toml",
            "channels.toml",
            "gateway.toml",
            "log",
            "state",
            "subsystems.d",
            "sysinfo.toml",
        ]
    );
}

#[test]
fn a_missing_program_is_named_before_anything_is_started() {
    let stage = Stage::new();
    fs::remove_file(stage.path("bin/doorward-gateway")).unwrap();
    let (code, text) = stage.start(&[]).end();
    assert_eq!(code, Some(1));
    assert!(text.contains("doorward-gateway is in none of"), "{text}");
    assert_eq!(stage.diary(), Vec::<String>::new());
    stage.assert_clean();
}

#[test]
fn a_person_is_told_what_there_is_and_what_to_try() {
    let stage = Stage::new();
    let mut child = stage.command(&[]).spawn().unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        text.push_str(&line);
        text.push('\n');
        if line.starts_with("ready") {
            break;
        }
    }
    let running = Running { child, report: Value::Null };
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().0, Some(0));
    for words in [
        "wss://127.0.0.1:0",
        "SHA256:AAAA",
        "gateway.sock",
        "removed at the end",
        "Nothing separates them",
        "bin/doorward login",
        "--fingerprint SHA256:",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

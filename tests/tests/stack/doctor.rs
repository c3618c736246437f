//! `doorward doctor` on a host where all is well, and on one where one thing after the other is not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use doorward_tests::keys::{Key, Kind};
use doorward_tests::{Options, Pam, Program, Stack, doorward};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The stack's configuration under the names that a host has.
struct Host {
    dir: tempfile::TempDir,
    pam: PathBuf,
}

impl Host {
    fn of(stack: &Stack) -> Self {
        let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod of our directory");
        let host = Self { dir, pam: stack.pam_service() };
        for (program, name) in [
            (Program::Gateway, "gateway.toml"),
            (Program::Authd, "authd.toml"),
            (Program::Certd, "certd.toml"),
        ] {
            host.write(name, &fs::read_to_string(stack.config_path(program)).expect("the stack's file"));
        }
        host
    }

    /// What the stack's doorward-sysinfo reads, too.
    fn add_sysinfo(&self, stack: &Stack) {
        let text = fs::read_to_string(stack.path("doorward-sysinfo.toml")).expect("the stack's file");
        self.write("sysinfo.toml", &text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file in our directory");
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644)).expect("chmod of our file");
    }

    /// Exit code and findings.
    fn examine(&self) -> (Option<i32>, Vec<Value>) {
        let output = Command::new(doorward())
            .args(["--json", "doctor", "--config-dir"])
            .arg(self.dir.path())
            .arg("--pam-service")
            .arg(&self.pam)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr));
        });
        (output.status.code(), told["findings"].as_array().expect("a list").clone())
    }

    /// Something is wrong at `place`, and this mends it.
    fn assert_found(&self, code: i32, place: &Path, mend: &str) {
        let (exit, findings) = self.examine();
        let place = place.to_str().expect("UTF-8");
        let found = findings.iter().any(|finding| {
            finding["where"] == place && finding["mend"].as_str().is_some_and(|text| text.contains(mend))
        });
        assert!(found, "{place} {mend}: {findings:#?}");
        assert_eq!(exit, Some(code), "{findings:#?}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_nothing_where_all_is_well_and_each_thing_that_is_not() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let host = Host::of(&stack);
    let (code, findings) = host.examine();
    assert_eq!((code, findings.as_slice()), (Some(0), [].as_slice()));

    let authd = fs::read_to_string(host.path("authd.toml")).expect("our file");
    mode(&host.path("authd.toml"), 0o666);
    host.assert_found(2, &host.path("authd.toml"), "--check-config");
    host.write("authd.toml", &format!("colour = 1\n{authd}"));
    host.assert_found(2, &host.path("authd.toml"), "doorward-authd --check-config");
    let nobody = authd.replace(&format!("user = \"{}\"", stack.authd_uid()), "user = \"no-such-user\"");
    assert_ne!(nobody, authd);
    host.write("authd.toml", &nobody);
    host.assert_found(2, Path::new("user no-such-user"), "useradd --system");
    let mut table: toml::Table = authd.parse().expect("TOML");
    for key in ["full_groups", "limited_groups"] {
        table["access"][key] = vec![toml::Value::from("no-such-group")].into();
    }
    host.write("authd.toml", &table.to_string());
    host.assert_found(2, Path::new("authd.toml access"), "groupadd --system no-such-group");
    host.write("authd.toml", &authd);

    mode(host.dir.path(), 0o777);
    host.assert_found(2, host.dir.path(), "chmod go-w");
    mode(host.dir.path(), 0o755);

    let state = stack.path("state/certd");
    mode(&state, 0o755);
    host.assert_found(2, &state, "chmod 700");
    mode(&state, 0o700);
    chown(&state, Some(0), None).expect("chown of a directory");
    host.assert_found(2, &state, "chown -R");
    chown(&state, Some(stack.certd_uid()), None).expect("chown of a directory");

    let socket = stack.path("run/authd/authd.sock");
    mode(&socket, 0o666);
    host.assert_found(2, &socket, "restart");
    mode(&socket, 0o660);
    let run = stack.path("run/authd");
    mode(&run, 0o777);
    host.assert_found(2, &run, "chmod go-w");
    mode(&run, 0o755);

    mode(&host.pam, 0o666);
    host.assert_found(2, &host.pam, "chmod go-w");
    mode(&host.pam, 0o644);
    let service = fs::read_to_string(&host.pam).expect("the service file");
    fs::write(&host.pam, "auth required pam_deny.so\n").expect("our file");
    host.assert_found(2, &host.pam, "common-account");
    fs::write(&host.pam, service).expect("our file");

    certificates(&stack, &host);

    // A disk, a clock and strangers are in the table of the checks: no test takes those from a host.
    stack.stop(Program::Certd);
    let (code, findings) = host.examine();
    assert_eq!(code, Some(if findings.iter().any(|found| found["grade"] == "error") { 2 } else { 1 }));
    let place = stack.path("run/certd/certd.sock");
    assert!(
        findings.iter().any(|finding| finding["where"] == place.to_str().expect("UTF-8")),
        "{findings:#?}"
    );
    stack.start_again(Program::Certd);
    // A connection is no answer: where a service manager holds the socket, it succeeds with nobody behind it.
    stack.signal(Program::Authd, Signal::SIGSTOP);
    host.assert_found(2, &stack.path("run/authd/authd.sock"), "start the service");
    stack.signal(Program::Authd, Signal::SIGCONT);
    stack.stop(Program::Gateway);
    host.assert_found(2, &stack.path("run/gateway.sock"), "start");
    stack.start_again(Program::Gateway);
    assert_eq!(host.examine(), (Some(0), vec![]));
}

fn certificates(stack: &Stack, host: &Host) {
    let (key, other) = (Key::generate(Kind::P256), Key::generate(Kind::P256));
    let gateway = fs::read_to_string(host.path("gateway.toml")).expect("our file");
    let with = |certificate: &Path, key: &Path| {
        let mut table: toml::Table = gateway.parse().expect("TOML");
        let mut tls = toml::Table::new();
        tls.insert("certificate".into(), certificate.to_str().expect("UTF-8").into());
        tls.insert("key".into(), key.to_str().expect("UTF-8").into());
        table.insert("tls".into(), tls.into());
        host.write("gateway.toml", &table.to_string());
    };
    let (certificate, secret) = (host.path("cert.pem"), host.path("key.pem"));
    fs::write(&certificate, key.certificate()).expect("our file");
    fs::copy(key.private_path(), &secret).expect("our file");
    with(&certificate, &secret);
    // It holds for two days.
    mode(&secret, 0o640);
    chown(&secret, Some(0), Some(stack.gateway_uid())).expect("chown of our file");
    host.assert_found(1, &certificate, "renew it");
    mode(&secret, 0o600);
    host.assert_found(1, &secret, "chmod 640");
    fs::copy(other.private_path(), &secret).expect("our file");
    host.assert_found(2, &secret, "of one pair");
    fs::write(&certificate, "nothing").expect("our file");
    host.assert_found(2, &certificate, "PEM");
    host.write("gateway.toml", &gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_what_is_wrong_with_what_is_registered() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    stack.add_sysinfo();
    let host = Host::of(&stack);
    host.add_sysinfo(&stack);
    assert_eq!(host.examine(), (Some(0), vec![]));

    let file = stack.path("subsystems.d/sysinfo.toml");
    let socket = stack.path("run/sysinfo/sysinfo.sock");
    let registered = fs::read_to_string(&file).expect("registered");
    // Others could register what they like.
    let directory = stack.path("subsystems.d");
    mode(&file, 0o666);
    host.assert_found(2, &directory, "mend the file");
    mode(&file, 0o644);
    mode(&directory, 0o777);
    host.assert_found(2, &directory, "chmod go-w");
    mode(&directory, 0o755);

    // A file that says what is not so.
    stack.register_sysinfo("user = '1'");
    host.assert_found(2, &file, "user = ");
    stack.register_sysinfo(&format!("user = '{}'", stack.authd_uid()));
    host.assert_found(2, &file, "a user of its own");
    stack.register_sysinfo("namespace = 'rpc'");
    host.assert_found(2, &directory, "mend the file");
    fs::write(&file, &registered).expect("our file");

    // A socket that the gateway cannot use, or where somebody else could put another one.
    mode(&socket, 0o600);
    host.assert_found(2, &socket, "chmod 660");
    mode(&socket, 0o660);
    let run = stack.path("run/sysinfo");
    mode(&run, 0o777);
    host.assert_found(2, &run, "chmod go-w");
    mode(&run, 0o755);
    chown(&run, Some(stack.gateway_uid()), None).expect("chown of a directory");
    host.assert_found(2, &run, "chown root");
    chown(&run, Some(0), None).expect("chown of a directory");
    assert_eq!(host.examine(), (Some(0), vec![]));

    // One that does not run.
    stack.kill_sysinfo();
    host.assert_found(2, &socket, "start");
    stack.start_sysinfo_again();
    assert_eq!(host.examine(), (Some(0), vec![]));
}

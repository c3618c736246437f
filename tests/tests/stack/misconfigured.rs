//! A start with a misconfiguration fails closed, and says what is wrong, where, and what mends it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doorward_tests::keys::{Key, Kind};
use doorward_tests::{Client, Options, Pam, Program, Role, Stack, program, skip};

/// A service that is refused says so at once; one that starts after all does not end.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// Uids without an account.
const GATEWAY: u32 = 61_501;
const AUTHD: u32 = 61_502;
const CERTD: u32 = 61_503;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dwt").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod of our directory");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A good configuration of each service, before one thing is broken.
    fn table(&self, of: Program) -> toml::Table {
        let at = |name: &str| format!("{:?}", self.path(name).to_str().expect("UTF-8"));
        let text = match of {
            Program::Gateway => format!(
                "user = '{GATEWAY}'\nstate_dir = {}\n[listen]\ntls = ['127.0.0.1:0']\ntoken = []\nunix = {}\n\
                 [authd]\nsocket = {}\nuser = '{AUTHD}'\n[certd]\nsocket = ''\n",
                at("state"),
                at("run/g.sock"),
                at("run/a.sock"),
            ),
            Program::Authd => format!(
                "user = '{AUTHD}'\nstate_dir = {}\n[socket]\npath = {}\npeer_path = {}\nassertion_key = {}\n\
                 [peers]\ngateway = '{GATEWAY}'\n[certd]\nsocket = ''\n",
                at("state"),
                at("run/a.sock"),
                at("run/p.sock"),
                at("run/a.pub"),
            ),
            Program::Certd => format!(
                "user = '{CERTD}'\nstate_dir = {}\n[socket]\npath = {}\nauthd_path = {}\n\
                 [peers]\ngateway = '{GATEWAY}'\nauthd = '{AUTHD}'\n[assertion]\nkey = {}\n",
                at("state"),
                at("run/c.sock"),
                at("run/d.sock"),
                at("run/a.pub"),
            ),
            Program::Guard => panic!("it has no configuration file"),
        };
        text.parse().expect("TOML")
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.path("it.toml");
        fs::write(&path, text).expect("a file in our directory");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod of our file");
        path
    }

    /// What a start says that must be refused.
    fn refused(&self, of: Program, arguments: &[&str]) -> String {
        let config = self.path("it.toml");
        let said = self.path("said");
        let out = fs::File::create(&said).expect("a file in our directory");
        let mut child = Command::new(program(of))
            .args(arguments)
            .arg("-c")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second descriptor"))
            .stderr(out)
            .spawn()
            .expect("it runs");
        let until = Instant::now() + REFUSED_WITHIN;
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            if Instant::now() > until {
                child.kill().expect("a child of ours");
                child.wait().expect("a child of ours");
                panic!("{of:?} {arguments:?} started: {}", fs::read_to_string(&said).expect("our file"));
            }
            std::thread::yield_now();
        };
        let said = fs::read_to_string(&said).expect("our file");
        assert_eq!(status.code(), Some(1), "{of:?} {arguments:?}: {said}");
        said
    }
}

const ALL: [Program; 3] = [Program::Gateway, Program::Authd, Program::Certd];

#[test]
fn a_file_that_cannot_be_meant_is_refused_by_the_check_and_by_the_start() {
    for of in ALL {
        let place = Place::new();
        let good = place.table(of).to_string();
        let path = place.path("it.toml");
        let at = |line: usize| format!("{}:{line}: ", path.display());
        for (text, words) in [
            (format!("colour = 1\n{good}"), vec![at(1), "unknown field `colour`".to_owned()]),
            (format!("{good}\n[lgo]\n"), vec![path.display().to_string(), "unknown field `lgo`".to_owned()]),
            (format!("user = \"{good}"), vec![at(1)]),
            (good.replace("state_dir = \"", "state_dir = 7 # \""), vec![path.display().to_string()]),
        ] {
            place.write(&text);
            for arguments in [["--check-config"], ["-f"]] {
                let said = place.refused(of, &arguments);
                assert!(words.iter().all(|word| said.contains(word)), "{of:?} {words:?}: {said}");
            }
        }
        place.write(&good);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod of our file");
        for arguments in [["--check-config"], ["-f"]] {
            let said = place.refused(of, &arguments);
            assert!(said.contains(&format!("chmod go-w {}", path.display())), "{said}");
        }
        if skip::root("a file of somebody else") {
            place.write(&good);
            chown(&path, Some(GATEWAY), None).expect("chown of our file");
            let said = place.refused(of, &["--check-config"]);
            assert!(said.contains(&format!("chown 0 {}", path.display())), "{said}");
        }
        assert!(!place.path("state").exists() && !place.path("run").exists(), "nothing was made");
    }
}

#[test]
fn users_that_are_not_there_or_must_not_be_are_refused() {
    if !skip::root("the user of a service") {
        return;
    }
    let users: [(Program, &[&str]); 3] = [
        (Program::Gateway, &["user", "authd.user"]),
        (Program::Authd, &["user", "peers.gateway"]),
        (Program::Certd, &["user", "peers.gateway", "peers.authd"]),
    ];
    for (of, keys) in users {
        for key in keys {
            let place = Place::new();
            let mut table = place.table(of);
            set(&mut table, key, "no-such-user");
            place.write(&table.to_string());
            let said = place.refused(of, &["-f"]);
            assert!(said.contains("useradd --system no-such-user"), "{of:?} {key}: {said}");
            if *key == "user" || of != Program::Gateway {
                set(&mut table, key, "root");
                place.write(&table.to_string());
                let said = place.refused(of, &["-f"]);
                assert!(
                    said.contains("root") && said.contains(&format!(": {key}: ")),
                    "{of:?} {key}: {said}"
                );
            }
        }
    }
}

#[test]
fn directories_of_somebody_else_are_refused() {
    if !skip::root("directories of others") {
        return;
    }
    for of in ALL {
        let place = Place::new();
        place.write(&place.table(of).to_string());
        let state = place.path("state");
        fs::create_dir(&state).expect("a directory in ours");
        let said = place.refused(of, &["-f"]);
        assert!(said.contains("chown") && said.contains(&state.display().to_string()), "{of:?}: {said}");
        let own = match of {
            Program::Gateway => GATEWAY,
            Program::Authd => AUTHD,
            _ => CERTD,
        };
        chown(&state, Some(own), Some(own)).expect("chown of our directory");
        fs::set_permissions(&state, Permissions::from_mode(0o755)).expect("chmod of our directory");
        let said = place.refused(of, &["-f"]);
        assert!(said.contains(&format!("chmod 700 {}", state.display())), "{of:?}: {said}");
        fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("chmod of our directory");
        let run = place.path("run");
        fs::create_dir(&run).expect("a directory in ours");
        fs::set_permissions(&run, Permissions::from_mode(0o777)).expect("chmod of our directory");
        let said = place.refused(of, &["-f"]);
        assert!(said.contains(&format!("chmod go-w {}", run.display())), "{of:?}: {said}");
    }
}

#[test]
fn a_tls_key_that_is_none_or_of_another_certificate_is_refused() {
    if !skip::root("a gateway that becomes another user") {
        return;
    }
    let (key, other) = (Key::generate(Kind::P256), Key::generate(Kind::P256));
    let certificate = key.certificate();
    let read = |path: PathBuf| fs::read_to_string(path).expect("a key");
    let (fitting, foreign) = (read(key.private_path()), read(other.private_path()));
    let none = String::new();
    for (cert, secret, mode, words) in [
        (&certificate, &foreign, 0o600, ["is not the key of", "name those of one pair"]),
        (&certificate, &none, 0o600, ["key.pem holds no PEM private key", ""]),
        (&none, &fitting, 0o600, ["cert.pem holds no PEM certificate", "name the file of the chain"]),
        (&certificate, &fitting, 0o644, ["others can read the key", "chmod o="]),
        (&certificate, &fitting, 0o620, ["others can write", "chmod go-w"]),
    ] {
        let place = Place::new();
        fs::write(place.path("cert.pem"), cert).expect("our file");
        fs::write(place.path("key.pem"), secret).expect("our file");
        fs::set_permissions(place.path("key.pem"), Permissions::from_mode(mode)).expect("chmod of our file");
        let mut table = place.table(Program::Gateway);
        set(&mut table, "tls.certificate", place.path("cert.pem").to_str().expect("UTF-8"));
        set(&mut table, "tls.key", place.path("key.pem").to_str().expect("UTF-8"));
        place.write(&table.to_string());
        let said = place.refused(Program::Gateway, &["-f"]);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_pam_service_or_its_groups_nobody_logs_in() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let service = fs::read_to_string(stack.pam_service()).expect("the service file");
    fs::remove_file(stack.pam_service()).expect("a file of ours");
    let mut client = Client::tls(&stack).await;
    assert_eq!(client.login(stack.person(Role::Full)).await, Err(503));
    let path = stack.pam_service().to_string_lossy().into_owned();
    stack.await_log(Program::Guard, &[&path, "there is no such file; put doorward's service file there"]);
    stack.await_log(Program::Authd, &["the PAM service file is missing", "the guard's log says which"]);
    restore(&stack.pam_service(), &service);
    client.login(stack.person(Role::Full)).await.expect("it is back");
    client.close().await;

    stack.stop(Program::Authd);
    for key in ["access.full_groups", "access.limited_groups"] {
        stack.set(Program::Authd, key, vec!["no-such-group".to_owned()]);
    }
    stack.start_again(Program::Authd);
    stack.await_log(Program::Authd, &["none of the access groups exists", "groupadd"]);
    let mut client = Client::tls(&stack).await;
    loop {
        match client.login(stack.person(Role::Full)).await {
            Err(401) => break,
            // The gateway has not found authd again yet.
            Err(503) => {}
            other => panic!("{other:?}"),
        }
    }
    client.close().await;
}

fn restore(path: &Path, text: &str) {
    fs::write(path, text).expect("a file of ours");
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("chmod of our file");
}

fn set(table: &mut toml::Table, key: &str, value: &str) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value.into())),
        Some((section, name)) => {
            let inner = table.entry(section).or_insert_with(|| toml::Table::new().into());
            inner.as_table_mut().expect("a table").insert(name.to_owned(), value.into());
        }
    }
}

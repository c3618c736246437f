//! SIGKILL at named points of a registration's and a revocation's way to disk: what was acknowledged is
//! there, what was not is there whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use doorward_certd::registry::{Point, Watch};
use doorward_proto::certd::v1::registry_client::RegistryClient;
use tokio::task::JoinSet;
use tonic::Code;

use crate::fixture::{Authd, Gateway, PATIENCE, claims, code, connect, long, registration, serve_in};
use crate::store::open_registry;

/// The child's directory, the point at which it ends, and how often it passes that point before.
const DIRECTORY: &str = "DOORWARD_CERTD_TEST_DIRECTORY";
const POINT: &str = "DOORWARD_CERTD_TEST_POINT";
const PASSES: &str = "DOORWARD_CERTD_TEST_PASSES";

const UNPROVEN: &str = "[policy]\nrequire_key_possession = false\n\
                        [limits]\nkeys_per_user = 1000\nrefusal_step_ms = 1\n";
const READY: &str = "this certd is ready";

/// Not a test: the certd that the tests below start as a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let point = std::env::var(POINT).unwrap_or_default();
    let mut left: usize = std::env::var(PASSES).map_or(0, |count| count.parse().expect("a number"));
    let watch = Watch::by(move |at| {
        if format!("{at:?}") == point {
            if left == 0 {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("killed");
            }
            left = left.saturating_sub(1);
        }
    });
    let (_control, serving) = serve_in(&directory, UNPROVEN, watch).await;
    println!("{READY}");
    serving.await.expect("no panic");
}

/// A certd in a process of its own.
pub struct Certd {
    pub process: Child,
}

impl Certd {
    /// Started through `wrapper`, a shell script that gets the command line as its arguments.
    pub fn start(directory: &Path, wrapper: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", wrapper, "sh"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash::child", "--nocapture"])
            .env(DIRECTORY, directory)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().expect("started");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let ready = lines.any(|line| line.expect("text").contains(READY));
        if !ready {
            let _ = process.kill();
            panic!("certd did not start: {:?}", process.wait());
        }
        // The rest of its output is read by nobody; there is none.
        Self { process }
    }
}

impl Drop for Certd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A new Ed25519 key, DER.
pub fn new_key() -> Vec<u8> {
    let pair = Ed25519KeyPair::generate().expect("a key");
    [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", pair.public_key().as_ref()].concat()
}

#[derive(Default)]
struct Known {
    /// Acknowledged.
    registered: BTreeSet<Vec<u8>>,
    revoked: BTreeSet<Vec<u8>>,
    /// Asked for, not acknowledged.
    open: BTreeSet<Vec<u8>>,
}

/// Registers and revokes until the connection breaks.
async fn work(mut gateway: Gateway, assertion: String) -> Known {
    let mut known = Known::default();
    for round in 0.. {
        let key = new_key();
        match code(&gateway.register(registration(assertion.clone(), key.clone())).await) {
            Code::Ok => known.registered.insert(key.clone()),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {
                known.open.insert(key);
                return known;
            }
            other => panic!("register: {other:?}"),
        };
        if round % 2 == 1 {
            let result = gateway.revoke(assertion.clone(), key.clone(), "").await;
            known.registered.remove(&key);
            match code(&result) {
                Code::Ok => known.revoked.insert(key),
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {
                    known.open.insert(key);
                    return known;
                }
                other => panic!("revoke: {other:?}"),
            };
        }
    }
    known
}

async fn kill_at(point: Point, passes: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authd = Authd::new();
    std::fs::write(directory.path().join("assertion.pub"), &authd.pem).expect("written");
    let environment = [(POINT, format!("{point:?}")), (PASSES, passes.to_string())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut certd = Certd::start(directory.path(), "exec \"$@\"", &environment);

    // All connect first: the first registration may be the one that ends it.
    let mut gateways = Vec::new();
    for _ in 0..8 {
        let channel = connect(directory.path().join("certd.sock")).await.expect("connected");
        gateways.push(Gateway { registry: RegistryClient::new(channel) });
    }
    let mut workers = JoinSet::new();
    for (number, gateway) in gateways.into_iter().enumerate() {
        workers.spawn(work(gateway, authd.sign(&claims(&format!("user{number}")))));
    }
    let known = tokio::time::timeout(PATIENCE, workers.join_all()).await.expect("it kills itself");
    let status = certd.process.wait().expect("ended");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{point:?}");

    let registry = open_registry(&directory.path().join("state")).expect("loadable, whatever was under way");
    let mut found = BTreeMap::new();
    let mut after = 0;
    while let (page, Some(next)) = registry.export(after).await.expect("readable") {
        for entry in page {
            assert!(found.insert(entry.key, entry.revoked.is_some()).is_none(), "one entry for a key");
        }
        after = next;
    }
    for known in &known {
        for key in &known.registered {
            assert_eq!(found.remove(key), Some(false), "{point:?}: a registration was lost");
        }
        for key in &known.revoked {
            // Old history of a user is forgotten; what is left must be revoked.
            assert_ne!(found.remove(key), Some(false), "{point:?}: a revocation was lost");
        }
        for key in &known.open {
            found.remove(key);
        }
    }
    assert!(found.is_empty(), "{point:?}: {} keys that nobody registered", found.len());
    tokio::task::spawn_blocking(move || registry.close()).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9_at_every_point() {
    let rounds = if long() { 12 } else { 3 };
    for point in [Point::Begun, Point::Applied, Point::Committed, Point::Answered] {
        for round in 0..rounds {
            kill_at(point, round * 37).await;
        }
    }
}

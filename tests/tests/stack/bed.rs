//! What the points share: a stack, all that its clients were told, and how to look whether it is still so.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_tests::client::{PATIENCE, token_of};
use doorward_tests::keys::Quick;
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, secrets, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::{listed, log_in_with, register, revoke};

/// A service is ready again within this; the promise is one second, the rest is a busy machine's.
const BACK: Duration = Duration::from_secs(15);
/// So long after that until everything works again.
const WORKS: Duration = Duration::from_secs(10);
/// No client waits longer when what it waits for is killed.
pub(super) const ANSWERED: Duration = Duration::from_secs(15);
/// So many of each are remembered; what is older is ended.
const REMEMBERED: usize = 6;

pub(super) struct Bed {
    pub(super) stack: Stack,
    at: String,
    back_after: Duration,
    /// What was acknowledged.
    live: VecDeque<String>,
    ended: VecDeque<String>,
    keys: VecDeque<Arc<Quick>>,
    revoked: VecDeque<Arc<Quick>>,
    penalised: VecDeque<String>,
    /// The names of all sockets and files in the directories of sockets, and of what is not whole elsewhere.
    names: BTreeSet<String>,
    strangers: u32,
}

impl Bed {
    /// Real accounts and uids where there is root, everything under one uid where not.
    pub(super) async fn start() -> Option<Self> {
        let pam = if skip::is_root() { Pam::Real } else { Pam::Wrapper };
        let proxy = format!("uid:{}", rustix::process::geteuid().as_raw());
        let options = Options::new(pam)
            .authd("sessions.per_user", 10_000)
            .authd("pam.conversations", 64)
            .authd("pam.per_source", 16)
            .authd("pam.per_account", 16)
            .authd("penalty.failures", 1)
            .authd("penalty.first_seconds", 3_600)
            .certd("limits.keys_per_user", 1_000)
            .gateway("http.trusted_proxies", vec![proxy]);
        let stack = Stack::start(&options)?;
        let mut bed = Self {
            names: names(&stack),
            stack,
            at: String::new(),
            back_after: Duration::ZERO,
            live: VecDeque::new(),
            ended: VecDeque::new(),
            keys: VecDeque::new(),
            revoked: VecDeque::new(),
            penalised: VecDeque::new(),
            strangers: 0,
        };
        // Something to lose from the first point on.
        let (mut client, _) = bed.enter(Role::Limited).await;
        bed.key(&mut client).await;
        client.close().await;
        let mut guesser = bed.stranger().await;
        bed.guess(&mut guesser).await;
        Some(bed)
    }

    pub(super) fn at(&mut self, point: String) {
        self.at = point;
        self.back_after = Duration::ZERO;
    }

    pub(super) fn back_after(&self) -> Duration {
        self.back_after
    }

    /// A client from an address that nobody else has: failures of the one are not those of another.
    pub(super) async fn stranger(&mut self) -> Client {
        self.strangers += 1;
        Client::unix_from(&self.stack, &self.address()).await.expect("a connection")
    }

    fn address(&self) -> String {
        format!("2001:db8:{:x}:{:x}::1", self.strangers >> 16, self.strangers & 0xffff)
    }

    /// Somebody who is logged in, without a password where that can be had, and the token.
    pub(super) async fn enter(&mut self, role: Role) -> (Client, String) {
        let person = self.stack.person(role).clone();
        let (client, token) = if skip::is_root() {
            let mut client = Client::unix_as(&self.stack, person.uid).await;
            let args = client.ask("rpc/auth", json!({})).await.expect("a login without a password");
            (client, token_of(&args))
        } else {
            let mut client = self.stranger().await;
            let token = client.login(&person).await.expect("a login");
            (client, token)
        };
        self.lives(&token).await;
        (client, token)
    }

    /// The client was told this token.
    pub(super) async fn lives(&mut self, token: &str) {
        self.live.push_back(token.to_owned());
        if self.live.len() > REMEMBERED
            && let Some(oldest) = self.live.pop_front()
        {
            let mut client = Client::unix(&self.stack).await;
            if client.ask("rpc/auth_token", json!({"token": oldest})).await.is_ok() {
                client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
                self.has_ended(&oldest);
            }
            client.close().await;
        }
    }

    /// A client was told that it has.
    pub(super) fn has_ended(&mut self, token: &str) {
        self.live.retain(|known| known != token);
        self.ended.push_back(token.to_owned());
        self.ended.keep_last(REMEMBERED);
    }

    /// A client was told neither: whatever it is, it is the same for everybody, after the restart.
    pub(super) fn may_have_ended(&mut self, token: &str) {
        self.live.retain(|known| known != token);
    }

    /// Registers a new key for whoever is logged in on this connection.
    pub(super) async fn key(&mut self, client: &mut Client) -> Arc<Quick> {
        let key = Arc::new(Quick::generate());
        register(client, &key, "").await.expect("a registration");
        self.is_registered(Arc::clone(&key));
        key
    }

    pub(super) fn is_registered(&mut self, key: Arc<Quick>) {
        self.keys.push_back(key);
    }

    pub(super) fn is_revoked(&mut self, key: &Arc<Quick>) {
        self.keys.retain(|known| !Arc::ptr_eq(known, key));
        self.revoked.push_back(Arc::clone(key));
        self.revoked.keep_last(REMEMBERED);
    }

    /// A guess, which brings its source a penalty at once.
    pub(super) async fn guess(&mut self, client: &mut Client) {
        let user = self.stack.person(Role::Code).name.clone();
        let args = json!({"username": user, "password": secrets::register("not the password")});
        assert_eq!(client.ask("rpc/auth", args).await, Err(401));
        let address = self.address();
        self.penalised.push_back(address);
        self.penalised.keep_last(REMEMBERED);
        // A kill may undo what was counted in the last half second, no more.
        let database = self.stack.path("state/authd/penalties.sqlite");
        let source = self.source();
        let written = spawn_blocking(move || {
            spin("a penalty on disk", || doorward_tests::wal::database_has(&database, &source));
        });
        written.await.expect("it is written");
    }

    /// The last stranger's source as the file of penalties has it: the first 64 bits of the address.
    pub(super) fn source(&self) -> Vec<u8> {
        let address: std::net::Ipv6Addr = self.address().parse().expect("an address");
        [b"6", &address.octets()[..8]].concat()
    }

    pub(super) fn pid(&self, program: Program) -> Pid {
        Pid::from_raw(self.stack.pid(program).try_into().expect("a pid"))
    }

    /// Stops a program in its tracks as soon as it is so.
    pub(super) fn freeze(&self, program: Program, so: impl Fn() -> bool + Send + 'static) -> JoinHandle<()> {
        let pid = self.pid(program);
        spawn_blocking(move || {
            spin("sign", so);
            kill(pid, Signal::SIGSTOP).expect("it runs");
        })
    }

    pub(super) fn thaw(&self, program: Program) {
        self.stack.signal(program, Signal::SIGCONT);
    }

    /// Whether this path names something else than now.
    pub(super) fn anew(&self, name: &str) -> impl Fn() -> bool + use<> {
        let path = self.stack.path(name);
        let inode = move || fs::metadata(&path).ok().map(|found| (found.ino(), found.ctime_nsec()));
        let before = inode();
        move || inode().is_some_and(|now| Some(now) != before)
    }

    /// Kills it (which it may be already), looks at who is left, starts it again.
    pub(super) async fn again(&mut self, program: Program) {
        self.stack.kill(program);
        self.meanwhile(program).await;
        let began = Instant::now();
        self.stack.start_again(program);
        self.back_after = self.back_after.max(began.elapsed());
        assert!(self.back_after < BACK, "{}: back after {:?}", self.at, self.back_after);
    }

    /// Those who are left say clearly what they cannot do, and let nobody in instead.
    async fn meanwhile(&mut self, killed: Program) {
        let at = self.at.clone();
        if killed == Program::Gateway {
            let refused = Client::unix_from(&self.stack, "2001:db8:ffff::1").await;
            assert!(refused.is_err(), "{at}: somebody listens in the gateway's place");
            return;
        }
        let mut client = self.stranger().await;
        client.ask("rpc/identify", json!({})).await.expect("it needs nobody");
        assert_eq!(client.ask("rpc/query", json!({})).await, Err(401), "{at}");
        let asked = Instant::now();
        match killed {
            Program::Authd => {
                let token = self.live.back().expect("some").clone();
                let refused = client.ask("rpc/auth_token", json!({"token": token})).await;
                assert!(matches!(refused, Err(503 | 408)), "{at}: {refused:?}");
            }
            Program::Certd => {
                assert_eq!(client.ask("rpc/auth_ssl", json!("")).await, Err(503), "{at}");
                let token = self.live.back().expect("some").clone();
                client.ask("rpc/auth_token", json!({"token": token})).await.expect("it does without certd");
            }
            Program::Guard => {
                assert_eq!(client.login(self.stack.person(Role::Code)).await, Err(503), "{at}");
                let token = self.live.back().expect("some").clone();
                client.ask("rpc/auth_token", json!({"token": token})).await.expect("it does without PAM");
            }
            Program::Gateway => {}
        }
        assert!(asked.elapsed() < ANSWERED, "{at}: {:?}", asked.elapsed());
        client.close().await;
    }

    /// What must be so after every point.
    pub(super) async fn holds(&mut self) {
        let at = self.at.clone();
        assert!(self.stack.runs(), "{at}: one more has ended");
        let deadline = Instant::now() + WORKS;
        for (tokens, valid) in [(&self.live, true), (&self.ended, false)] {
            for token in tokens {
                let opens = taken_up(&self.stack, token, deadline).await;
                assert_eq!(opens, valid, "{at}: a session that {}", if valid { "lives" } else { "ended" });
            }
        }
        // Full access sees all keys. A client that is new: nothing of what it does was cached before.
        let (mut boss, _) = self.enter(Role::Full).await;
        // The gateway must hear of ended sessions again first.
        assert_eq!(settled(&mut boss).await, Some(true), "{at}");
        let there = listed(&mut boss).await;
        boss.close().await;
        for key in &self.keys {
            assert!(there.contains_key(&key.packed()), "{at}: a registered key is lost");
        }
        for key in &self.revoked {
            assert!(!there.contains_key(&key.packed()), "{at}: a revoked key is back");
        }
        let key = Arc::clone(self.keys.back().expect("some"));
        let (mut client, token) = loop {
            // authd must hear of revocations again first.
            let mut client = self.stranger().await;
            match log_in_with(&mut client, &key).await {
                Ok(token) => break (client, token),
                Err(503) if Instant::now() < deadline => {}
                Err(code) => panic!("{at}: a registered key does not open the door: {code}"),
            }
        };
        client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        self.has_ended(&token);
        if let Some(key) = self.revoked.back().cloned() {
            assert_eq!(log_in_with(&mut self.stranger().await, &key).await, Err(401), "{at}: a revoked key");
        }
        self.nobody_comes_in().await;
        // Password, conversation, verdict: the whole way.
        let mut client = self.stranger().await;
        let person = self.stack.person(Role::Stdout).clone();
        client.login(&person).await.unwrap_or_else(|code| panic!("{at}: no login by password: {code}"));
        client.ask("rpc/auth_clear", json!({"reply": true})).await.expect("its end");
        client.close().await;
        self.stack.await_no_conversations(ANSWERED);
        assert_eq!(names(&self.stack), self.names, "{at}: left behind, or missing");
        self.forget().await;
    }

    async fn nobody_comes_in(&mut self) {
        let at = self.at.clone();
        let mut client = self.stranger().await;
        assert_eq!(client.ask("rpc/query", json!({})).await, Err(401), "{at}");
        let token = "0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11";
        assert_eq!(client.ask("rpc/auth_token", json!({"token": token})).await, Err(401), "{at}");
        client.close().await;
        let penalised = self.penalised.back().expect("one").clone();
        // The gateway may not have heard of it yet; authd knows.
        if let Ok(mut client) = Client::unix_from(&self.stack, &penalised).await {
            let person = self.stack.person(Role::Stdout);
            assert_eq!(client.login(person).await, Err(403), "{at}: the penalty is forgiven");
        }
    }

    /// Keys are few: those of long ago are revoked.
    async fn forget(&mut self) {
        if self.keys.len() <= REMEMBERED {
            return;
        }
        let (mut client, _) = self.enter(Role::Limited).await;
        while self.keys.len() > REMEMBERED / 2 {
            let Some(key) = self.keys.front().cloned() else { break };
            revoke(&mut client, &key).await.expect("one's own key");
            self.is_revoked(&key);
        }
        client.close().await;
    }
}

/// Whether a token opens its session, asked until somebody can say.
pub(super) async fn taken_up(stack: &Stack, token: &str, deadline: Instant) -> bool {
    let mut client = Client::unix(stack).await;
    let opens = loop {
        match client.ask("rpc/auth_token", json!({"token": token})).await {
            Ok(_) => break true,
            Err(401) => break false,
            Err(503 | 408) if Instant::now() < deadline => {}
            Err(code) => panic!("nobody can say: {code}"),
        }
    };
    client.close().await;
    opens
}

/// Asks until the session of this connection is said to be there, or not to be.
pub(super) async fn settled(client: &mut Client) -> Option<bool> {
    let deadline = Instant::now() + WORKS;
    loop {
        // An end that is told closes the connection, at any moment.
        client.try_request("rpc/query", json!({})).await.ok()?;
        let reply = loop {
            match client.receive().await {
                Received::Json(reply) if reply["namespace"] == "events" => {}
                Received::Json(reply) => break reply,
                Received::Closed(_) => return None,
            }
        };
        match doorward_tests::client::outcome(&reply) {
            Ok(_) => return Some(true),
            Err(401) => return Some(false),
            Err(code) => assert!(matches!(code, 503 | 408) && Instant::now() < deadline, "{code}"),
        }
    }
}

/// One answer to each of so many requests, none twice; after a while all are there or the connection is closed.
pub(super) async fn answers(client: &mut Client, mut open: BTreeSet<String>) -> Vec<Value> {
    let mut all = Vec::new();
    while !open.is_empty() {
        let Received::Json(reply) = client.receive_within(PATIENCE).await.expect("an answer or an end")
        else {
            return all;
        };
        let id = reply["id"].as_str().expect("an id");
        assert!(open.remove(id), "answered twice: {reply}");
        all.push(reply);
    }
    all
}

/// Asks again and again, without a pause.
fn spin(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::yield_now();
    }
}

fn names(stack: &Stack) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for directory in ["run", "run/pam", "run/authd", "run/certd"] {
        for entry in fs::read_dir(stack.path(directory)).expect("a directory of ours") {
            let path = entry.expect("a name").path();
            all.insert(path.strip_prefix(stack.path("")).unwrap_or(&path).display().to_string());
        }
    }
    // Where files come and go, but none that is not whole.
    for directory in ["state/authd", "state/certd", "state/gateway"] {
        let entries = fs::read_dir(stack.path(directory)).expect("a directory of ours").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        all.extend(names.filter(|name| name.starts_with('.')));
    }
    all
}

/// What a file says behind this point of it.
pub(super) fn tail(path: &Path, from: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let from = usize::try_from(from).expect("a file that fits");
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}

trait KeepLast {
    fn keep_last(&mut self, most: usize);
}

impl<T> KeepLast for VecDeque<T> {
    fn keep_last(&mut self, most: usize) {
        while self.len() > most {
            self.pop_front();
        }
    }
}

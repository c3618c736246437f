//! A subsystem in a temporary directory, and an authd that signs whatever a test wants to be.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use doorward_launch::audit::Place;
use doorward_launch::{Audit, Identity};
use doorward_proto::subsystem::v1::{self as wire, subsystem_client::SubsystemClient};
use doorward_subsystem::{Action, Call, Ended, Failure, Peers, Progress, Publisher, Subsystem, serve};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("in range")
}

/// authd's signature.
pub struct Authd {
    pub key: EncodingKey,
    pub public: Vec<u8>,
    pub pem: String,
    audience: String,
    signed: AtomicUsize,
}

impl Authd {
    /// One that signs for this subsystem.
    pub fn new(audience: &str) -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let public = pair.public_key().as_ref().to_vec();
        let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", public.as_slice()].concat();
        let body = STANDARD.encode(spki);
        Self {
            key: EncodingKey::from_ed_der(pair.to_pkcs8().expect("encoded").as_ref()),
            public,
            pem: format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"),
            audience: audience.to_owned(),
            signed: AtomicUsize::new(0),
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.key).expect("signed")
    }

    /// What authd says of alice, who may do everything here; each time under another name.
    pub fn claims(&self) -> Value {
        let number = self.signed.fetch_add(1, Ordering::SeqCst);
        json!({
            "iss": "doorward-authd", "aud": self.audience, "sub": "alice", "uid": 1000, "auth_id": "1000",
            "access": "limited", "acl": [format!("sysadm.{}.#", self.audience.replace('/', "."))], "sid": "session-alice", "method": "password",
            "auth_time": now(), "iat": now(), "exp": now() + 60, "jti": format!("jti-{number}"),
        })
    }

    pub fn with(&self, changes: Value) -> String {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        self.sign(&claims)
    }

    pub fn fresh(&self) -> String {
        self.sign(&self.claims())
    }

    /// Assertions that nobody may believe, and what is wrong with each.
    pub fn forgeries(&self) -> Vec<(&'static str, String)> {
        let other = Authd::new(&self.audience);
        let good = self.fresh();
        let mut parts = good.split('.').skip(1);
        let (body, signature) = (parts.next().expect("a body"), parts.next().expect("a signature"));
        let head = |alg: &str| URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "typ": "JWT" }).to_string());
        let by_secret = |secret: &[u8]| {
            let key = EncodingKey::from_secret(secret);
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &self.claims(), &key).expect("signed")
        };
        vec![
            ("expired", self.with(json!({ "iat": now() - 60, "exp": now() }))),
            ("not yet valid", self.with(json!({ "iat": now() + 30, "exp": now() + 60 }))),
            ("valid for too long", self.with(json!({ "exp": now() + 3_600 }))),
            ("for certd", self.with(json!({ "aud": "certd" }))),
            ("for another subsystem", self.with(json!({ "aud": format!("{}s", self.audience) }))),
            ("in other letters", self.with(json!({ "aud": self.audience.to_uppercase() }))),
            ("of another issuer", self.with(json!({ "iss": "doorward-gateway" }))),
            ("without a name", self.with(json!({ "jti": null }))),
            ("without an end", self.with(json!({ "exp": null }))),
            ("without an audience", self.with(json!({ "aud": null }))),
            ("of a user with a slash", self.with(json!({ "sub": "../root" }))),
            ("of nobody with a uid", self.with(json!({ "uid": null }))),
            ("with another key", other.fresh()),
            ("with no algorithm", format!("{}.{body}.", head("none"))),
            ("with the key as a secret", by_secret(&self.public)),
            ("with the key's file as a secret", by_secret(self.pem.as_bytes())),
            ("with another header", format!("{}.{body}.{signature}", head("HS256"))),
            ("cut", good[..good.len() - 2].to_owned()),
            ("empty", String::new()),
            ("too long", "x".repeat(20_000)),
            ("nested", format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode("[".repeat(9_000)))),
        ]
    }
}

/// What handlers did.
#[derive(Clone)]
pub struct Done {
    pub writes: Arc<AtomicUsize>,
    told: mpsc::UnboundedSender<&'static str>,
}

/// Tells of its end, however it ends.
struct Tells(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

fn subsystem(done: &Done) -> Subsystem {
    let at = || done.clone();
    let (add, hang, thread, long, telling) = (at(), at(), at(), at(), at());
    let schema = json!({
        "type": "object", "properties": { "note": { "type": "string", "maxLength": 5 } },
        "required": ["note"], "additionalProperties": false,
    });
    Subsystem::new("test", "stage", "1.0", "For tests")
        .action(Action::read("echo", "Its args", async |call: Call, args: Value| {
            Ok::<_, Failure>(json!({ "args": args, "user": call.caller().user }))
        }))
        .action(
            Action::write("add", "Counts", move |_: Call, _: Value| {
                let count = add.writes.fetch_add(1, Ordering::SeqCst) + 1;
                async move { Ok::<_, Failure>(count) }
            })
            .args(schema),
        )
        .action(Action::read("fail", "Fails so", async |_: Call, sentence: String| {
            Err::<(), _>(match sentence.as_str() {
                "args" => Failure::bad_args("the note is bad"),
                "gone" => Failure::not_found("no such note"),
                _ => Failure::fault("secret words"),
            })
        }))
        .action(Action::read("panic", "Panics", async |_: Call, args: Value| {
            assert!(args.is_null(), "a defect");
            Ok::<_, Failure>(())
        }))
        .action(Action::read("large", "A large result", async |_: Call, size: usize| {
            Ok::<_, Failure>("x".repeat(size))
        }))
        .action(Action::write("hang", "Never ends", move |_: Call, _: Value| {
            let told = hang.told.clone();
            async move {
                let _tells = Tells(told.clone(), "dropped");
                let _ = told.send("began");
                std::future::pending::<Result<(), Failure>>().await
            }
        }))
        .action(Action::read("thread", "Blocks until nobody waits", move |call: Call, _: Value| {
            let told = thread.told.clone();
            async move {
                let work = move |ended: &Ended| {
                    let _ = told.send("began");
                    while !ended.is_cancelled() {
                        std::thread::yield_now();
                    }
                    let _ = told.send("seen");
                    Ok(())
                };
                call.blocking(work).await
            }
        }))
        .action(Action::read_long("count", "Counts up", async |_: Call, to: u32, progress: Progress| {
            for number in 0..to {
                progress.send(&json!({ "at": number })).await?;
            }
            Ok::<_, Failure>(to)
        }))
        .action(Action::write_long(
            "hang-long",
            "Never ends",
            move |_: Call, _: Value, progress: Progress| {
                let told = long.told.clone();
                async move {
                    let _tells = Tells(told, "dropped");
                    progress.send(&"began").await?;
                    std::future::pending::<Result<(), Failure>>().await
                }
            },
        ))
        .action(Action::read_long(
            "thread-long",
            "Tells from a thread until nobody listens",
            move |call: Call, _: Value, progress: Progress| {
                let told = telling.told.clone();
                async move {
                    let work = move |_: &Ended| {
                        let part = "x".repeat(60_000);
                        while progress.send_blocking(&part).is_ok() {}
                        let _ = told.send("seen");
                        Ok(())
                    };
                    call.blocking(work).await
                }
            },
        ))
        .event("noted", "Something was noted")
}

pub struct Stage {
    pub authd: Authd,
    pub client: SubsystemClient<Channel>,
    pub publisher: Publisher,
    pub writes: Arc<AtomicUsize>,
    told: mpsc::UnboundedReceiver<&'static str>,
    directory: tempfile::TempDir,
    stop: Ended,
    serving: JoinHandle<()>,
}

pub async fn connect(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://subsystem").connect_with_connector(connector).await
}

/// A subsystem, and a gateway's connection to it.
pub async fn start() -> Stage {
    let own = Identity::current().uid;
    start_for(own).await
}

/// One whose gateway is this uid.
pub async fn start_for(gateway: u32) -> Stage {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authd = Authd::new("test/stage");
    let key = directory.path().join("assertion.pub");
    fs::write(&key, &authd.pem).expect("written");
    let listener = UnixListener::bind(directory.path().join("socket")).expect("bound");
    let place = Place { file: directory.path().join("audit.jsonl"), required: false };
    let audit = Audit::open("stage", &place).expect("opened");
    let (tell, told) = mpsc::unbounded_channel();
    let done = Done { writes: Arc::default(), told: tell };
    let subsystem = subsystem(&done);
    let publisher = subsystem.publisher();
    let peers = Peers { gateway, authd: Identity::current().uid, key };
    let stop = Ended::new();
    let served = serve(subsystem, listener, peers, audit, true, stop.clone());
    let serving = tokio::spawn(async move { served.await.expect("stops when it is asked to") });
    let channel = connect(directory.path().join("socket")).await.expect("connected");
    let client = SubsystemClient::new(channel);
    // It answers when the second of its start is over; to a stranger it says no.
    let _ = timeout(PATIENCE, client.clone().describe(wire::DescribeRequest {})).await.expect("in time");
    Stage { authd, client, publisher, writes: done.writes, told, directory, stop, serving }
}

impl Stage {
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn request(&self, assertion: String, action: &str, args: &[u8]) -> wire::CallRequest {
        wire::CallRequest {
            assertion,
            action: action.to_owned(),
            args: args.to_vec(),
            request_id: "request-7".to_owned(),
            deadline_ms: 20_000,
        }
    }

    /// The result, or the code and the message.
    pub async fn send(&self, request: wire::CallRequest) -> Result<Value, (u32, String)> {
        use wire::call_reply::Outcome;
        let reply = timeout(PATIENCE, self.client.clone().call(request)).await.expect("an answer in time");
        match reply.expect("a reply").into_inner().outcome.expect("an outcome") {
            Outcome::Result(result) => Ok(serde_json::from_slice(&result).expect("JSON")),
            Outcome::Failure(failure) => Err((failure.code, failure.message)),
        }
    }

    pub async fn call_as(
        &self,
        assertion: String,
        action: &str,
        args: Value,
    ) -> Result<Value, (u32, String)> {
        self.send(self.request(assertion, action, args.to_string().as_bytes())).await
    }

    pub async fn call(&self, action: &str, args: Value) -> Result<Value, (u32, String)> {
        self.call_as(self.authd.fresh(), action, args).await
    }

    /// What a handler tells next.
    pub async fn told(&mut self) -> &'static str {
        timeout(PATIENCE, self.told.recv()).await.expect("told in time").expect("told")
    }

    /// The audit records, with these fields of each.
    pub fn records(&self, fields: &[&str]) -> Vec<Vec<Value>> {
        let text = fs::read_to_string(self.path().join("audit.jsonl")).expect("the records");
        let record = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        let of = |record: Value| fields.iter().map(|field| record[*field].clone()).collect();
        text.lines().map(record).map(of).collect()
    }

    pub async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        timeout(PATIENCE, self.serving).await.expect("stops in time").expect("no panic");
        self.directory
    }
}

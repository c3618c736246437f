//! The client of Redis against a redis-server.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use doorward_gateway::redis::{
    Address, Handle, Listener, Login, NotSure, Settings, Timing, Trust, Unpublished,
};
use doorward_launch::Identity;
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    net::{TcpListener, UnixStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use crate::{redis_server::Redis, support::PATIENCE};

/// One gateway's end.
pub(crate) struct End {
    pub(crate) handle: Handle<String>,
    messages: mpsc::UnboundedReceiver<(String, Bytes)>,
    _task: AbortOnDropHandle<()>,
}

struct Ear(mpsc::UnboundedSender<(String, Bytes)>);

impl Listener<String> for Ear {
    fn message(&self, at: &String, payload: Bytes) {
        // The test may be over.
        let _ = self.0.send((at.clone(), payload));
    }

    fn lost(&self, at: &String) {
        let _ = self.0.send((SYSTEM.to_owned(), format!("lost {at}").into()));
    }

    fn interrupted(&self, interrupted: bool) {
        let _ = self.0.send((SYSTEM.to_owned(), if interrupted { "down" } else { "up" }.into()));
    }
}

/// Not a key: under this a test hears of interruptions.
const SYSTEM: &str = "";

/// Quick to notice.
pub(crate) const QUICK: Timing = Timing { every: Duration::from_millis(500), within: Duration::from_secs(2) };

pub(crate) fn settings(address: Address) -> Settings {
    Settings { address, login: Login::default(), payload_max: 4_096, timing: Timing::default() }
}

fn unix(redis: &Redis) -> Settings {
    settings(Address::Unix(redis.socket(), Identity::current().uid))
}

impl End {
    pub(crate) fn start(settings: Settings) -> Self {
        let (handle, queue) = Handle::new();
        let (got, messages) = mpsc::unbounded_channel();
        let task = AbortOnDropHandle::new(tokio::spawn(handle.clone().keep(queue, settings, Ear(got))));
        Self { handle, messages, _task: task }
    }

    /// Connected in both directions.
    async fn up(settings: Settings) -> Self {
        let mut end = Self::start(settings);
        end.is(true).await;
        end.expect(SYSTEM, b"up").await;
        end
    }

    /// Waits until messages arrive and can be published, or neither.
    pub(crate) async fn is(&self, up: bool) {
        let (mut interrupted, mut publishes) = (self.handle.interrupted(), self.handle.publishes());
        let both = async {
            interrupted.wait_for(|interrupted| *interrupted != up).await.expect("it is kept");
            publishes.wait_for(|publishes| *publishes == up).await.expect("it is kept");
        };
        timeout(PATIENCE, both).await.expect("in time");
    }

    pub(crate) async fn enter(&self, key: &str) -> Result<(), NotSure> {
        timeout(PATIENCE, self.handle.enter(key, key.to_owned())).await.expect("in time")
    }

    async fn publish(&self, key: &str, payload: impl Into<Bytes>) -> Result<(), Unpublished> {
        timeout(PATIENCE, self.handle.publish(key.to_owned(), payload.into())).await.expect("in time")
    }

    async fn next(&mut self) -> (String, Bytes) {
        timeout(PATIENCE, self.messages.recv()).await.expect("in time").expect("it is kept")
    }

    async fn expect(&mut self, key: &str, payload: &[u8]) {
        let (to, got) = self.next().await;
        assert_eq!((to.as_str(), &*got), (key, payload));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_each_message_once_and_in_the_order_of_its_publisher() {
    let Some(redis) = Redis::start() else { return };
    let mut ends = Vec::new();
    for _ in 0..3 {
        let end = End::up(unix(&redis)).await;
        assert_eq!(end.enter("p:c:events").await, Ok(()));
        ends.push(end);
    }
    const EACH: u32 = 2_000;
    let publishing: Vec<_> = ends
        .iter()
        .enumerate()
        .map(|(from, end)| {
            let handle = end.handle.clone();
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for number in 0..EACH {
                    answers.push(handle.publish("p:c:events".into(), format!("{from} {number}").into()));
                    if answers.len() == 100 {
                        for answer in answers.drain(..) {
                            answer.await.expect("published");
                        }
                    }
                }
            })
        })
        .collect();
    for end in &mut ends {
        let mut next = [0_u32; 3];
        for _ in 0..3 * EACH {
            let (_, payload) = end.next().await;
            let text = std::str::from_utf8(&payload).expect("text");
            let (from, number) = text.split_once(' ').expect("two numbers");
            let expected = &mut next[from.parse::<usize>().expect("a number")];
            assert_eq!(number.parse(), Ok(*expected), "in order, each once");
            *expected += 1;
        }
        assert_eq!(next, [EACH; 3]);
    }
    for task in publishing {
        task.await.expect("it published");
    }
}

#[tokio::test]
async fn what_redis_cli_publishes_arrives_and_the_reverse() {
    let Some(redis) = Redis::start() else { return };
    let mut end = End::up(unix(&redis)).await;
    end.enter("p:user:alice:events").await.expect("confirmed");
    assert_eq!(redis.cli(&["PUBLISH", "p:user:alice:events", r#"{"a": 1}"#]), "1", "it was heard by one");
    end.expect("p:user:alice:events", br#"{"a": 1}"#).await;

    let mut cli = redis
        .command(&["SUBSCRIBE", "p:user:bob:events"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is there");
    let mut lines = BufReader::new(cli.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains('1')), "subscribed");
    end.publish("p:user:bob:events", r#"{"b": 2}"#).await.expect("published");
    assert!(lines.any(|line| line.contains(r#"{"b": 2}"#)));
    cli.kill().expect("ours");
    cli.wait().expect("ours");
}

#[tokio::test]
async fn any_bytes_pass_and_what_is_too_long_costs_itself_alone() {
    let Some(redis) = Redis::start() else { return };
    let mut end = End::up(unix(&redis)).await;
    end.enter("k").await.expect("confirmed");
    let all: Vec<u8> = (0..=255).collect();
    for payload in [&b""[..], b"\r\n", b"5", b"null", b"\0", b"*3\r\n$7\r\nmessage\r\n", &all] {
        end.publish("k", payload.to_vec()).await.expect("published");
        end.expect("k", payload).await;
    }
    for bytes in [4_097, 1 << 20] {
        redis.publish("k", &vec![b'x'; bytes]);
        redis.publish("k", &vec![b'y'; 4_095]);
        let (_, got) = end.next().await;
        assert_eq!((got.first(), got.last()), (Some(&b'y'), Some(&b'y')), "the longer one was dropped");
    }
    assert!(!*end.handle.interrupted().borrow(), "and nothing was interrupted");
}

#[tokio::test]
async fn redis_hears_of_the_last_who_leaves() {
    let Some(redis) = Redis::start() else { return };
    let end = End::up(unix(&redis)).await;
    let subscribers = || redis.cli(&["PUBSUB", "NUMSUB", "k"]).lines().last().map(ToOwned::to_owned);
    end.enter("k").await.expect("confirmed");
    assert_eq!(subscribers().as_deref(), Some("1"));
    end.handle.leave("k", || false);
    crate::support::until(|| (subscribers().as_deref() == Some("0")).then_some(())).await;
    // Whatever comes in between, the last word counts.
    for _ in 0..200 {
        drop(end.handle.enter("k", "k".to_owned()));
        end.handle.leave("k", || false);
    }
    end.enter("k").await.expect("confirmed");
    assert_eq!(subscribers().as_deref(), Some("1"));
    end.handle.leave("k", || true);
    end.enter("k").await.expect("somebody came before the question");
    assert_eq!(subscribers().as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_comes_back_is_told_of_and_nothing_is_lost_after_that() {
    let Some(mut redis) = Redis::start() else { return };
    let mut end = End::up(unix(&redis)).await;
    for key in ["a", "b"] {
        end.enter(key).await.expect("confirmed");
    }
    redis.kill();
    end.is(false).await;
    end.expect(SYSTEM, b"down").await;
    assert_eq!(end.publish("a", "lost").await, Err(Unpublished::Down));
    assert_eq!(end.enter("c").await, Err(NotSure::Interrupted));
    end.handle.leave("b", || false);
    redis.restart();
    end.is(true).await;
    end.expect(SYSTEM, b"up").await;
    for key in ["a", "c"] {
        assert_eq!(redis.cli(&["PUBLISH", key, "x"]), "1");
        end.expect(key, b"x").await;
    }
    assert_eq!(redis.cli(&["PUBLISH", "b", "x"]), "0", "nobody wants it any more");
    end.publish("a", "again").await.expect("published");
    end.expect("a", b"again").await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_found_out_and_who_waits_for_it_is_told() {
    let Some(redis) = Redis::start() else { return };
    let end = End::up(Settings { timing: QUICK, ..unix(&redis) }).await;
    end.enter("a").await.expect("confirmed");
    redis.signal("STOP");
    // Both are under way before anybody knows.
    let (entering, publishing) = (end.enter("b"), end.publish("a", "x"));
    let (entered, published) = tokio::join!(entering, publishing);
    assert_eq!((entered, published), (Err(NotSure::Interrupted), Err(Unpublished::Down)));
    end.is(false).await;
    redis.signal("CONT");
    end.is(true).await;
    end.enter("b").await.expect("confirmed");
}

/// What it has answered counts, also if nobody was there to read it in time.
#[tokio::test]
async fn a_gateway_that_is_given_no_time_takes_no_redis_for_silent() {
    let Some(redis) = Redis::start() else { return };
    let timing = Timing { every: Duration::from_millis(200), within: Duration::from_millis(400) };
    let mut end = End::up(Settings { timing, ..unix(&redis) }).await;
    end.enter("a").await.expect("confirmed");
    for round in 0..4 {
        redis.signal("STOP");
        let publishing = end.handle.publish("a".to_owned(), "x".into());
        // Until it is written; nothing answers.
        let mut publishing = Box::pin(publishing);
        let asked = timeout(Duration::from_millis(20), &mut publishing).await;
        assert!(asked.is_err(), "round {round}");
        redis.signal("CONT");
        // As if the machine did something else: nothing of this process goes on, Redis does.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(timeout(PATIENCE, publishing).await.expect("in time"), Ok(()), "round {round}");
        end.expect("a", b"x").await;
    }
}

#[tokio::test]
async fn what_waits_for_a_redis_that_hangs_is_bounded() {
    let Some(redis) = Redis::start() else { return };
    let end = End::up(unix(&redis)).await;
    redis.signal("STOP");
    let payload = Bytes::from(vec![b'x'; 1 << 20]);
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(tokio::spawn(end.handle.publish("k".into(), payload.clone())));
    }
    let refused = async {
        let mut refused = 0;
        while refused < 9 {
            let mut still = Vec::new();
            for task in waiting.drain(..) {
                if task.is_finished() {
                    assert_eq!(task.await.expect("it ran"), Err(Unpublished::Full));
                    refused += 1;
                } else {
                    still.push(task);
                }
            }
            waiting = still;
            tokio::task::yield_now().await;
        }
        refused
    };
    assert_eq!(timeout(PATIENCE, refused).await.expect("in time"), 9, "31 MiB and their keys find room");
    redis.signal("CONT");
    for task in waiting {
        assert_eq!(task.await.expect("it ran"), Ok(()));
    }
}

#[tokio::test]
async fn a_user_and_a_password_open_what_redis_allows_them() {
    let users = "--user door on >secret resetchannels &p:* -@all +publish +subscribe +unsubscribe +ping \
        --user default off";
    let Some(redis) = Redis::start_with(&users.split(' ').collect::<Vec<_>>()) else { return };
    let login = |user: Option<&str>, password: Option<&str>| Login {
        user: user.map(ToOwned::to_owned),
        password: password.map(|text| Arc::new(Zeroizing::new(text.as_bytes().to_vec()))),
    };
    let mut end = End::up(Settings { login: login(Some("door"), Some("secret")), ..unix(&redis) }).await;
    end.enter("p:c:events").await.expect("it may");
    assert_eq!(end.enter("other:c:events").await, Err(NotSure::Refused));
    assert_eq!(end.publish("other:c:events", "x").await, Err(Unpublished::Refused));
    end.publish("p:c:events", "x").await.expect("it may");
    end.expect("p:c:events", b"x").await;
    assert!(!*end.handle.interrupted().borrow(), "what was refused costs nobody else anything");

    for (user, password) in [(Some("door"), Some("wrong")), (None, Some("secret")), (None, None)] {
        let wrong = End::start(Settings { login: login(user, password), ..unix(&redis) });
        assert_eq!(wrong.enter("p:c:events").await, Err(NotSure::Interrupted));
        // What it is told is the only answer that it ever gets.
        let up = timeout(Duration::from_millis(300), wrong.is(true)).await;
        assert!(up.is_err(), "{user:?} {password:?}");
    }
}

#[tokio::test]
async fn over_tls_it_must_be_the_right_one() {
    let Some(redis) = Redis::start() else { return };
    let key = rcgen::KeyPair::generate().expect("made");
    let certificate = rcgen::CertificateParams::new(vec!["redis.example".to_owned()])
        .expect("a name")
        .self_signed(&key)
        .expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let socket = redis.socket();
    let _relay = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                // A client that does not like the certificate goes.
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut redis = UnixStream::connect(socket).await.expect("it is there");
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut redis).await;
            });
        }
    }));
    let trust = |name: &'static str, roots: &[&rcgen::Certificate]| {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.der().clone()).expect("an authority");
        }
        Address::Tls(at, Trust::new(name.try_into().expect("a name"), store).expect("a configuration"))
    };
    let mut end = End::up(settings(trust("redis.example", &[&certificate]))).await;
    end.enter("k").await.expect("confirmed");
    end.publish("k", vec![b'x'; 4_096]).await.expect("published");
    end.expect("k", &[b'x'; 4_096]).await;

    let stranger = rcgen::KeyPair::generate().expect("made");
    let stranger = rcgen::CertificateParams::new(vec!["redis.example".to_owned()])
        .expect("a name")
        .self_signed(&stranger)
        .expect("signed");
    for address in [trust("another.example", &[&certificate]), trust("redis.example", &[&stranger])] {
        let end = End::start(settings(address));
        assert!(timeout(Duration::from_millis(300), end.is(true)).await.is_err());
    }
}

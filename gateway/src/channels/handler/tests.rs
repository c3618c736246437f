//! Handlers against one that misbehaves as it is told.

use std::{
    os::unix::net::UnixListener as StdListener,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use doorward_launch::Identity;
use doorward_proto::{
    Reason,
    channel::v1::channel_handler_server::{ChannelHandler, ChannelHandlerServer},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::Request;

use super::*;
use crate::call::{ActionName, Facility, Pk};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Lets everybody do everything.
    Kind,
    /// Nobody anything.
    Strict,
    /// Never answers.
    Hang,
    /// Ends the call as a crash of its code does.
    Panic,
    /// Answers 10 MiB.
    Large,
    /// Allows what was not asked for.
    Others,
    /// Answers what is nonsense.
    Nonsense,
    /// Believes no word but the second.
    Doubt,
    /// Has no method that is not asked for permission.
    Bare,
}

#[derive(Debug)]
struct State {
    manner: Mutex<Manner>,
    asked: Mutex<Vec<proto::Asked>>,
    told: Mutex<Vec<proto::OfflineRequest>>,
    waiting: AtomicUsize,
}

#[derive(Clone)]
struct Service(Arc<State>);

impl Service {
    async fn begin(&self, asked: Option<proto::Asked>) -> Result<Manner, Status> {
        let asked = asked.expect("it is always said");
        let manner = *self.0.manner.lock().expect("not poisoned");
        let doubts = manner == Manner::Doubt && asked.assertion == "old";
        self.0.asked.lock().expect("not poisoned").push(asked);
        match manner {
            Manner::Hang => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
            Manner::Panic => panic!("as it was told"),
            _ if doubts => Err(Reason::Unauthenticated.to_wire("an old word")),
            manner => Ok(manner),
        }
    }
}

const LARGE: usize = 10 << 20;

#[tonic::async_trait]
impl ChannelHandler for Service {
    async fn can_subscribe(
        &self,
        request: Request<proto::CanSubscribeRequest>,
    ) -> Result<Response<proto::CanSubscribeReply>, Status> {
        let asked = request.into_inner().asked;
        let pk = asked.as_ref().and_then(|asked| asked.pk.clone());
        let (pks, whole) = match self.begin(asked).await? {
            Manner::Kind | Manner::Doubt => (pk.into_iter().collect(), true),
            Manner::Large => (vec!["x".repeat(LARGE)], true),
            Manner::Others => (vec!["another".to_owned()], false),
            Manner::Nonsense => (vec!["a:b".to_owned()], true),
            Manner::Strict | Manner::Hang | Manner::Panic | Manner::Bare => (Vec::new(), false),
        };
        Ok(Response::new(proto::CanSubscribeReply { pks, whole }))
    }

    async fn can_publish(
        &self,
        request: Request<proto::CanPublishRequest>,
    ) -> Result<Response<proto::CanPublishReply>, Status> {
        let allowed = matches!(self.begin(request.into_inner().asked).await?, Manner::Kind | Manner::Doubt);
        Ok(Response::new(proto::CanPublishReply { allowed }))
    }

    async fn on_message(
        &self,
        request: Request<proto::MessageRequest>,
    ) -> Result<Response<proto::MessageReply>, Status> {
        use proto::message_reply::Outcome;
        let request = request.into_inner();
        let publication = |message: &[u8]| proto::Publication {
            pk: Some("3".into()),
            message: message.to_vec(),
            channel: String::new(),
        };
        let outcome = match self.begin(request.asked).await? {
            Manner::Kind | Manner::Doubt => {
                let publications = vec![publication(&request.message)];
                Some(Outcome::Handled(proto::Handled { reply: b"{}".to_vec(), publications }))
            }
            Manner::Large => {
                let reply = format!("\"{}\"", "x".repeat(LARGE)).into_bytes();
                Some(Outcome::Handled(proto::Handled { reply, publications: Vec::new() }))
            }
            Manner::Others => {
                let publications = vec![publication(b"1"); 17];
                Some(Outcome::Handled(proto::Handled { reply: Vec::new(), publications }))
            }
            Manner::Nonsense => None,
            Manner::Strict | Manner::Hang | Manner::Panic | Manner::Bare => {
                Some(Outcome::Unsupported(proto::Unsupported {}))
            }
        };
        Ok(Response::new(proto::MessageReply { outcome }))
    }

    async fn on_online(
        &self,
        request: Request<proto::OnlineRequest>,
    ) -> Result<Response<proto::OnlineReply>, Status> {
        let presence = match self.begin(request.into_inner().asked).await? {
            Manner::Kind => b"here".to_vec(),
            Manner::Large => vec![0; LARGE],
            Manner::Nonsense => vec![0; 129],
            Manner::Bare => return Err(Status::unimplemented("no such method")),
            _ => Vec::new(),
        };
        Ok(Response::new(proto::OnlineReply { presence }))
    }

    async fn on_offline(
        &self,
        request: Request<proto::OfflineRequest>,
    ) -> Result<Response<proto::OfflineReply>, Status> {
        self.0.told.lock().expect("not poisoned").push(request.into_inner());
        Ok(Response::new(proto::OfflineReply {}))
    }
}

/// Gives `old` once for keeping, then `new`; whose it is.
struct Fixed(&'static str, Option<&'static str>);

impl Word for Fixed {
    fn who(&self) -> &str {
        self.0
    }

    fn kept(&self, _: &str) -> Option<Secret> {
        self.1.map(|text| Secret::new(text.to_owned()))
    }

    async fn anew(&self, audience: &str) -> Result<Secret, Failure> {
        Ok(Secret::new(format!("new {audience}")))
    }
}

struct Fake {
    _place: TempDir,
    path: PathBuf,
    handlers: Handlers,
    table: Arc<Current<Policies>>,
    place: Arc<HandlerPlace>,
    state: Arc<State>,
    _task: Option<AbortOnDropHandle<()>>,
}

impl Fake {
    fn start(manner: Manner) -> Self {
        let place = TempDir::new().expect("a directory");
        let path = place.path().join("handler.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let (manner, asked, told) = (Mutex::new(manner), Mutex::default(), Mutex::default());
        let state = Arc::new(State { manner, asked, told, waiting: AtomicUsize::new(0) });
        let service =
            ChannelHandlerServer::new(Service(Arc::clone(&state))).max_encoding_message_size(usize::MAX);
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            // It ends with the test.
            let _ = serve.await;
        }));
        Self::at(place, path, state, Some(task))
    }

    fn at(place: TempDir, path: PathBuf, state: Arc<State>, task: Option<AbortOnDropHandle<()>>) -> Self {
        let handler = HandlerPlace {
            channel: ChannelName::parse("group").expect("a name"),
            socket: path.clone(),
            uid: Identity::current().uid,
            deadline: Duration::from_millis(500),
        };
        let handler = Arc::new(handler);
        let table = Arc::new(Current::new(Policies::of_handlers(&[Arc::clone(&handler)])));
        let handlers = Handlers::kept_by(Keeper::new(TaskTracker::new()), Arc::clone(&table));
        Self { _place: place, path, handlers, table, place: handler, state, _task: task }
    }

    /// The table has another place for the channel now.
    fn moves(&mut self, place: HandlerPlace) {
        self.place = Arc::new(place);
        self.table.set(Policies::of_handlers(&[Arc::clone(&self.place)]));
        self.handlers.renew();
    }

    fn is(&self, manner: Manner) {
        *self.state.manner.lock().expect("not poisoned") = manner;
    }

    async fn subscribe(&self, word: &Fixed) -> Result<Vec<Address>, Error> {
        let due = Instant::now() + self.place.deadline;
        Ok(self.handlers.subscribe(&self.place, word, &at("3"), due).await?)
    }

    /// The connection has gone after so long.
    async fn appears(&self, gone: Duration) -> Option<Presence> {
        let mut gone = Box::pin(tokio::time::sleep(gone));
        self.handlers.appear(&self.place, &ALICE, &at("3"), &mut gone).await
    }

    async fn still(&self, pk: &str, within: Duration) -> Result<(), No> {
        self.handlers.still(&self.place, &ALICE, &at(pk), Instant::now() + within).await
    }

    async fn publish(&self, word: &Fixed) -> Result<(), Error> {
        self.handlers.publish(&self.place, word, &at("3"), &Payload("1".into())).await
    }

    async fn message(&self, word: &Fixed) -> Result<Handled, Error> {
        let action = ActionName::parse("status").expect("a name");
        let custom = Custom { at: at("3"), action, message: Payload(r#"{"n":1}"#.into()) };
        let handled = self.handlers.message(&self.place, word, &custom, "r1", |_| None);
        handled.await.map(|(handled, _)| handled)
    }
}

fn at(pk: &str) -> Address {
    let channel = ChannelName::parse("group").expect("a name");
    Address { channel, pk: Pk::parse(pk), facility: Facility::default() }
}

const ALICE: Fixed = Fixed("alice", None);

#[tokio::test]
async fn what_a_handler_allows_is_allowed_by_authds_word() {
    let fake = Fake::start(Manner::Kind);
    assert_eq!(fake.subscribe(&ALICE).await, Ok(vec![at("3")]));
    assert_eq!(fake.publish(&ALICE).await, Ok(()));
    let handled = fake.message(&ALICE).await.expect("handled");
    assert_eq!(handled.reply, Some(Payload("{}".into())));
    assert_eq!(handled.publications, [(at("3"), Payload(r#"{"n":1}"#.into()))]);
    for asked in fake.state.asked.lock().expect("not poisoned").iter() {
        assert_eq!((asked.assertion.as_str(), asked.pk.as_deref()), ("new channel/group", Some("3")));
        assert_eq!((asked.channel.as_str(), asked.facility.as_str()), ("group", "events"));
        assert!((1..=500).contains(&asked.deadline_ms), "{}", asked.deadline_ms);
    }
    fake.is(Manner::Strict);
    assert_eq!(fake.subscribe(&ALICE).await, Err(Error::Forbidden));
    assert_eq!(fake.publish(&ALICE).await, Err(Error::Forbidden));
    assert_eq!(fake.message(&ALICE).await, Err(Error::NotFound), "it knows no such action");
}

#[tokio::test]
async fn a_word_that_is_believed_no_more_is_asked_for_anew_once() {
    let fake = Fake::start(Manner::Doubt);
    let word = Fixed("alice", Some("old"));
    assert_eq!(fake.subscribe(&word).await, Ok(vec![at("3")]));
    let asked: Vec<_> =
        fake.state.asked.lock().expect("not poisoned").iter().map(|asked| asked.assertion.clone()).collect();
    assert_eq!(asked, ["old", "new channel/group"]);
}

#[tokio::test]
async fn whatever_else_it_does_is_a_refusal() {
    let fake = Fake::start(Manner::Kind);
    for manner in [Manner::Hang, Manner::Panic, Manner::Large, Manner::Others, Manner::Nonsense] {
        fake.is(manner);
        let started = Instant::now();
        let all = tokio::join!(fake.subscribe(&ALICE), fake.publish(&ALICE), fake.message(&ALICE));
        assert_eq!(all.0, Err(Error::Forbidden), "{manner:?}");
        assert_eq!(all.1, Err(Error::Forbidden), "{manner:?}");
        assert_eq!(all.2, Err(Error::Forbidden), "{manner:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{manner:?}");
    }
    fake.is(Manner::Kind);
    assert_eq!(fake.publish(&ALICE).await, Ok(()), "and afterwards it is asked as before");
}

#[tokio::test]
async fn who_is_not_there_is_not_grpc_or_is_somebody_else_has_refused() {
    let place = TempDir::new().expect("a directory");
    let path = place.path().join("handler.sock");
    let state = Arc::clone(&Fake::start(Manner::Kind).state);
    let mut fake = Fake::at(place, path, state, None);
    assert_eq!(fake.publish(&ALICE).await, Err(Error::Forbidden), "there is nobody");

    let listener = UnixListener::bind(&fake.path).expect("bound");
    let _noise = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Whoever was there may be gone.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\0\0\0").await;
        }
    }));
    assert_eq!(fake.publish(&ALICE).await, Err(Error::Forbidden), "it speaks something else");

    let listener = StdListener::bind(fake.path.with_extension("other")).expect("bound");
    listener.set_nonblocking(true).expect("it can");
    let other = HandlerPlace {
        socket: fake.path.with_extension("other"),
        uid: Identity::current().uid + 1,
        ..HandlerPlace::clone(&fake.place)
    };
    fake.moves(other);
    assert_eq!(fake.publish(&ALICE).await, Err(Error::Forbidden), "it is of another uid");
    let (stream, _) = listener.accept().expect("it was called");
    let mut sent = Vec::new();
    std::io::Read::read_to_end(&mut &stream, &mut sent).expect("it went");
    assert_eq!(sent, b"", "and was told nothing");
}

#[tokio::test]
async fn one_identity_takes_a_quarter_of_the_questions_and_leaves_the_rest() {
    let fake = Arc::new(Fake::start(Manner::Hang));
    let mut waiting = Vec::new();
    for _ in 0..OF_ONE {
        let fake = Arc::clone(&fake);
        waiting.push(tokio::spawn(async move { fake.publish(&ALICE).await }));
    }
    while fake.state.waiting.load(Ordering::SeqCst) < OF_ONE {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.publish(&ALICE).await, Err(Error::TooMany));
    fake.is(Manner::Kind);
    assert_eq!(fake.publish(&Fixed("bob", None)).await, Ok(()));
    for task in waiting {
        assert_eq!(task.await.expect("it ran"), Err(Error::Forbidden));
    }
}

#[tokio::test]
async fn who_comes_online_is_told_of_with_its_end() {
    let fake = Fake::start(Manner::Kind);
    let here = fake.appears(Duration::from_secs(30)).await.expect("it wants to know");
    fake.handlers.offline(here).await;
    {
        let told = fake.state.told.lock().expect("not poisoned");
        let told: Vec<_> = told.iter().map(|told| (told.channel.as_str(), &*told.presence)).collect();
        assert_eq!(told, [("group", &b"here"[..])]);
    }
    for manner in [Manner::Strict, Manner::Nonsense, Manner::Bare] {
        fake.is(manner);
        assert!(fake.appears(LONG).await.is_none(), "{manner:?}");
    }
    // What is not answered is tried again, as long as there is somebody.
    for manner in [Manner::Panic, Manner::Hang] {
        fake.is(manner);
        let asked = || fake.state.asked.lock().expect("not poisoned").len();
        let before = asked();
        let back = async {
            while asked() < before + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fake.is(Manner::Kind);
        };
        let (here, ()) = tokio::join!(fake.appears(LONG), back);
        assert!(here.is_some(), "{manner:?}");
        fake.is(manner);
        assert!(fake.appears(Duration::from_millis(1)).await.is_none(), "{manner:?}");
    }
}

#[tokio::test]
async fn who_goes_while_all_turns_are_taken_is_not_told_of_beside_them() {
    let fake = Fake::start(Manner::Kind);
    let here = fake.appears(LONG).await.expect("it wants to know");
    let lane = Arc::clone(&fake.handlers.of(&fake.place).expect("the table has it").comings);
    let mut turns = Vec::new();
    for who in ["bob", "carol", "dave", "erin"] {
        for _ in 0..4 {
            turns.push(lane.turn(who).await.expect("there is one left"));
        }
    }
    let told = || fake.state.told.lock().expect("not poisoned").len();
    fake.handlers.disappear(here, Duration::from_millis(20)).await;
    assert_eq!(told(), 0);
    drop(turns);
    let here = fake.appears(LONG).await.expect("it wants to know");
    fake.handlers.disappear(here, LONG).await;
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn a_table_without_it_gives_its_connection_up_and_nothing_calls_it_again() {
    let mut fake = Fake::start(Manner::Kind);
    assert_eq!(fake.publish(&ALICE).await, Ok(()));
    let here = fake.appears(Duration::from_secs(30)).await.expect("it wants to know");
    let known = |fake: &Fake| fake.handlers.0.known.lock().expect("not poisoned").len();
    assert_eq!(known(&fake), 1);
    let (old, asked) = (Arc::clone(&fake.place), || fake.state.asked.lock().expect("not poisoned").len());
    let before = asked();
    fake.table.set(Policies::default());
    fake.handlers.renew();
    assert_eq!(known(&fake), 0);
    // Whoever was told of it before the change.
    assert_eq!(fake.publish(&ALICE).await, Err(Error::Forbidden));
    assert_eq!(fake.still("3", LONG).await, Err(No::Unsaid(Error::Forbidden)));
    assert_eq!((known(&fake), asked()), (0, before));
    fake.moves(HandlerPlace { deadline: LONG, ..HandlerPlace::clone(&old) });
    assert_eq!(fake.publish(&ALICE).await, Ok(()));
    let now = |fake: &Fake| {
        let known = fake.handlers.0.known.lock().expect("not poisoned");
        known.values().map(|handler| Arc::clone(&handler.place)).collect::<Vec<_>>()
    };
    let due = Instant::now() + LONG;
    let refused = fake.handlers.subscribe(&old, &ALICE, &at("3"), due).await;
    assert_eq!(refused, Err(No::Unsaid(Error::Forbidden)));
    // What is told of the end of what it was told is no reason to take it back.
    fake.handlers.offline(here).await;
    assert_eq!(fake.state.told.lock().expect("not poisoned").len(), 1);
    assert_eq!(now(&fake), [Arc::clone(&fake.place)]);
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_was_allowed_waits_for_its_turn_and_a_no_is_told_from_silence() {
    let mut fake = Fake::start(Manner::Kind);
    assert_eq!(fake.still("3", LONG).await, Ok(()));
    for (manner, said) in [
        (Manner::Strict, No::Refused(Error::Forbidden)),
        (Manner::Others, No::Refused(Error::Forbidden)),
        (Manner::Nonsense, No::Refused(Error::Forbidden)),
        (Manner::Hang, No::Late),
    ] {
        fake.is(manner);
        assert_eq!(fake.still("3", LONG).await, Err(said), "{manner:?}");
    }
    fake.is(Manner::Panic);
    assert!(matches!(fake.still("3", LONG).await, Err(No::Unsaid(_) | No::Late)));
    // Far more than there are places, of one identity: all have an answer.
    fake.is(Manner::Kind);
    let pks: Vec<_> = (0..4 * QUESTIONS).map(|pk| format!("x{pk}")).collect();
    let all = futures_util::future::join_all(pks.iter().map(|pk| fake.still(pk, LONG))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    fake.is(Manner::Hang);
    fake.moves(HandlerPlace { deadline: LONG, ..HandlerPlace::clone(&fake.place) });
    let within = Duration::from_millis(300);
    let all = futures_util::future::join_all(pks.iter().map(|pk| fake.still(pk, within))).await;
    let late = all.iter().filter(|answer| **answer == Err(No::Late)).count();
    assert_eq!(late, AGAIN_OF_ONE);
    assert!(all.iter().all(|answer| matches!(answer, Err(No::Late | No::Unsaid(Error::TooMany)))));
}

#[tokio::test]
async fn what_is_late_is_not_asked() {
    let fake = Fake::start(Manner::Kind);
    let late = fake.handlers.subscribe(&fake.place, &ALICE, &at("3"), Instant::now()).await;
    assert_eq!(late, Err(No::Late));
    assert!(fake.state.asked.lock().expect("not poisoned").is_empty());
}

//! Conversations against a fake guard.

use std::sync::mpsc;

use doorward_proto::pam::v1::{Result as Outcome, Style as WireStyle};

use super::{fake::Worker, *};

struct Bench {
    directory: tempfile::TempDir,
    conversations: Conversations,
    endings: TaskTracker,
}

fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    let directory = tempfile::tempdir().expect("temp dir");
    let mut settings = Settings {
        socket: directory.path().join("pam.sock"),
        silent: Duration::from_secs(20),
        answer: Duration::from_secs(20),
        total: Duration::from_secs(20),
        conversations: 8,
        per_source: 8,
        per_account: 8,
        computing: 1,
    };
    change(&mut settings);
    let endings = TaskTracker::new();
    Bench { directory, conversations: Conversations::new(settings, endings.clone()), endings }
}

impl Bench {
    fn guard(&self, script: impl Fn(Worker) + Send + Sync + 'static) {
        super::fake::serve(&self.directory.path().join("pam.sock"), script);
    }

    async fn open(&self) -> Result<Conversation, AuthError> {
        let user = Username::parse("alice".into()).expect("a name");
        let start = Start { user, vouched: false, rhost: "192.0.2.1".into(), task: Task::Login };
        self.conversations.open(SourceKey::Local, start).await
    }

    async fn all_ended(&self) {
        self.endings.close();
        self.endings.wait().await;
    }
}

fn answer(text: &str) -> [Answer; 1] {
    [Answer::parse(text.into()).expect("an answer")]
}

#[tokio::test]
async fn rounds_answers_and_a_verdict_go_through() {
    let bench = bench(|_| ());
    bench.guard(|worker| {
        assert_eq!((worker.start.rhost.as_str(), worker.start.tty.as_str()), ("192.0.2.1", "doorward"));
        let right = worker.password().as_deref() == Some("pw");
        worker.verdict_on(if right { Outcome::Success } else { Outcome::Denied }, "alice", 5);
    });
    let mut conversation = bench.open().await.expect("open");
    let Word::Round(round) = conversation.word().await else { panic!("a round") };
    assert_eq!(round.messages, [Message { style: Style::Hidden, text: "Password: ".into() }]);
    conversation.answer(&answer("pw")).await.expect("sent");
    let Word::Verdict(verdict) = conversation.word().await else { panic!("a verdict") };
    let expected =
        Verdict { kind: VerdictKind::Success, user: "alice".into(), fail_delay: Duration::from_micros(5) };
    assert_eq!(verdict, expected);
}

#[tokio::test]
async fn a_prompt_gives_the_permit_back() {
    let bench = bench(|_| ());
    bench.guard(|worker| {
        worker.password();
        worker.verdict(Outcome::Denied);
    });
    let mut first = bench.open().await.expect("open");
    assert!(matches!(first.word().await, Word::Round(_)));
    // There is one permit: a second conversation computes while the first waits for a person.
    let mut second = bench.open().await.expect("open");
    assert!(matches!(second.word().await, Word::Round(_)));
    first.answer(&answer("x")).await.expect("sent");
    assert!(matches!(first.word().await, Word::Verdict(_)));
}

#[tokio::test]
async fn a_module_that_hangs_stops_no_other_login() {
    let bench = bench(|_| ());
    let (turn, turns) = mpsc::sync_channel::<bool>(2);
    turn.send(true).expect("room");
    turn.send(false).expect("room");
    let turns = std::sync::Mutex::new(turns);
    bench.guard(move |worker| {
        let hang = turns.lock().expect("whole").recv().expect("sent");
        if hang { worker.await_end() } else { worker.verdict(Outcome::Success) }
    });
    let mut hung = bench.open().await.expect("open");
    let hangs = tokio::spawn(async move { hung.word().await });
    let mut other = bench.open().await.expect("the permit comes back after a second");
    assert!(matches!(other.word().await, Word::Verdict(_)));
    assert!(!hangs.is_finished());
    hangs.abort();
}

#[tokio::test]
async fn a_silent_worker_and_a_long_conversation_are_told() {
    for (silent, total, overdue) in [(1, 20, false), (20, 1, true)] {
        let bench = bench(|settings| {
            settings.silent = Duration::from_secs(silent);
            settings.total = Duration::from_secs(total);
        });
        bench.guard(|worker| worker.await_end());
        let mut conversation = bench.open().await.expect("open");
        match conversation.word().await {
            Word::Silent => assert!(!overdue),
            Word::Overdue => assert!(overdue),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn texts_without_a_question_end_the_silence_but_not_the_conversation() {
    let bench = bench(|settings| settings.total = Duration::from_secs(5));
    bench.guard(|worker| {
        for _ in 0..3 {
            worker.round(&[(WireStyle::Info, "wait")]);
        }
        worker.await_end();
    });
    let mut conversation = bench.open().await.expect("open");
    for _ in 0..3 {
        assert!(matches!(conversation.word().await, Word::Round(_)));
    }
    assert!(matches!(conversation.word().await, Word::Overdue));
}

#[tokio::test]
async fn no_guard_is_unreachable_and_a_full_backlog_times_out() {
    let bench = bench(|settings| settings.silent = Duration::from_secs(1));
    assert!(matches!(bench.open().await, Err(AuthError::PamUnreachable(_))));
    let _listener = super::fake::listening(&bench.directory.path().join("pam.sock"), 0);
    let mut refused = None;
    // A backlog of 0 still holds one or two connections.
    let mut held = Vec::new();
    for _ in 0..8 {
        match bench.open().await {
            Ok(conversation) => held.push(conversation),
            Err(failure) => {
                refused = Some(failure);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(AuthError::PamTimedOut(_))), "{refused:?}");
}

#[tokio::test]
async fn the_slot_is_free_only_when_the_guard_has_ended_everything() {
    let bench = bench(|settings| settings.conversations = 1);
    let (ended, may_end) = mpsc::channel::<()>();
    let may_end = std::sync::Mutex::new(may_end);
    let (seen, half_closed) = mpsc::channel();
    bench.guard(move |worker| {
        worker.await_end();
        seen.send(()).expect("the test listens");
        may_end.lock().expect("whole").recv().expect("sent");
    });
    let conversation = bench.open().await.expect("open");
    drop(conversation);
    tokio::task::spawn_blocking(move || half_closed.recv()).await.expect("ran").expect("half-closed");
    assert_eq!(bench.conversations.count(), 1, "the guard has not closed its end");
    assert!(matches!(bench.open().await, Err(AuthError::TooManyLogins(_))));
    ended.send(()).expect("the guard listens");
    bench.all_ended().await;
    assert_eq!(bench.conversations.count(), 0);
}

#[tokio::test]
async fn a_guard_that_never_closes_frees_the_slot_after_a_second() {
    let bench = bench(|_| ());
    let (never, forever) = mpsc::channel::<()>();
    let forever = std::sync::Mutex::new(forever);
    bench.guard(move |_worker| {
        let _ = forever.lock().expect("whole").recv();
    });
    drop(bench.open().await.expect("open"));
    let began = Instant::now();
    bench.all_ended().await;
    assert!(began.elapsed() >= END_WITHIN);
    assert_eq!(bench.conversations.count(), 0);
    drop(never);
}

#[tokio::test]
async fn what_is_no_word_is_malformed() {
    for packet in [vec![0xff; 10], vec![0x0a; 5000], b"\x0a\x00".to_vec()] {
        let bench = bench(|_| ());
        bench.guard(move |worker| {
            worker.raw(&packet);
            worker.await_end();
        });
        let mut conversation = bench.open().await.expect("open");
        assert!(matches!(conversation.word().await, Word::Malformed(_)));
    }
}

#[tokio::test]
async fn a_worker_that_dies_is_told_from_one_that_never_spoke() {
    for speaks in [false, true] {
        let bench = bench(|_| ());
        bench.guard(move |worker| {
            if speaks {
                worker.round(&[(WireStyle::Info, "ouch")]);
            }
        });
        let mut conversation = bench.open().await.expect("open");
        if speaks {
            assert!(matches!(conversation.word().await, Word::Round(_)));
        }
        assert!(matches!(conversation.word().await, Word::Gone { spoke } if spoke == speaks));
    }
}

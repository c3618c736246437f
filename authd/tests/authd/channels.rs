//! Sessions of channels: who opens them, what they may be used for, and when they end.

use doorward_proto::authd::v1::{self as wire, begin_request::Method, end_other_request::Which, outcome};
use doorward_proto::pam::v1::{Result as Verdict, Style};
use tonic::Code;

use crate::bench::{
    Bench, ONE, TWO, begin, code, granted, is_denied, kind, password, prompts, respond, users,
};

const SYSADM: wire::Dialect = wire::Dialect::Sysadm;
const TOKEN: wire::Dialect = wire::Dialect::Token;
const CHANNEL: wire::Dialect = wire::Dialect::Channel;

fn login(user: &str, word: &str) -> wire::BeginRequest {
    wire::BeginRequest { dialect: CHANNEL.into(), ..password(ONE, user, word) }
}

fn by(method: Method) -> wire::BeginRequest {
    wire::BeginRequest { dialect: CHANNEL.into(), ..begin(TWO, "192.0.2.2", method) }
}

fn taking_up(token: &str) -> wire::BeginRequest {
    by(Method::Token(wire::Token { token: token.into() }))
}

#[tokio::test]
async fn a_password_opens_a_session_without_an_idle_clock_for_twelve_hours_at_most() {
    for (configured, life) in [(43_200, 43_200_000), (100_000, 43_200_000), (3_600, 3_600_000)] {
        let bench = Bench::start(|config| config.sessions.absolute_seconds = configured).await;
        bench.pam_with_passwords();
        let opened = granted(bench.login().await.begin(login("bob", "pw")).await);
        let session = opened.session.expect("a session");
        assert_eq!((session.dialect(), session.kind.as_str(), session.uid), (CHANNEL, "user", Some(1001)));
        assert_eq!((session.idle_seconds, session.absolute_left_ms), (0, life));
        bench.forward(life - 1);
        assert!(bench.check_for(&opened.token, CHANNEL).await.is_ok());
        bench.forward(1);
        assert_eq!(bench.check_for(&opened.token, CHANNEL).await, Err(Code::NotFound));
    }
}

#[tokio::test]
async fn it_has_the_rights_of_its_user_in_every_dialect() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let alice = granted(bench.login().await.begin(login("alice", "pw")).await);
    for dialect in [SYSADM, TOKEN, CHANNEL] {
        let session = bench.check_for(&alice.token, dialect).await.expect("alive");
        assert_eq!(
            (session.access(), session.acl),
            (wire::Access::Full, vec!["#".to_owned()]),
            "{dialect:?}"
        );
    }
    let which = Some(Which::Others(wire::Others {}));
    let request = wire::EndOtherRequest { token: alice.token.clone(), which };
    assert_eq!(code(bench.sessions().await.end_other(request).await), Code::Ok);
    for audience in ["certd", "sysadm/systemmanager", "channel/Group"] {
        let request = wire::AssertRequest { token: alice.token.clone(), audience: audience.into() };
        assert_eq!(code(bench.sessions().await.assert(request).await), Code::Ok, "{audience}");
    }
    assert_eq!(bench.records()[0]["dialect"], "channel");
    bench.users.set_groups("alice", &[]);
    assert_eq!(bench.check_for(&alice.token, CHANNEL).await, Err(Code::NotFound), "all access is lost");
}

#[tokio::test]
async fn prompts_are_answered_as_in_the_sysadm_dialect() {
    let bench = Bench::start(|_| ()).await;
    bench.pam(|worker| {
        worker.password();
        worker.round(&[(Style::Hidden, "Code: ")]);
        let answers = worker.answers().unwrap_or_default();
        worker.verdict(if answers == ["1234"] { Verdict::Success } else { Verdict::Denied });
        worker.await_end();
    });
    let mut logins = bench.login().await;
    for (answer, opened) in [("1234", true), ("4321", false)] {
        let asked = prompts(logins.begin(login("bob", "pw")).await);
        let outcome = kind(logins.respond(respond(ONE, &asked.conversation, &[answer])).await);
        assert_eq!(matches!(outcome, outcome::Kind::Granted(_)), opened, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_live_session_is_taken_up_and_one_of_the_token_api_only_if_it_reaches_channels() {
    let bench = Bench::start_for(
        doorward_launch::Identity::current(),
        users().group("robots", 51).user("dan", 1003, 1003, "/bin/sh", &[51]),
        |config| {
            config.token_api.acl = vec!["confd.#".into()];
            config.token_api.group_acl.insert("robots".into(), vec!["ws.group.*.subscribe".into()]);
        },
    )
    .await;
    bench.pam_with_passwords();
    let mut logins = bench.login().await;
    let sysadm = bench.session_of("bob").await;
    let taken = granted(logins.begin(taking_up(&sysadm.token)).await);
    assert_eq!(taken.session.expect("a session").dialect(), SYSADM);
    let api = |user: &str| {
        let wish = Some(wire::TokenWish { backend: String::new(), expiration_seconds: None });
        wire::BeginRequest { dialect: TOKEN.into(), wish, ..password(ONE, user, "pw") }
    };
    let (alice, dan) =
        (granted(logins.begin(api("alice")).await).token, granted(logins.begin(api("dan")).await).token);
    assert!(is_denied(logins.begin(taking_up(&alice)).await));
    assert_eq!(bench.check_for(&alice, CHANNEL).await, Err(Code::NotFound));
    let taken = granted(logins.begin(taking_up(&dan)).await);
    assert_eq!(taken.session.expect("a session").acl, ["confd.#", "ws.group.*.subscribe"]);
    assert!(bench.check_for(&dan, CHANNEL).await.is_ok());
    assert_eq!(bench.check_for(&dan, SYSADM).await, Err(Code::NotFound));
    for (audience, expected) in [("channel/group", Code::Ok), ("certd", Code::NotFound)] {
        let request = wire::AssertRequest { token: dan.clone(), audience: audience.into() };
        assert_eq!(code(bench.sessions().await.assert(request).await), expected, "{audience}");
    }
}

#[tokio::test]
async fn what_is_for_the_sysadm_dialect_alone_opens_no_session_of_channels() {
    let bench = Bench::start(|_| ()).await;
    let mut logins = bench.login().await;
    let local = wire::LocalPeer { handle: vec![1; 16], ..Default::default() };
    let proof = wire::CertificateProof { signature: vec![1; 64], ..Default::default() };
    let loaded = wire::TlsCertificate { username: "bob".into(), key: vec![1; 64], certificate: vec![1; 64] };
    for method in [Method::LocalPeer(local), Method::CertificateProof(proof), Method::TlsCertificate(loaded)]
    {
        assert_eq!(code(logins.begin(by(method)).await), Code::InvalidArgument);
    }
    let wish = Some(wire::TokenWish::default());
    let wished = wire::BeginRequest { wish, ..login("bob", "pw") };
    assert_eq!(code(logins.begin(wished).await), Code::InvalidArgument);
}

/// A directory says of everybody now and then that there is no such user.
#[tokio::test]
async fn one_answer_that_there_is_no_such_user_ends_no_session_that_is_asked_about() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let bob = bench.session_of("bob").await;
    bench.users.remove_user("bob");
    for _ in 0..3 {
        assert_eq!(bench.check(&bob.token).await, Err(Code::Unavailable));
    }
    let request = wire::AssertRequest { token: bob.token.clone(), audience: "certd".into() };
    assert_eq!(code(bench.sessions().await.assert(request).await), Code::Unavailable);
    let _ = bench.users.clone().user("bob", 1001, 1001, "/bin/sh", &[37]);
    assert!(bench.check(&bob.token).await.is_ok(), "it is there when its user is");
    // Somebody else of that name is an answer like any other.
    bench.users.remove_user("bob");
    let _ = bench.users.clone().user("bob", 2001, 2001, "/bin/sh", &[37]);
    assert_eq!(bench.check(&bob.token).await, Err(Code::NotFound));
}

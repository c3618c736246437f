//! A gateway that was taken over: it has the uid and the sockets, and calls what it likes in any order.
//!
//! It knows what a gateway comes to see (names of sessions and of conversations, tokens that have ended,
//! a handle that was used, one right password of somebody who needs a second answer), and must get no
//! session, no rights and no assertion out of it.

#[path = "evil_gateway/calls.rs"]
mod calls;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_proto::authd::v1::{
    AbandonRequest, Activity, ActivityReport, AssertRequest, BackendsRequest, BeginRequest, CertificateProof,
    ChallengeRequest, CheckRequest, Dialect, EndOtherRequest, EndRequest, ExplainRequest, Jwt, ListRequest,
    LocalPeer, LogsRequest, Model, Others, Outcome, Password, RespondRequest, Source, TlsCertificate, Token,
    TokenWish, WatchEndedRequest, WatchPenaltiesRequest, begin_request::Method, end_other_request::Which,
    outcome::Kind,
};
use doorward_tests::grpc::{Authd, ask_peer};
use doorward_tests::{CODE, Client, Options, Pam, Person, Role, Stack, secrets, skip};
use prost::Message;
use tonic::{Response, Status};

use self::calls::{Call, Call::*, QUICK, SLOW, method};
use crate::support::Doorstep;

/// The public key of an issuer of authd's configuration (RFC 8037, A.2), who vouches for users of the host.
const ISSUER: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

/// A connection of the gateway that no sequence uses for itself.
const ELSEWHERE: &str = "7a0b1f04-6b1c-4c54-9d5e-7f3f0f1cffff";

#[test]
fn every_method_is_called() {
    let files = prost_types::FileDescriptorSet::decode(doorward_proto::DESCRIPTORS).expect("descriptors");
    let authd = files.file.iter().filter(|file| file.package() == "doorward.authd.v1");
    let services = authd.flat_map(|file| &file.service);
    let all: BTreeSet<String> = services
        .flat_map(|service| service.method.iter().map(|m| format!("{}/{}", service.name(), m.name())))
        .collect();
    let called: BTreeSet<String> =
        [QUICK, SLOW].concat().into_iter().map(|call| method(call).to_owned()).collect();
    assert_eq!(called, all);
}

/// What the evil gateway knows.
struct Known {
    stack: Stack,
    alice: Person,
    bob: Person,
    two: Person,
    session: String,
    ended: String,
    used: Vec<u8>,
    /// Somebody else's conversation, which waits for a code.
    conversation: Mutex<String>,
    /// A connection whose far end is alice's; `None` without root.
    near: Option<(OwnedFd, OwnedFd)>,
    _doorstep: Doorstep,
}

/// One sequence under way.
struct Sequence<'a> {
    known: &'a Known,
    authd: Authd,
    connection: String,
    own: String,
}

impl Sequence<'_> {
    /// Makes the call; what it got that it should not have.
    async fn call(&mut self, call: Call) -> Result<(), String> {
        let Known { session, ended, .. } = self.known;
        match call {
            CheckForged => self.check("f81d4fae-7dec-41d0-a765-00a0c91e6bf6").await,
            CheckSessionName => self.check(session).await,
            CheckEnded => self.check(ended).await,
            LookForged => self.look("f81d4fae-7dec-41d0-a765-00a0c91e6bf6").await,
            LookEnded => self.look(ended).await,
            EndSessionName => {
                drop(self.authd.sessions.end(EndRequest { token: session.clone() }).await);
                Ok(())
            }
            AssertSessionName => self.assert(session).await,
            AssertEnded => self.assert(ended).await,
            ReportSessionName => {
                let activities = vec![
                    Activity { token: session.clone(), used_ms_ago: 0 },
                    Activity { token: ended.clone(), used_ms_ago: u64::MAX },
                ];
                drop(self.authd.sessions.report_activity(ActivityReport { activities }).await);
                Ok(())
            }
            ListSessionName => self.list(session).await,
            ListEnded => self.list(ended).await,
            ListForged => self.list("f81d4fae-7dec-41d0-a765-00a0c91e6bf6").await,
            LogsSessionName => self.logs(session).await,
            LogsEnded => self.logs(ended).await,
            LogsForged => self.logs("f81d4fae-7dec-41d0-a765-00a0c91e6bf6").await,
            EndOtherSessionName => self.end_other(session, Which::Session(session.clone())).await,
            EndOtherEnded => self.end_other(ended, Which::Session(session.clone())).await,
            EndOthersSessionName => self.end_other(session, Which::Others(Others {})).await,
            WatchEnded => {
                drop(self.authd.sessions.watch_ended(WatchEndedRequest {}).await);
                Ok(())
            }
            WatchPenalties => {
                drop(self.authd.login.watch_penalties(WatchPenaltiesRequest {}).await);
                Ok(())
            }
            BeginTokenSessionName => self.begin(Some(Method::Token(Token { token: session.clone() }))).await,
            BeginTokenEnded => self.begin(Some(Method::Token(Token { token: ended.clone() }))).await,
            BeginLocalForged => self.begin_local(vec![0; 16], &self.known.alice.name).await,
            BeginLocalUsed => self.begin_local(self.known.used.clone(), &self.known.alice.name).await,
            BeginLocalOtherUser => self.begin_as(&self.known.bob.name, None).await,
            BeginLocalRoot => self.begin_as("root", None).await,
            BeginLocalOtherConnection => self.begin_as(&self.known.alice.name, Some(ELSEWHERE)).await,
            BeginNothing => self.begin(None).await,
            BeginWrongPassword => self.begin_password(&self.known.alice.name, "not the password").await,
            BeginEmptyPassword => self.begin_password(&self.known.alice.name, "").await,
            BeginRootEmptyPassword => self.begin_password("root", "").await,
            BeginAlmost => self.begin_password(&self.known.two.name, &self.known.two.password).await,
            RespondForAnother => {
                let conversation = self.known.conversation.lock().expect("no panic").clone();
                self.respond(&conversation, CODE).await
            }
            RespondWrong | RespondAgain => self.respond(&self.own.clone(), "not the colour").await,
            RespondNowhere => self.respond("", CODE).await,
            AbandonOwn => self.abandon(&self.connection.clone()).await,
            AbandonAny => self.abandon("").await,
            Challenge => {
                let request = ChallengeRequest { connection: self.connection.clone(), server_key: vec![] };
                drop(self.authd.login.challenge(request).await);
                Ok(())
            }
            BeginForgedProof => {
                let username = self.known.alice.name.clone();
                let proof = CertificateProof { signature: vec![1; 256], username, fingerprint: vec![] };
                self.begin(Some(Method::CertificateProof(proof))).await
            }
            BeginUnprovenKey => {
                let username = self.known.alice.name.clone();
                let key = TlsCertificate { username, key: vec![2; 64], certificate: vec![] };
                self.begin(Some(Method::TlsCertificate(key))).await
            }
            // A session that is taken up or the kernel's word is no token to be handed on.
            BeginApiByToken => {
                let token = Method::Token(Token { token: ended.clone() });
                self.begin_as_wished(Dialect::Token, Some(wish("")), Some(token)).await
            }
            BeginApiLocal => {
                let Some((near, _)) = &self.known.near else { return Ok(()) };
                let handle = ask_peer(&self.known.stack, &self.connection, &[near.as_fd()]);
                let Ok(handle) = handle else { return Ok(()) };
                let local = Method::LocalPeer(LocalPeer { handle, ..LocalPeer::default() });
                self.begin_as_wished(Dialect::Token, Some(wish("")), Some(local)).await
            }
            BeginApiWrongPassword => {
                let method = word(&self.known.alice.name, "not the password");
                self.begin_as_wished(Dialect::Token, Some(wish("")), method).await
            }
            // Right, but PAM asks for a second answer.
            BeginApiAlmost => {
                let method = word(&self.known.two.name, &self.known.two.password);
                self.begin_as_wished(Dialect::Token, Some(wish("")), method).await
            }
            BeginApiElsewhere => {
                let method = word(&self.known.two.name, &self.known.two.password);
                self.begin_as_wished(Dialect::Token, Some(wish("no such backend")), method).await
            }
            BeginWishAstray => {
                let method = word(&self.known.alice.name, "not the password");
                self.begin_as_wished(Dialect::Sysadm, Some(wish("")), method).await
            }
            BeginJwtUnsigned => self.begin_jwt(Dialect::Channel, &self.known.alice.name, None).await,
            // What everybody can read, as if it were a shared secret.
            BeginJwtByPublicKey => {
                self.begin_jwt(Dialect::Channel, &self.known.alice.name, Some(ISSUER)).await
            }
            BeginJwtForRoot => self.begin_jwt(Dialect::Channel, "root", Some(ISSUER)).await,
            BeginJwtAstray => self.begin_jwt(Dialect::Sysadm, &self.known.alice.name, Some(ISSUER)).await,
            BeginKindUnknown => self.begin_kind("terminal").await,
            BeginKindUser => self.begin_kind("user").await,
            CheckChannelSessionName => {
                let (token, dialect) = (session.clone(), Dialect::Channel.into());
                let request = CheckRequest { token, used_ms_ago: None, dialect };
                self.authd.sessions.check(request).await.map_or(Ok(()), |session| Err(format!("{session:?}")))
            }
            Backends => {
                drop(self.authd.login.backends(BackendsRequest {}).await);
                Ok(())
            }
            Explain => {
                let user = self.known.alice.name.clone();
                let subject = "sysadm.rpc.query._".to_owned();
                let request = ExplainRequest { user, subject, dialect: Dialect::Sysadm.into() };
                let told = self.authd.rights.explain(request).await;
                told.map_or(Ok(()), |told| Err(format!("somebody's rights: {told:?}")))
            }
        }
    }

    async fn look(&mut self, token: &str) -> Result<(), String> {
        let request =
            CheckRequest { token: token.to_owned(), used_ms_ago: Some(0), dialect: Dialect::Token.into() };
        self.authd.sessions.check(request).await.map_or(Ok(()), |session| Err(format!("{session:?}")))
    }

    async fn check(&mut self, token: &str) -> Result<(), String> {
        let request =
            CheckRequest { token: token.to_owned(), used_ms_ago: Some(0), dialect: Dialect::Sysadm.into() };
        self.authd.sessions.check(request).await.map_or(Ok(()), |session| Err(format!("{session:?}")))
    }

    async fn assert(&mut self, token: &str) -> Result<(), String> {
        let request = AssertRequest { token: token.to_owned(), audience: "certd".to_owned() };
        self.authd.sessions.assert(request).await.map_or(Ok(()), |_| Err("an assertion".to_owned()))
    }

    async fn list(&mut self, token: &str) -> Result<(), String> {
        let request = ListRequest { token: token.to_owned(), ..Default::default() };
        self.authd.sessions.list(request).await.map_or(Ok(()), |page| Err(format!("a list: {page:?}")))
    }

    async fn logs(&mut self, token: &str) -> Result<(), String> {
        let request =
            LogsRequest { token: token.to_owned(), until: u64::MAX, most: 10, ..Default::default() };
        let Ok(read) = self.authd.sessions.logs(request).await else { return Ok(()) };
        match read.into_inner().message().await {
            Ok(part) => Err(format!("records: {part:?}")),
            Err(_) => Ok(()),
        }
    }

    async fn end_other(&mut self, token: &str, which: Which) -> Result<(), String> {
        let request = EndOtherRequest { token: token.to_owned(), which: Some(which) };
        self.authd.sessions.end_other(request).await.map_or(Ok(()), |reply| Err(format!("{reply:?}")))
    }

    async fn begin(&mut self, method: Option<Method>) -> Result<(), String> {
        self.begin_as_wished(Dialect::Sysadm, None, method).await
    }

    async fn begin_as_wished(
        &mut self,
        dialect: Dialect,
        wish: Option<TokenWish>,
        method: Option<Method>,
    ) -> Result<(), String> {
        let request = BeginRequest {
            connection: self.connection.clone(),
            source: Some(Source {
                address: "192.0.2.7".to_owned(),
                local_uid: None,
                forwarded: String::new(),
            }),
            dialect: dialect.into(),
            wish,
            method,
        };
        let outcome = self.authd.login.begin(request).await;
        self.judge(outcome)
    }

    async fn begin_jwt(&mut self, dialect: Dialect, user: &str, key: Option<&str>) -> Result<(), String> {
        let claims = serde_json::json!({ "iss": "issuer", "sub": user, "exp": 4_000_000_000_u64 });
        let algorithm = if key.is_some() { "HS256" } else { "none" };
        let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
        let header = serde_json::json!({ "alg": algorithm, "typ": "JWT" }).to_string();
        let signed = format!("{}.{}", part(header.as_bytes()), part(claims.to_string().as_bytes()));
        let signature = key.map_or_else(String::new, |key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            part(hmac::sign(&key, signed.as_bytes()).as_ref())
        });
        let jwt = Method::Jwt(Jwt { jwt: format!("{signed}.{signature}") });
        self.begin_as_wished(dialect, None, Some(jwt)).await
    }

    async fn begin_kind(&mut self, kind: &str) -> Result<(), String> {
        let credentials = br#"{"username":"root","uid":0}"#.to_vec();
        let model = Method::Model(Model { kind: kind.to_owned(), credentials });
        self.begin_as_wished(Dialect::Channel, None, Some(model)).await
    }

    async fn begin_password(&mut self, username: &str, password: &str) -> Result<(), String> {
        let (username, password) = (username.to_owned(), password.to_owned());
        self.begin(Some(Method::Password(Password { username, password }))).await
    }

    async fn begin_local(&mut self, handle: Vec<u8>, username: &str) -> Result<(), String> {
        self.begin(Some(Method::LocalPeer(LocalPeer {
            handle,
            username: username.to_owned(),
            ..LocalPeer::default()
        })))
        .await
    }

    /// With a fresh handle of alice's connection, for this connection or another.
    async fn begin_as(&mut self, username: &str, connection: Option<&str>) -> Result<(), String> {
        let Some((near, _)) = &self.known.near else { return Ok(()) };
        let connection = connection.unwrap_or(&self.connection);
        // A full table of handles is a refusal like any other.
        let Ok(handle) = ask_peer(&self.known.stack, connection, &[near.as_fd()]) else { return Ok(()) };
        self.begin_local(handle, username).await
    }

    async fn respond(&mut self, conversation: &str, answer: &str) -> Result<(), String> {
        let request = RespondRequest {
            connection: self.connection.clone(),
            conversation: conversation.to_owned(),
            answers: vec![answer.to_owned()],
        };
        let outcome = self.authd.login.respond(request).await;
        self.judge(outcome)
    }

    async fn abandon(&mut self, connection: &str) -> Result<(), String> {
        drop(self.authd.login.abandon(AbandonRequest { connection: connection.to_owned() }).await);
        Ok(())
    }

    fn judge(&mut self, outcome: Result<Response<Outcome>, Status>) -> Result<(), String> {
        match outcome.map(|outcome| outcome.into_inner().kind) {
            Ok(Some(Kind::Granted(granted))) => {
                secrets::register(&granted.token);
                Err(format!("a session: {:?}", granted.session))
            }
            Ok(Some(Kind::Prompts(prompts))) => {
                self.own = prompts.conversation;
                Ok(())
            }
            Ok(Some(Kind::InvalidExpiration(_))) => Err("that credentials were right".to_owned()),
            Ok(Some(Kind::Denied(_) | Kind::Penalised(_) | Kind::NoSuchKind(_)) | None) | Err(_) => Ok(()),
        }
    }
}

fn wish(backend: &str) -> TokenWish {
    TokenWish { backend: backend.to_owned(), expiration_seconds: Some(u64::MAX) }
}

fn word(username: &str, password: &str) -> Option<Method> {
    Some(Method::Password(Password { username: username.to_owned(), password: password.to_owned() }))
}

/// All sequences of this length.
fn sequences(calls: &[Call], length: u32) -> Vec<Vec<Call>> {
    let all = calls.len().pow(length);
    let digit = |number: usize, place| calls[number / calls.len().pow(place) % calls.len()];
    (0..all).map(|number| (0..length).map(|place| digit(number, place)).collect()).collect()
}

async fn every_order(pam: Pam) {
    let doorstep = Doorstep::new();
    let mut options = Options::new(pam).authd("pam.refusal_delay_ms", 1);
    options = options.authd("peers.gateway_socket", doorstep.path());
    options = options.authd("sessions.idle_seconds", 3600).authd("pam.answer_seconds", 300);
    let keys = tempfile::tempdir().expect("temp dir");
    std::fs::set_permissions(keys.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let file = keys.path().join("issuer.pem");
    std::fs::write(&file, ISSUER).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let issuer = [
        ("kind", "user"),
        ("issuer", "issuer"),
        ("algorithm", "EdDSA"),
        ("key_file", file.to_str().expect("plain")),
    ];
    let issuer: toml::Table =
        issuer.map(|(key, value)| (key.to_owned(), toml::Value::from(value))).into_iter().collect();
    options = options.authd("jwt", vec![toml::Value::Table(issuer)]);
    for bound in ["pam.per_source", "pam.per_account", "pam.conversations"] {
        options = options.authd(bound, 64);
    }
    let Some(stack) = Stack::start(&options) else { return };
    secrets::register("not the password");
    secrets::register("not the colour");
    let mut honest = Client::tls(&stack).await;
    let token = honest.login(stack.person(Role::Full)).await.expect("alice logs in");
    let known = Arc::new(known(stack, doorstep, &token).await);

    let everything: Vec<Call> = [QUICK, SLOW].concat();
    let all = match (skip::long(), pam) {
        (true, Pam::Wrapper) => [sequences(&everything, 2), sequences(&everything, 3)].concat(),
        // What hashes a password for real takes hours in each of 175,616 orders.
        (true, Pam::Real) | (false, Pam::Wrapper) => {
            [sequences(&everything, 2), sequences(QUICK, 3)].concat()
        }
        (false, Pam::Real) => [sequences(&everything, 1), sequences(QUICK, 2)].concat(),
    };
    // In parts, because nobody may wait for ever with a code.
    for part in all.chunks(4_000) {
        let mut waiting = Client::tls(&known.stack).await;
        let conversation = waiting.login_prompts(known.stack.person(Role::Code)).await;
        known.conversation.lock().expect("no panic").clone_from(&conversation);
        play(&known, part.to_vec()).await;
        // Those who did act are as they were: alice is logged in, and the code still finishes its login.
        assert!(honest.logged_in().await, "alice's session is gone");
        waiting.respond(&conversation, &[CODE]).await.expect("the waiting login goes on");
        waiting.close().await;
    }
    honest.close().await;
    let mut known = Arc::into_inner(known).expect("all sequences are over");
    assert!(known.stack.runs());
}

async fn known(stack: Stack, doorstep: Doorstep, token: &str) -> Known {
    let mut authd = Authd::as_gateway(&stack).await;
    let check = CheckRequest { token: token.to_owned(), used_ms_ago: None, dialect: Dialect::Sysadm.into() };
    let session = authd.sessions.check(check).await.expect("alice's session").into_inner().session;
    let mut client = Client::tls(&stack).await;
    let ended = client.login(stack.person(Role::Limited)).await.expect("bob logs in");
    authd.sessions.end(EndRequest { token: ended.clone() }).await.expect("bob's session ends");
    let alice = stack.person(Role::Full).clone();
    let near = skip::is_root().then(|| doorstep.accept_from(alice.uid));
    let mut used = vec![7; 16];
    if let Some((near, _)) = &near {
        used = ask_peer(&stack, ELSEWHERE, &[near.as_fd()]).expect("a handle");
        let method = Some(Method::LocalPeer(LocalPeer {
            handle: used.clone(),
            username: alice.name.clone(),
            ..LocalPeer::default()
        }));
        let request = BeginRequest {
            connection: ELSEWHERE.to_owned(),
            dialect: Dialect::Sysadm.into(),
            wish: None,
            method,
            source: None,
        };
        if let Ok(outcome) = authd.login.begin(request).await
            && let Some(Kind::Granted(granted)) = outcome.into_inner().kind
        {
            let token = secrets::register(&granted.token).to_owned();
            authd.sessions.end(EndRequest { token }).await.expect("that session ends");
        }
    }
    let (bob, two) = (stack.person(Role::Limited).clone(), stack.person(Role::Two).clone());
    let conversation = Mutex::default();
    Known { stack, alice, bob, two, session, ended, used, conversation, near, _doorstep: doorstep }
}

/// Plays them all, a few at the same time, each on a connection of its own.
async fn play(known: &Arc<Known>, all: Vec<Vec<Call>>) {
    let (all, next) = (Arc::new(all), Arc::new(AtomicUsize::new(0)));
    let mut players = Vec::new();
    for player in 0..4 {
        let (known, all, next) = (Arc::clone(known), Arc::clone(&all), Arc::clone(&next));
        players.push(tokio::spawn(async move {
            let authd = Authd::as_gateway(&known.stack).await;
            let mut sequences = 0_u64;
            while let Some(calls) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                sequences += 1;
                let connection = format!("7a0b1f04-6b1c-4c54-{player:04x}-{sequences:012x}");
                let mut sequence =
                    Sequence { known: &known, authd: authd.clone(), connection, own: "none".to_owned() };
                for call in calls {
                    if let Err(got) = sequence.call(*call).await {
                        panic!("{call:?} in {calls:?} got {got}");
                    }
                }
                // A gateway tells when a connection has closed; this frees its conversations.
                let connection = sequence.connection.clone();
                sequence.abandon(&connection).await.expect("abandoning always works");
            }
        }));
    }
    for player in players {
        player.await.expect("no sequence got anything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_calls_gets_a_session_under_libpam_wrapper() {
    every_order(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_calls_gets_a_session_with_real_accounts() {
    every_order(Pam::Real).await;
}

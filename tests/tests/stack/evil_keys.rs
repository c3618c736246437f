//! The gateway that was taken over, at certd's door and with keys at authd's, where it is believed nothing
//! (both switches off).
//!
//! It knows every public key, a signature that was used, an assertion for somebody else's ears, one of a
//! session that a key opened, and one of bob's, who is logged in; it has a key of its own, and sees whatever
//! is asked of those who log in. It must get nobody else's session, register no key that is not proven, and
//! revoke nobody else's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_proto::authd::v1::{
    AssertRequest, BeginRequest, CertificateProof, ChallengeRequest as LoginChallenge, Dialect,
    TlsCertificate, begin_request::Method, outcome::Kind,
};
use doorward_proto::certd::v1::{
    ChallengeRequest, Entry, ExportRequest, ListRequest, LoadedRequest, LogsRequest,
    RegisterChallengeRequest, RegisterRequest, RevokeRequest, VerifyRequest, WatchRevokedRequest,
};
use doorward_tests::grpc::{Authd, Certd};
use doorward_tests::keys::{Form, Key, Kind as KeyKind, Quick, der};
use doorward_tests::{Client, Options, Pam, Role, Stack, secrets, skip};
use prost::Message as _;
use serde_json::json;
use tonic::Status;

use crate::support::{Purpose, answer, challenge, listed, log_in_with, register};

/// One call that must come to nothing; the challenges are those that a gateway may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    ListNone,
    ListForged,
    ListUnsigned,
    ListSwapped,
    ListOtherAudience,
    LogsNone,
    LogsForged,
    LogsSwapped,
    LogsOtherAudience,
    ChallengeForged,
    ChallengeByKey,
    ChallengeBob,
    ChallengeAlice,
    RegisterForged,
    RegisterByKey,
    RegisterUnproven,
    RegisterLoaded,
    RegisterReplayed,
    RegisterLoginProof,
    RegisterOtherSession,
    RevokeForged,
    RevokeByKey,
    RevokeOther,
    ProofsChallenge,
    ProofsVerify,
    ProofsLoaded,
    ProofsWatch,
    StoreExport,
    StoreImport,
    LoginChallengeOwn,
    LoginReplayed,
    LoginOwnKey,
    LoginRegistration,
    LoginLoaded,
    LoginLoadedFull,
    LoginLoadedRoot,
}

use Call::*;

/// Those that depend on what was called before.
const STATEFUL: &[Call] = &[
    ChallengeBob,
    ChallengeAlice,
    ChallengeByKey,
    RegisterReplayed,
    RegisterLoginProof,
    RegisterOtherSession,
    RegisterLoaded,
    LoginChallengeOwn,
    LoginReplayed,
    LoginOwnKey,
    LoginRegistration,
];

const STATELESS: &[Call] = &[
    ListNone,
    ListForged,
    ListUnsigned,
    ListSwapped,
    ListOtherAudience,
    LogsNone,
    LogsForged,
    LogsSwapped,
    LogsOtherAudience,
    ChallengeForged,
    RegisterForged,
    RegisterByKey,
    RegisterUnproven,
    RevokeForged,
    RevokeByKey,
    RevokeOther,
    ProofsChallenge,
    ProofsVerify,
    ProofsLoaded,
    ProofsWatch,
    StoreExport,
    StoreImport,
    LoginLoaded,
    LoginLoadedFull,
    LoginLoadedRoot,
];

/// The method of certd's that a call calls; nothing for authd's.
fn method(call: Call) -> Option<&'static str> {
    Some(match call {
        ListNone | ListForged | ListUnsigned | ListSwapped | ListOtherAudience => "Registry/List",
        LogsNone | LogsForged | LogsSwapped | LogsOtherAudience => "Registry/Logs",
        ChallengeForged | ChallengeByKey | ChallengeBob | ChallengeAlice => "Registry/RegisterChallenge",
        RegisterForged | RegisterByKey | RegisterUnproven | RegisterLoaded | RegisterReplayed
        | RegisterLoginProof | RegisterOtherSession => "Registry/Register",
        RevokeForged | RevokeByKey | RevokeOther => "Registry/Revoke",
        ProofsChallenge => "Proofs/Challenge",
        ProofsVerify => "Proofs/Verify",
        ProofsLoaded => "Proofs/Loaded",
        ProofsWatch => "Proofs/WatchRevoked",
        StoreExport => "Store/Export",
        StoreImport => "Store/Import",
        LoginChallengeOwn | LoginReplayed | LoginOwnKey | LoginRegistration | LoginLoaded
        | LoginLoadedFull | LoginLoadedRoot => return None,
    })
}

#[test]
fn every_method_of_certd_is_called() {
    let files = prost_types::FileDescriptorSet::decode(doorward_proto::DESCRIPTORS).expect("descriptors");
    let certd = files.file.iter().filter(|file| file.package() == "doorward.certd.v1");
    let services = certd.flat_map(|file| &file.service);
    let all: BTreeSet<String> = services
        .flat_map(|service| service.method.iter().map(|m| format!("{}/{}", service.name(), m.name())))
        .collect();
    let called: BTreeSet<String> = [STATEFUL, STATELESS]
        .concat()
        .into_iter()
        .filter_map(|call| method(call).map(str::to_owned))
        .collect();
    assert_eq!(called, all);
}

/// What the evil gateway knows.
struct Known {
    stack: Stack,
    alice: String,
    bob: String,
    /// bob's registered key, with a certificate; the gateway has the public part only.
    bobs: Key,
    own: Quick,
    /// A signature of bob's that was good once.
    used: Vec<u8>,
}

/// Identity assertions, good and bad.
struct Assertions {
    bob: String,
    alice: String,
    by_key: String,
    other_audience: String,
    forged: String,
    unsigned: String,
    swapped: String,
}

/// One sequence under way.
struct Sequence<'a> {
    known: &'a Known,
    assertions: &'a Assertions,
    authd: Authd,
    certd: Certd,
    connection: String,
    /// Context and string of the last challenges.
    bob_was_asked: (String, String),
    alice_was_asked: (String, String),
    login_was_asked: (String, String),
}

impl Sequence<'_> {
    /// Makes the call; what it got that it should not have.
    async fn call(&mut self, call: Call) -> Result<(), String> {
        let Known { alice, bob, bobs, own, used, .. } = self.known;
        let assertions = self.assertions;
        let connection = self.connection.clone();
        match call {
            ListNone => self.list("").await,
            ListForged => self.list(&assertions.forged).await,
            ListUnsigned => self.list(&assertions.unsigned).await,
            ListSwapped => self.list(&assertions.swapped).await,
            ListOtherAudience => self.list(&assertions.other_audience).await,
            LogsNone => self.logs("").await,
            LogsForged => self.logs(&assertions.forged).await,
            LogsSwapped => self.logs(&assertions.swapped).await,
            LogsOtherAudience => self.logs(&assertions.other_audience).await,
            ChallengeForged => got(self.challenge(&assertions.forged).await),
            ChallengeByKey => got(self.challenge(&assertions.by_key).await),
            ChallengeBob => {
                self.bob_was_asked = self.challenge(&assertions.bob).await.map_err(|e| e.to_string())?;
                Ok(())
            }
            ChallengeAlice => {
                self.alice_was_asked = self.challenge(&assertions.alice).await.map_err(|e| e.to_string())?;
                Ok(())
            }
            RegisterForged => {
                self.register(&assertions.forged, own.spki(), &self.bob_was_asked.clone()).await
            }
            RegisterByKey => self.register(&assertions.by_key, own.spki(), &self.bob_was_asked.clone()).await,
            RegisterUnproven => self.register_with(&assertions.bob, own.spki(), vec![], vec![]).await,
            RegisterLoaded => self.register_with(&assertions.bob, own.spki(), vec![], own.spki()).await,
            // bob's key for alice, by what bob once signed.
            RegisterReplayed => self.register_with(&assertions.alice, bobs.der(), used.clone(), vec![]).await,
            RegisterLoginProof => {
                self.register(&assertions.bob, own.spki(), &self.login_was_asked.clone()).await
            }
            // What alice's session was asked, answered in bob's.
            RegisterOtherSession => {
                self.register(&assertions.bob, own.spki(), &self.alice_was_asked.clone()).await
            }
            RevokeForged => self.revoke(&assertions.forged, bobs.der(), "").await,
            RevokeByKey => self.revoke(&assertions.by_key, bobs.der(), bob).await,
            RevokeOther => self.revoke(&assertions.bob, bobs.der(), alice).await,
            ProofsChallenge => {
                got(self.certd.proofs.challenge(ChallengeRequest { connection, server_key: vec![] }).await)
            }
            ProofsVerify => {
                let request = VerifyRequest { connection, signature: used.clone(), ..Default::default() };
                got(self.certd.proofs.verify(request).await)
            }
            ProofsLoaded => {
                let request = LoadedRequest { user: bob.clone(), key: bobs.der(), ..Default::default() };
                got(self.certd.proofs.loaded(request).await)
            }
            ProofsWatch => got(self.certd.proofs.watch_revoked(WatchRevokedRequest { since: 1 }).await),
            StoreExport => got(self.certd.store.export(ExportRequest {}).await),
            StoreImport => {
                let entry = Entry { key: own.spki(), user: bob.clone(), proven: true, ..Default::default() };
                got(self.certd.store.import(tokio_stream::iter([entry])).await)
            }
            LoginChallengeOwn => {
                let request = LoginChallenge { connection, server_key: vec![] };
                let reply =
                    self.authd.login.challenge(request).await.map_err(|e| e.to_string())?.into_inner();
                self.login_was_asked = (reply.context, reply.test_string);
                Ok(())
            }
            LoginReplayed => self.log_in(used.clone(), bob).await,
            LoginOwnKey => {
                let (context, text) = self.login_was_asked.clone();
                self.log_in(own.prove(&context, &text), bob).await
            }
            LoginRegistration => {
                let (context, text) = self.bob_was_asked.clone();
                self.log_in(own.prove(&context, &text), "").await
            }
            LoginLoaded => self.loaded(bob).await,
            LoginLoadedFull => self.loaded(alice).await,
            LoginLoadedRoot => self.loaded("root").await,
        }
    }

    async fn list(&mut self, assertion: &str) -> Result<(), String> {
        got(self.certd.registry.list(ListRequest { assertion: assertion.to_owned() }).await)
    }

    async fn logs(&mut self, assertion: &str) -> Result<(), String> {
        let assertion = assertion.to_owned();
        let request = LogsRequest { assertion, until: u64::MAX, most: 10, ..Default::default() };
        got(self.certd.registry.logs(request).await)
    }

    async fn challenge(&mut self, assertion: &str) -> Result<(String, String), Status> {
        let request = RegisterChallengeRequest {
            assertion: assertion.to_owned(),
            connection: self.connection.clone(),
            server_key: vec![],
        };
        let reply = self.certd.registry.register_challenge(request).await?.into_inner();
        Ok((reply.context, reply.test_string))
    }

    /// With a proof by the gateway's own key over what was asked.
    async fn register(
        &mut self,
        assertion: &str,
        key: Vec<u8>,
        (context, text): &(String, String),
    ) -> Result<(), String> {
        let proof = self.known.own.prove(context, text);
        self.register_with(assertion, key, proof, vec![]).await
    }

    async fn register_with(
        &mut self,
        assertion: &str,
        public_key: Vec<u8>,
        proof: Vec<u8>,
        loaded_key: Vec<u8>,
    ) -> Result<(), String> {
        let request = RegisterRequest {
            assertion: assertion.to_owned(),
            connection: self.connection.clone(),
            public_key,
            proof,
            loaded_key,
            ..Default::default()
        };
        got(self.certd.registry.register(request).await)
    }

    async fn revoke(&mut self, assertion: &str, public_key: Vec<u8>, user: &str) -> Result<(), String> {
        let request = RevokeRequest { assertion: assertion.to_owned(), public_key, user: user.to_owned() };
        got(self.certd.registry.revoke(request).await)
    }

    async fn log_in(&mut self, signature: Vec<u8>, username: &str) -> Result<(), String> {
        let username = username.to_owned();
        self.begin(Method::CertificateProof(CertificateProof { signature, username, fingerprint: vec![] }))
            .await
    }

    async fn loaded(&mut self, username: &str) -> Result<(), String> {
        let bobs = &self.known.bobs;
        let (key, certificate) = (bobs.der(), der(&bobs.certificate()));
        self.begin(Method::TlsCertificate(TlsCertificate { username: username.to_owned(), key, certificate }))
            .await
    }

    async fn begin(&mut self, method: Method) -> Result<(), String> {
        let request = BeginRequest {
            connection: self.connection.clone(),
            source: None,
            dialect: Dialect::Sysadm.into(),
            wish: None,
            method: Some(method),
        };
        match self.authd.login.begin(request).await.map(|outcome| outcome.into_inner().kind) {
            Ok(Some(Kind::Granted(granted))) => {
                secrets::register(&granted.token);
                Err(format!("a session: {:?}", granted.session))
            }
            Ok(
                Some(
                    Kind::Denied(_)
                    | Kind::Penalised(_)
                    | Kind::Prompts(_)
                    | Kind::InvalidExpiration(_)
                    | Kind::NoSuchKind(_),
                )
                | None,
            )
            | Err(_) => Ok(()),
        }
    }
}

/// Anything but a refusal is too much.
fn got<T>(result: Result<T, Status>) -> Result<(), String> {
    result.map_or(Ok(()), |_| Err("an answer".to_owned()))
}

/// A JWT with these claims; `sign` makes its signature.
fn jwt(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

impl Assertions {
    /// `tokens` of bob, of alice, and of a session of alice's that a key opened.
    async fn new(stack: &Stack, own: &Quick, [bob, alice, by_key]: [&str; 3]) -> Self {
        let mut authd = Authd::as_gateway(stack).await;
        let mut assert = async |token: &str, audience: &str| {
            let request = AssertRequest { token: token.to_owned(), audience: audience.to_owned() };
            let assertion = authd.sessions.assert(request).await.expect("a live session").into_inner();
            secrets::register(&assertion.jwt).to_owned()
        };
        let alices = assert(alice, "certd").await;
        let bobs = assert(bob, "certd").await;
        let by_key = assert(by_key, "certd").await;
        let other_audience = assert(alice, "sysinfo").await;
        // alice's claims word for word, signed by another key, or by nobody, or with bob's signature.
        let parts: Vec<&str> = alices.split('.').collect();
        let read =
            |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON");
        let (header, claims) = (read(parts[0]), read(parts[1]));
        let forged = jwt(&header, &claims, |bytes| own.sign(bytes));
        let unsigned = jwt(r#"{"alg":"none","typ":"JWT"}"#, &claims, |_| Vec::new());
        let swapped = format!("{}.{}.{}", parts[0], parts[1], bobs.rsplit('.').next().expect("a signature"));
        Self { bob: bobs, alice: alices, by_key, other_audience, forged, unsigned, swapped }
    }
}

/// All sequences of this length.
fn sequences(calls: &[Call], length: u32) -> Vec<Vec<Call>> {
    let all = calls.len().pow(length);
    let digit = |number: usize, place| calls[number / calls.len().pow(place) % calls.len()];
    (0..all).map(|number| (0..length).map(|place| digit(number, place)).collect()).collect()
}

async fn no_order_of_calls(pam: Pam) {
    let options = Options::new(pam)
        .authd("pam.refusal_delay_ms", 1)
        .authd("sessions.idle_seconds", 3600)
        .certd("limits.refusal_step_ms", 1)
        .certd("limits.challenges_total", 1_000_000)
        .certd("trust.registration_by_loaded_certificate", false)
        .certd("trust.tls_certificate_login", "off");
    let Some(stack) = Stack::start(&options) else { return };
    let (own, alices) = (Quick::generate(), Quick::generate());
    let bobs = Key::generate(KeyKind::Ed25519);
    let mut bob = Client::tls(&stack).await;
    let bobs_token = bob.login(stack.person(Role::Limited)).await.expect("bob logs in");
    let (context, text) = challenge(&mut bob, Purpose::Registration).await.expect("a challenge");
    let proof = bobs.prove(Form::Usual, &context, &text);
    let proof = base64::engine::general_purpose::STANDARD.encode(proof);
    let args = json!({"action": "register_ssl_cert", "pub_key": bobs.packed(), "proof": proof});
    bob.ask("rpc/settings", args).await.expect("bob's key");
    let mut alice = Client::tls(&stack).await;
    let alices_token = alice.login(stack.person(Role::Full)).await.expect("alice logs in");
    register(&mut alice, &alices, "").await.expect("alice's key");
    let mut by_key = Client::tls(&stack).await;
    let key_token = log_in_with(&mut by_key, &alices).await.expect("alice's key opens the door");
    let mut once = Client::tls(&stack).await;
    let (context, text) = challenge(&mut once, Purpose::Login).await.expect("a challenge");
    let used = bobs.prove(Form::Usual, &context, &text);
    answer(&mut once, &used, json!({})).await.expect("bob's key opens the door");
    once.close().await;
    let before = listed(&mut alice).await;

    let person = |role| stack.person(role).name.clone();
    let (alices_name, bobs_name) = (person(Role::Full), person(Role::Limited));
    let known = Arc::new(Known { stack, alice: alices_name, bob: bobs_name, bobs, own, used });
    let everything = [STATEFUL, STATELESS].concat();
    let all = match (skip::long(), pam) {
        (true, _) => [sequences(&everything, 2), sequences(STATEFUL, 4)].concat(),
        (false, Pam::Wrapper) => [sequences(&everything, 1), sequences(STATEFUL, 3)].concat(),
        (false, Pam::Real) => [sequences(&everything, 1), sequences(STATEFUL, 2)].concat(),
    };
    // In parts, because assertions live for a minute.
    for part in all.chunks(4_000) {
        let tokens = [bobs_token.as_str(), &alices_token, &key_token];
        let assertions = Arc::new(Assertions::new(&known.stack, &known.own, tokens).await);
        play(&known, &assertions, part.to_vec()).await;
    }

    let mut known = Arc::into_inner(known).expect("all sequences are over");
    assert_eq!(listed(&mut alice).await, before, "the registry was changed");
    assert!(bob.logged_in().await && by_key.logged_in().await, "a session is gone");
    let (context, text) = challenge(&mut bob, Purpose::Login).await.expect("a challenge");
    let signature = known.bobs.prove(Form::Usual, &context, &text);
    answer(&mut bob, &signature, json!({})).await.expect("bob's key still opens the door");
    for client in [alice, bob, by_key] {
        client.close().await;
    }
    assert!(known.stack.runs());
}

/// Plays them all, a few at the same time, each on a connection of its own.
async fn play(known: &Arc<Known>, assertions: &Arc<Assertions>, all: Vec<Vec<Call>>) {
    let (all, next) = (Arc::new(all), Arc::new(AtomicUsize::new(0)));
    let players = (0..4).map(|player| {
        let (known, all, next) = (Arc::clone(known), Arc::clone(&all), Arc::clone(&next));
        let assertions = Arc::clone(assertions);
        tokio::spawn(async move {
            let authd = Authd::as_gateway(&known.stack).await;
            let uid = known.stack.gateway_uid();
            let certd = Certd::connect(&known.stack, uid).await.expect("certd takes the gateway's uid");
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(calls) = all.get(number) else { break };
                let connection = format!("7a0b1f04-6b1c-4c54-{player:04x}-{number:012x}");
                let (authd, certd) = (authd.clone(), certd.clone());
                let none = || ("doorward register v1 local".to_owned(), "x".repeat(128));
                let mut sequence = Sequence {
                    known: &known,
                    assertions: &assertions,
                    authd,
                    certd,
                    connection,
                    bob_was_asked: none(),
                    alice_was_asked: none(),
                    login_was_asked: none(),
                };
                for call in calls {
                    if let Err(got) = sequence.call(*call).await {
                        panic!("{call:?} in {calls:?} got {got}");
                    }
                }
            }
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await.expect("no sequence got anything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_calls_gets_a_key_in_or_a_session_out_under_libpam_wrapper() {
    no_order_of_calls(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_calls_gets_a_key_in_or_a_session_out_with_real_accounts() {
    no_order_of_calls(Pam::Real).await;
}

/// The long form only: it takes the minute that an assertion lives.
#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_is_believed_for_its_minute_and_no_longer() {
    if !skip::long() {
        return;
    }
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut client = Client::tls(&stack).await;
    let token = client.login(stack.person(Role::Limited)).await.expect("bob logs in");
    let request = AssertRequest { token, audience: "certd".to_owned() };
    let reply = Authd::as_gateway(&stack).await.sessions.assert(request).await.expect("a live session");
    let assertion = secrets::register(&reply.into_inner().jwt).to_owned();
    let mut certd = Certd::connect(&stack, stack.gateway_uid()).await.expect("certd runs");
    let started = Instant::now();
    let request = || ListRequest { assertion: assertion.clone() };
    let over = async {
        while certd.registry.list(request()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(70), over).await.expect("it is over within its minute");
    assert!(started.elapsed() > Duration::from_secs(30), "over after {:?}", started.elapsed());
    let refused = certd.registry.list(request()).await.expect_err("over is over");
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    client.close().await;
}

//! The strict configuration: root registers keys, and the gateway's word opens nothing. The gateway that
//! was taken over then gets no key in and no session out, even for those whose fresh sessions it carries;
//! what it can still do to keys, revoke those of such a session, costs availability.

use std::time::{SystemTime, UNIX_EPOCH};

use doorward_proto::authd::v1::{
    AssertRequest, BeginRequest, CertificateProof, ChallengeRequest as LoginChallenge, Dialect,
    TlsCertificate, begin_request::Method, outcome::Kind,
};
use doorward_proto::certd::v1::{
    ChallengeRequest, Entry, ExportRequest, ListRequest, LoadedRequest, RegisterChallengeRequest,
    RegisterRequest, RevokeRequest, VerifyRequest,
};
use doorward_tests::grpc::{Authd, Certd};
use doorward_tests::keys::{Key, Kind as KeyKind, Quick, der};
use doorward_tests::{Client, Options, Pam, Person, Role, Stack, secrets, skip};
use tonic::Code;

use crate::support::{log_in_with, register};

/// What the gateway calls a connection of its own.
const CONNECTION: &str = "7a0b1f04-6b1c-4c54-8000-000000000001";

fn strict(pam: Pam) -> Options {
    Options::new(pam)
        .authd("pam.refusal_delay_ms", 1)
        .certd("limits.refusal_step_ms", 1)
        // As lax as can be in the rest: what deployed clients need.
        .certd("policy.require_key_possession", false)
        .certd("trust.registration_by_loaded_certificate", true)
        .certd("trust.registration", "root")
        .certd("trust.tls_certificate_login", "off")
}

/// As `doorward certs register --user` does, on certd's own socket.
async fn register_as_root(stack: &Stack, user: &str, key: Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
    let entry = Entry { key, user: user.into(), registered: now, ..Entry::default() };
    let mut root = Certd::connect(stack, 0).await.expect("certd takes root");
    let reply = root.store.import(tokio_stream::iter([entry])).await.expect("imported").into_inner();
    assert_eq!(reply.added, 1, "{:?}", reply.refused);
}

async fn registered(stack: &Stack) -> Vec<Entry> {
    let mut root = Certd::connect(stack, 0).await.expect("certd takes root");
    let mut stream = root.store.export(ExportRequest {}).await.expect("exported").into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = stream.message().await.expect("an entry") {
        entries.push(Entry { last_used: None, last_source: String::new(), ..entry });
    }
    entries
}

/// The gateway that was taken over.
struct Evil {
    authd: Authd,
    certd: Certd,
    own: Quick,
    own_with_certificate: Key,
}

impl Evil {
    async fn of(stack: &Stack) -> Self {
        Self {
            authd: Authd::as_gateway(stack).await,
            certd: Certd::connect(stack, stack.gateway_uid()).await.expect("certd takes the gateway's uid"),
            own: Quick::generate(),
            own_with_certificate: Key::generate(KeyKind::Rsa),
        }
    }

    /// authd's word on whose session this is, which the gateway needs for its honest work.
    async fn assertion(&mut self, token: &str) -> String {
        let request = AssertRequest { token: token.to_owned(), audience: "certd".to_owned() };
        let assertion = self.authd.sessions.assert(request).await.expect("a live session").into_inner();
        secrets::register(&assertion.jwt).to_owned()
    }

    /// Every way to register by somebody's fresh session.
    async fn registers_nothing(&mut self, assertion: &str, others: Vec<u8>) {
        let connection = CONNECTION.to_owned();
        let ask = |connection: &str| RegisterChallengeRequest {
            assertion: assertion.to_owned(),
            connection: connection.to_owned(),
            server_key: vec![],
        };
        let asked = self.certd.registry.register_challenge(ask(CONNECTION)).await.expect_err("no challenge");
        assert_eq!(asked.code(), Code::PermissionDenied, "{asked}");
        let made_up = self.own.prove("doorward register v1 local", &"x".repeat(128));
        let certificate = self.own_with_certificate.certificate().into_bytes();
        for (public_key, proof, loaded_key, certificate) in [
            (self.own.spki(), vec![], vec![], vec![]),
            (self.own.spki(), made_up, vec![], vec![]),
            (self.own.spki(), vec![], self.own.spki(), vec![]),
            (self.own_with_certificate.der(), vec![], self.own_with_certificate.der(), certificate),
            (others, vec![], vec![], vec![]),
        ] {
            let request = RegisterRequest {
                assertion: assertion.to_owned(),
                connection: connection.clone(),
                public_key,
                proof,
                loaded_key,
                certificate,
                ..Default::default()
            };
            let refused = self.certd.registry.register(request).await.expect_err("registered");
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        }
        let entry = Entry { key: self.own.spki(), user: "x".into(), proven: true, ..Default::default() };
        let imported = self.certd.store.import(tokio_stream::iter([entry])).await.expect_err("imported");
        assert_eq!(imported.code(), Code::PermissionDenied);
        let exported = self.certd.store.export(ExportRequest {}).await.expect_err("exported");
        assert_eq!(exported.code(), Code::PermissionDenied);
    }

    /// Every way to be `person` by a key whose private half it has not.
    async fn opens_nothing(&mut self, person: &Person, theirs: &Key) {
        let request = ChallengeRequest { connection: CONNECTION.into(), server_key: vec![] };
        assert!(self.certd.proofs.challenge(request).await.is_err());
        let request = VerifyRequest { user: person.name.clone(), ..Default::default() };
        assert!(self.certd.proofs.verify(request).await.is_err());
        let request = LoadedRequest { user: person.name.clone(), key: theirs.der(), ..Default::default() };
        assert!(self.certd.proofs.loaded(request).await.is_err());
        let challenge = LoginChallenge { connection: CONNECTION.into(), server_key: vec![] };
        let asked = self.authd.login.challenge(challenge).await.expect("anybody may ask").into_inner();
        for (username, fingerprint) in [(person.name.clone(), vec![]), (String::new(), vec![7; 32])] {
            let signature = self.own.prove(&asked.context, &asked.test_string);
            self.begins_nothing(Method::CertificateProof(CertificateProof {
                signature,
                username,
                fingerprint,
            }))
            .await;
        }
        let loaded = [theirs, &self.own_with_certificate].map(|key| TlsCertificate {
            username: person.name.clone(),
            key: key.der(),
            certificate: der(&key.certificate()),
        });
        for certificate in loaded {
            self.begins_nothing(Method::TlsCertificate(certificate)).await;
        }
    }

    async fn begins_nothing(&mut self, method: Method) {
        let request = BeginRequest {
            connection: CONNECTION.into(),
            source: None,
            dialect: Dialect::Sysadm.into(),
            wish: None,
            method: Some(method),
        };
        if let Ok(outcome) = self.authd.login.begin(request).await {
            let kind = outcome.into_inner().kind;
            assert!(!matches!(kind, Some(Kind::Granted(_))), "a session: {kind:?}");
        }
    }
}

async fn a_taken_over_gateway_registers_and_opens_nothing(pam: Pam) {
    if !skip::root("registering as root") {
        return;
    }
    let Some(mut stack) = Stack::start(&strict(pam)) else { return };
    let (bobs, alices) = (Quick::generate(), Key::generate(KeyKind::Rsa));
    let (bob, alice) = (stack.person(Role::Limited), stack.person(Role::Full));
    register_as_root(&stack, &bob.name, bobs.spki()).await;
    register_as_root(&stack, &alice.name, alices.der()).await;

    // Honest clients: a fresh session by password each, and bob's key opens the door.
    let (mut first, mut second, mut third) =
        (Client::tls(&stack).await, Client::unix(&stack).await, Client::tls(&stack).await);
    let bobs_token = first.login(bob).await.expect("bob logs in");
    let alices_token = second.login(alice).await.expect("alice logs in");
    log_in_with(&mut third, &bobs).await.expect("bob's key opens the door");
    // Through an honest gateway it is a plain 403.
    assert_eq!(register(&mut first, &Quick::generate(), "").await, Err(403));
    let before = registered(&stack).await;

    let mut evil = Evil::of(&stack).await;
    let assertions = [evil.assertion(&bobs_token).await, evil.assertion(&alices_token).await];
    for (assertion, others) in assertions.iter().zip([alices.der(), bobs.spki()]) {
        evil.registers_nothing(assertion, others).await;
    }
    evil.opens_nothing(bob, &alices).await;
    evil.opens_nothing(alice, &alices).await;
    assert_eq!(registered(&stack).await, before, "the registry was changed");

    // It may revoke where the session may: the key opens nothing any more, for it as for everybody.
    let revoke = |assertion: &str, key: Vec<u8>| RevokeRequest {
        assertion: assertion.to_owned(),
        public_key: key,
        user: String::new(),
    };
    let others = evil.certd.registry.revoke(revoke(&assertions[0], alices.der())).await;
    assert_eq!(others.expect_err("not bob's").code(), Code::NotFound);
    evil.certd.registry.revoke(revoke(&assertions[0], bobs.spki())).await.expect("revoked");
    let list = ListRequest { assertion: assertions[0].clone() };
    let mut left = evil.certd.registry.list(list).await.expect("bob's list").into_inner();
    assert!(left.message().await.expect("the end").is_none());
    assert_eq!(log_in_with(&mut first, &bobs).await, Err(401));
    evil.opens_nothing(bob, &alices).await;
    // Root mends it past the gateway.
    register_as_root(&stack, &bob.name, bobs.spki()).await;
    let mut again = Client::tls(&stack).await;
    log_in_with(&mut again, &bobs).await.expect("bob's key opens the door again");
    for client in [first, second, again] {
        client.close().await;
    }
    assert!(stack.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_over_gateway_registers_and_opens_nothing_under_libpam_wrapper() {
    a_taken_over_gateway_registers_and_opens_nothing(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_over_gateway_registers_and_opens_nothing_with_real_accounts() {
    a_taken_over_gateway_registers_and_opens_nothing(Pam::Real).await;
}

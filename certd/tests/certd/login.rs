//! Which proof logs in whom, and that every refusal is the same refusal.

use std::time::{Duration, Instant};

use doorward_proto::certd::v1::{LoadedRequest, VerifyRequest, WatchRevokedRequest};
use serde_json::json;
use tonic::Code;

use crate::{
    fixture::{Asker, Fixture, changed, code, now, proof, registration, start, told},
    openssl::{Form, Key},
};

const UNPROVEN: &str = "[policy]\nrequire_key_possession = false\n";
const FORMS: [Form; 6] = [Form::Bare, Form::Pkcs1, Form::Pss, Form::Ecdsa256, Form::Ecdsa384, Form::Ed25519];

async fn registered(certd: &Fixture, user: &str, key: &Key) -> Vec<u8> {
    let request = registration(certd.as_user(user), key.pem());
    certd.gateway().await.register(request).await.expect("registered").fingerprint
}

#[tokio::test]
async fn every_form_logs_its_owner_in_with_and_without_hints() {
    let certd = start(UNPROVEN).await;
    let mut asker = certd.asker().await;
    for form in FORMS {
        registered(&certd, "bystander", &Key::for_form(form)).await;
        let key = Key::for_form(form);
        let fingerprint = registered(&certd, "alice", &key).await;
        let hints: [fn(&mut VerifyRequest, &[u8]); 4] = [
            |_, _| (),
            |request, _| request.user = "alice".into(),
            |request, print| request.fingerprint = print.into(),
            |request, print| {
                request.user = "alice".into();
                request.fingerprint = print.into();
            },
        ];
        for hint in hints {
            let verified = asker.log_in(&key, form, |request| hint(request, &fingerprint)).await;
            let verified = verified.expect("logged in");
            assert_eq!((verified.user.as_str(), &verified.fingerprint), ("alice", &fingerprint), "{form:?}");
            assert!(verified.full_access);
        }
    }
}

#[tokio::test]
async fn a_challenge_counts_for_its_connection_once() {
    let certd = start(UNPROVEN).await;
    let mut asker = certd.asker().await;
    let key = Key::rsa(2048);
    registered(&certd, "alice", &key).await;
    for form in [Form::Bare, Form::Pss] {
        let asked = asker.challenge("c").await;
        let good = proof(key.prove(form, &asked.context, &asked.test_string));
        let elsewhere = VerifyRequest { connection: "d".into(), ..good.clone() };
        assert_eq!(code(&asker.verify(elsewhere.clone()).await), Code::Unauthenticated);
        asker.challenge("d").await;
        assert_eq!(code(&asker.verify(elsewhere).await), Code::Unauthenticated, "{form:?}");
        assert_eq!(code(&asker.verify(good.clone()).await), Code::Ok, "{form:?}");
        assert_eq!(code(&asker.verify(good.clone()).await), Code::Unauthenticated, "{form:?}");
        asker.challenge("c").await;
        assert_eq!(code(&asker.verify(good).await), Code::Unauthenticated, "{form:?}");
    }
}

#[tokio::test]
async fn a_failed_attempt_uses_the_challenge_up() {
    let certd = start(UNPROVEN).await;
    let mut asker = certd.asker().await;
    let key = Key::ed25519();
    registered(&certd, "alice", &key).await;
    for bad in [vec![], vec![1; 64], vec![1; 63], vec![1; 4000]] {
        let asked = asker.challenge("c").await;
        let good = proof(key.prove(Form::Ed25519, &asked.context, &asked.test_string));
        assert_eq!(code(&asker.verify(proof(bad)).await), Code::Unauthenticated);
        assert_eq!(code(&asker.verify(good).await), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn four_challenges_are_open_and_a_success_leaves_the_others() {
    let certd = start(UNPROVEN).await;
    let mut asker = certd.asker().await;
    let key = Key::rsa(2048);
    registered(&certd, "alice", &key).await;
    let mut proofs = Vec::new();
    for _ in 0..5 {
        let asked = asker.challenge("c").await;
        proofs.push(proof(key.prove(Form::Bare, &asked.context, &asked.test_string)));
    }
    for number in [2, 1, 4, 3] {
        assert_eq!(code(&asker.verify(proofs[number].clone()).await), Code::Ok, "{number}");
    }
    asker.challenge("c").await;
    assert_eq!(code(&asker.verify(proofs[0].clone()).await), Code::Unauthenticated, "displaced");
}

#[tokio::test]
async fn a_proof_relayed_from_another_server_is_refused() {
    let certd = start(UNPROVEN).await;
    let mut asker = certd.asker().await;
    for form in [Form::Pkcs1, Form::Pss, Form::Ecdsa256, Form::Ecdsa384, Form::Ed25519] {
        let key = Key::for_form(form);
        registered(&certd, "alice", &key).await;
        // The relay shows its own TLS key, so the client signs that one's context.
        let asked = asker.challenge("c").await;
        let relayed = "doorward auth_ssl v1 CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
        assert_ne!(asked.context, relayed);
        let request = proof(key.prove(form, relayed, &asked.test_string));
        assert_eq!(code(&asker.verify(request).await), Code::Unauthenticated, "{form:?}");
    }
}

#[tokio::test]
async fn contexts_name_the_server_and_strings_are_random() {
    let certd = start("").await;
    let mut asker = certd.asker().await;
    let (first, second) = (asker.challenge("c").await, asker.challenge("c").await);
    assert_eq!(first.context, "doorward auth_ssl v1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    assert_eq!(first.test_string.len(), 128);
    assert!(first.test_string.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert_ne!(first.test_string, second.test_string);
    let request = |server_key: Vec<u8>, connection: &str| doorward_proto::certd::v1::ChallengeRequest {
        connection: connection.into(),
        server_key,
    };
    let local = asker.proofs.challenge(request(vec![], "c")).await.expect("a challenge").into_inner();
    assert_eq!(local.context, "doorward auth_ssl v1 local");
    for bad in [request(vec![1; 31], "c"), request(vec![], ""), request(vec![], &"x".repeat(65))] {
        assert_eq!(code(&asker.proofs.challenge(bad).await), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn challenges_are_bounded_in_all() {
    let certd = start("[limits]\nchallenges_total = 8\nrefusal_step_ms = 1\n").await;
    let mut asker = certd.asker().await;
    let key = Key::ed25519();
    certd.gateway().await.prove(certd.as_user("alice"), &key, Form::Ed25519).await.expect("registered");
    // The oldest gives way; whoever answers soon is let in, however many ask.
    for number in 0..20 {
        asker.challenge(&format!("flood-{number}")).await;
    }
    let asked = asker.challenge("c").await;
    for number in 20..27 {
        asker.challenge(&format!("flood-{number}")).await;
    }
    let good = proof(key.prove(Form::Ed25519, &asked.context, &asked.test_string));
    asker.verify(good).await.expect("logged in");
    let asked = asker.challenge("c").await;
    for number in 0..8 {
        asker.challenge(&format!("flood-{number}")).await;
    }
    let late = proof(key.prove(Form::Ed25519, &asked.context, &asked.test_string));
    assert_eq!(code(&asker.verify(late).await), Code::Unauthenticated);
}

async fn refusal(asker: &mut Asker, request: VerifyRequest) -> ((Code, String), Duration) {
    asker.challenge(&request.connection).await;
    let started = Instant::now();
    let told = told(asker.verify(request).await);
    (told, started.elapsed())
}

#[tokio::test]
async fn nobody_learns_who_has_keys() {
    let step = Duration::from_millis(150);
    let certd = start(&format!("{UNPROVEN}[limits]\nrefusal_step_ms = 150\n")).await;
    let mut asker = certd.asker().await;
    let key = Key::ed25519();
    let fingerprint = registered(&certd, "has", &key).await;
    let revoked = Key::ed25519();
    registered(&certd, "had", &revoked).await;
    certd.gateway().await.revoke(certd.as_user("had"), revoked.pem(), "").await.expect("revoked");
    let base = || proof(vec![1; 64]);
    let by = |user: &str| VerifyRequest { user: user.into(), ..base() };
    let of = |print: &[u8]| VerifyRequest { fingerprint: print.into(), ..base() };
    for request in [
        base(),
        by("has"),
        by("had"),
        by("unknown"),
        by("root"),
        by("-rf"),
        by("a\nb"),
        by(&"x".repeat(300)),
        of(&fingerprint),
        of(&[1; 32]),
        of(&[1; 31]),
        VerifyRequest { user: "unknown".into(), ..of(&fingerprint) },
        VerifyRequest { signature: vec![], ..by("has") },
        VerifyRequest { signature: vec![1; 256], ..by("has") },
        VerifyRequest { signature: vec![1; 2000], ..by("has") },
    ] {
        let (told, took) = refusal(&mut asker, request.clone()).await;
        assert_eq!(told, (Code::Unauthenticated, "not authenticated".into()), "{:?}", request.user);
        // Answered at the step, however soon it was known. (Above: slack for a busy machine is the step.)
        assert!(took >= step, "{took:?} {:?}", request.user);
    }
    // No challenge open: the same.
    let started = Instant::now();
    assert_eq!(told(asker.verify(base()).await), (Code::Unauthenticated, "not authenticated".into()));
    assert!(started.elapsed() >= step);
}

#[tokio::test]
async fn hints_change_nothing_that_they_do_not_name() {
    let certd = start(UNPROVEN).await;
    let mut asker = certd.asker().await;
    let (alices, bobs) = (Key::ed25519(), Key::ed25519());
    let alice_print = registered(&certd, "alice", &alices).await;
    registered(&certd, "bob", &bobs).await;
    let wrong_user = asker.log_in(&alices, Form::Ed25519, |request| request.user = "bob".into()).await;
    assert_eq!(code(&wrong_user), Code::Unauthenticated);
    let wrong_key = asker.log_in(&bobs, Form::Ed25519, |request| request.fingerprint = alice_print).await;
    assert_eq!(code(&wrong_key), Code::Unauthenticated);
}

#[tokio::test]
async fn a_revoked_key_logs_nobody_in_and_watchers_hear_of_it_even_late() {
    let certd = start(UNPROVEN).await;
    let (mut gateway, mut asker) = (certd.gateway().await, certd.asker().await);
    let key = Key::ed25519();
    let fingerprint = registered(&certd, "alice", &key).await;
    let watching = WatchRevokedRequest { since: 0 };
    let mut watch = asker.proofs.watch_revoked(watching).await.expect("watching").into_inner();
    assert!(watch.message().await.expect("told").expect("ready").fingerprint.is_empty());
    asker.log_in(&key, Form::Ed25519, |_| ()).await.expect("logged in");
    let before = now();
    gateway.revoke(certd.as_user("alice"), key.pem(), "").await.expect("revoked");
    let event = watch.message().await.expect("told").expect("an event");
    assert_eq!((event.user.as_str(), &event.fingerprint), ("alice", &fingerprint));
    assert!((before..=now()).contains(&event.revoked));
    for hint in ["", "alice"] {
        let refused = asker.log_in(&key, Form::Ed25519, |request| request.user = hint.into()).await;
        assert_eq!(code(&refused), Code::Unauthenticated);
    }

    // A watcher that was away asks for what it missed, over a restart too.
    drop(watch);
    let certd = certd.restarted(UNPROVEN).await;
    let mut asker = certd.asker().await;
    let mut watch = asker
        .proofs
        .watch_revoked(WatchRevokedRequest { since: before })
        .await
        .expect("watching")
        .into_inner();
    assert!(watch.message().await.expect("told").expect("ready").fingerprint.is_empty());
    assert_eq!(watch.message().await.expect("told").expect("an event"), event);
}

#[tokio::test]
async fn watchers_are_bounded_and_end_when_certd_stops() {
    let certd = start("").await;
    let mut asker = certd.asker().await;
    let mut watches = Vec::new();
    for _ in 0..8 {
        let watch = asker.proofs.watch_revoked(WatchRevokedRequest { since: 0 }).await.expect("watching");
        watches.push(watch.into_inner());
    }
    let ninth = asker.proofs.watch_revoked(WatchRevokedRequest { since: 0 }).await;
    assert_eq!(code(&ninth), Code::ResourceExhausted);
    certd.stop().await;
    for mut watch in watches {
        watch.message().await.expect("told").expect("ready");
        assert!(!matches!(watch.message().await, Ok(Some(_))));
    }
}

fn loaded(user: &str, key: &Key) -> LoadedRequest {
    LoadedRequest {
        user: user.into(),
        key: key.der(),
        certificate: key.certificate("/CN=x", &[]),
        source: "192.0.2.1".into(),
    }
}

#[tokio::test]
async fn a_loaded_key_logs_its_owner_in_where_the_gateway_is_believed() {
    for (login, expected, full) in
        [("off", Code::Unauthenticated, false), ("limited", Code::Ok, false), ("all", Code::Ok, true)]
    {
        let certd = start(&format!("{UNPROVEN}[trust]\ntls_certificate_login = '{login}'\n")).await;
        let key = Key::curve("P-256");
        let fingerprint = registered(&certd, "alice", &key).await;
        let mut asker = certd.asker().await;
        let verdict = asker.proofs.loaded(loaded("alice", &key)).await;
        assert_eq!(code(&verdict), expected, "{login}");
        if let Ok(verified) = verdict {
            let verified = verified.into_inner();
            assert_eq!(verified.user, "alice");
            assert_eq!((verified.fingerprint, verified.full_access), (fingerprint, full));
        }
    }
}

#[tokio::test]
async fn a_loaded_key_that_is_not_registered_for_the_user_is_refused() {
    let certd = start(UNPROVEN).await;
    let (mut gateway, mut asker) = (certd.gateway().await, certd.asker().await);
    let (key, other) = (Key::curve("P-256"), Key::curve("P-256"));
    registered(&certd, "alice", &key).await;
    let good = loaded("alice", &key);
    for request in [
        LoadedRequest { user: "bob".into(), ..good.clone() },
        LoadedRequest { user: String::new(), ..good.clone() },
        LoadedRequest { user: "root".into(), ..good.clone() },
        LoadedRequest { key: other.der(), ..good.clone() },
        LoadedRequest { key: vec![], ..good.clone() },
        LoadedRequest { certificate: vec![], ..good.clone() },
        LoadedRequest { certificate: other.certificate("/CN=x", &[]), ..good.clone() },
        loaded("alice", &other),
    ] {
        let told = told(asker.proofs.loaded(request).await);
        assert_eq!(told, (Code::Unauthenticated, "not authenticated".into()));
    }
    assert_eq!(code(&asker.proofs.loaded(good.clone()).await), Code::Ok);
    gateway.revoke(certd.as_user("alice"), key.pem(), "").await.expect("revoked");
    assert_eq!(code(&asker.proofs.loaded(good).await), Code::Unauthenticated);
}

#[tokio::test]
async fn with_both_switches_off_the_gateways_word_counts_for_nothing() {
    let certd =
        start("[trust]\nregistration_by_loaded_certificate = false\ntls_certificate_login = 'off'\n").await;
    let key = Key::ed25519();
    let mut request = registration(certd.as_user("alice"), key.pem());
    request.loaded_key = key.der();
    assert_eq!(code(&certd.gateway().await.register(request).await), Code::PermissionDenied);
    certd.gateway().await.prove(certd.as_user("alice"), &key, Form::Ed25519).await.expect("registered");
    let refused = certd.asker().await.proofs.loaded(loaded("alice", &key)).await;
    assert_eq!(code(&refused), Code::Unauthenticated);
}

#[tokio::test]
async fn the_doors_admit_their_own_calls_only() {
    let certd = start("").await;
    // A gateway's socket answers no question of authd's, and authd's none of the gateway's.
    let channel =
        crate::fixture::connect(certd.directory.path().join("certd.sock")).await.expect("connected");
    let mut by_gateway = doorward_proto::certd::v1::proofs_client::ProofsClient::new(channel);
    assert_eq!(code(&by_gateway.verify(proof(vec![1; 64])).await), Code::PermissionDenied);
    assert_eq!(code(&by_gateway.loaded(LoadedRequest::default()).await), Code::PermissionDenied);
    let watch = by_gateway.watch_revoked(WatchRevokedRequest { since: 0 }).await;
    assert_eq!(code(&watch), Code::PermissionDenied);
    let channel =
        crate::fixture::connect(certd.directory.path().join("authd.sock")).await.expect("connected");
    let mut by_authd = crate::fixture::Gateway {
        registry: doorward_proto::certd::v1::registry_client::RegistryClient::new(channel),
    };
    assert_eq!(code(&by_authd.list(certd.as_user("alice")).await), Code::PermissionDenied);
}

#[tokio::test]
async fn a_key_is_said_to_be_of_the_account_that_registered_it_until_another_of_its_name_does() {
    let certd = start("").await;
    let (mut gateway, mut asker) = (certd.gateway().await, certd.asker().await);
    let (key, other) = (Key::ed25519(), Key::ed25519());
    let of =
        |uid: u32| certd.authd.sign(&changed("alice", json!({ "uid": uid, "auth_id": uid.to_string() })));
    for uid in [1001, 1002] {
        let entry = gateway.prove(of(uid), &key, Form::Ed25519).await.expect("registered");
        assert_eq!((entry.user.as_str(), entry.uid), ("alice", Some(uid)));
        gateway.prove(of(1001), &other, Form::Ed25519).await.expect("registered");
        let verified = asker.log_in(&key, Form::Ed25519, |_| ()).await.expect("logged in");
        assert_eq!((verified.user.as_str(), verified.uid), ("alice", Some(uid)));
        let verified = asker.log_in(&other, Form::Ed25519, |_| ()).await.expect("logged in");
        assert_eq!(verified.uid, Some(1001), "nothing was registered over it");
        let verified = asker.proofs.loaded(loaded("alice", &other)).await.expect("logged in").into_inner();
        assert_eq!(verified.uid, Some(1001));
    }
}

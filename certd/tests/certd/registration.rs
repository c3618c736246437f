//! Who may register, list and revoke which key.

use doorward_proto::certd::v1::{Entry, ListRequest, LoadedRequest, RegisterRequest, WatchRevokedRequest};
use serde_json::json;
use tonic::Code;

use crate::{
    fixture::{changed, code, now, proof, registration, start, told},
    openssl::{Form, Key, der_of},
    store::not_root,
};

const HASHED: [Form; 5] = [Form::Pkcs1, Form::Pss, Form::Ecdsa256, Form::Ecdsa384, Form::Ed25519];
const UNPROVEN: &str = "[policy]\nrequire_key_possession = false\n";

#[tokio::test]
async fn a_proven_key_is_registered_listed_and_revoked() {
    let certd = start("").await;
    let mut gateway = certd.gateway().await;
    let alice = || certd.as_user("alice");
    for form in HASHED {
        let key = Key::for_form(form);
        let entry = gateway.prove(alice(), &key, form).await.expect("registered");
        assert!(entry.proven && entry.user == "alice" && entry.key == key.der(), "{form:?}");
        assert_eq!(
            (entry.registered_session.as_str(), entry.registered_method.as_str()),
            ("session-alice", "password")
        );
        assert!((0..=60).contains(&(now() - entry.registered)));
        assert_eq!(gateway.list(alice()).await.expect("listed"), [entry]);
        gateway.revoke(alice(), key.pem(), "").await.expect("revoked");
        assert!(gateway.list(alice()).await.expect("listed").is_empty());
        assert_eq!(
            told(gateway.revoke(alice(), key.pem(), "").await),
            (Code::NotFound, "no such key".into())
        );
    }
}

#[tokio::test]
async fn a_key_is_the_same_however_it_is_sent() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let key = Key::ed25519();
    let first = gateway.register(registration(certd.as_user("alice"), key.pem())).await.expect("PEM");
    let again = gateway.register(registration(certd.as_user("alice"), key.der())).await.expect("DER");
    assert_eq!(first, again);
    gateway.revoke(certd.as_user("alice"), key.der(), "alice").await.expect("revoked");
    assert!(gateway.list(certd.as_user("alice")).await.expect("listed").is_empty());
}

#[tokio::test]
async fn the_bare_form_registers_nothing() {
    // It says nothing of purpose or server: whoever has a client log in elsewhere could relay it.
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let refused = gateway.prove(certd.as_user("alice"), &Key::rsa(2048), Form::Bare).await;
    assert_eq!(code(&refused), Code::PermissionDenied);
}

#[tokio::test]
async fn a_proof_counts_for_its_connection_session_purpose_and_server_once() {
    let certd = start("").await;
    let (mut gateway, mut asker) = (certd.gateway().await, certd.asker().await);
    let key = Key::ed25519();
    let alice = certd.as_user("alice");
    let asked = gateway.challenge(&alice, "c").await.expect("a challenge");
    let request = RegisterRequest {
        proof: key.prove(Form::Ed25519, &asked.context, &asked.test_string),
        ..registration(alice.clone(), key.pem())
    };
    let elsewhere = RegisterRequest { connection: "d".into(), ..request.clone() };
    assert_eq!(code(&gateway.register(elsewhere).await), Code::PermissionDenied);
    let mallory = RegisterRequest { assertion: certd.as_user("mallory"), ..request.clone() };
    assert_eq!(code(&gateway.register(mallory).await), Code::PermissionDenied);
    assert_eq!(code(&asker.verify(proof(request.proof.clone())).await), Code::Unauthenticated);
    gateway.register(request.clone()).await.expect("registered");
    let again = Key::ed25519();
    let replayed = RegisterRequest { public_key: again.pem(), ..request.clone() };
    assert_eq!(code(&gateway.register(replayed).await), Code::PermissionDenied);
    assert_eq!(code(&gateway.register(request).await), Code::PermissionDenied, "used up");

    for wrong in [
        asked.context.replace("register", "auth_ssl"),
        "doorward register v1 local".to_owned(),
        String::new(),
    ] {
        let asked = gateway.challenge(&alice, "c").await.expect("a challenge");
        let proof = again.prove(Form::Ed25519, &wrong, &asked.test_string);
        let request = RegisterRequest { proof, ..registration(alice.clone(), again.pem()) };
        assert_eq!(code(&gateway.register(request).await), Code::PermissionDenied, "{wrong}");
    }
    let login = asker.challenge("c").await;
    let proof = again.prove(Form::Ed25519, &login.context, &login.test_string);
    let request = RegisterRequest { proof, ..registration(alice.clone(), again.pem()) };
    assert_eq!(code(&gateway.register(request).await), Code::PermissionDenied, "a login's challenge");
}

#[tokio::test]
async fn a_failed_proof_uses_the_challenge_up() {
    let certd = start("").await;
    let mut gateway = certd.gateway().await;
    let (key, alice) = (Key::ed25519(), certd.as_user("alice"));
    let asked = gateway.challenge(&alice, "c").await.expect("a challenge");
    let good = key.prove(Form::Ed25519, &asked.context, &asked.test_string);
    let with = |proof: Vec<u8>| RegisterRequest { proof, ..registration(alice.clone(), key.pem()) };
    assert_eq!(code(&gateway.register(with(vec![1; 64])).await), Code::PermissionDenied);
    assert_eq!(code(&gateway.register(with(good)).await), Code::PermissionDenied);
    assert_eq!(code(&gateway.register(with(vec![1; 5000])).await), Code::PermissionDenied);
}

#[tokio::test]
async fn possession_is_required_unless_the_switch_says_otherwise() {
    let certd = start("").await;
    let key = Key::rsa(2048);
    let refused = certd.gateway().await.register(registration(certd.as_user("alice"), key.pem())).await;
    let (code_told, sentence) = told(refused);
    assert_eq!(code_told, Code::PermissionDenied);
    assert!(sentence.contains("not proven"), "{sentence}");

    // A deployed client: base64 of PEM, no certificate, no proof; then it logs in.
    let certd = certd.restarted(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let entry = gateway.register(registration(certd.as_user("alice"), key.pem())).await.expect("registered");
    assert!(!entry.proven);
    let verified = certd.asker().await.log_in(&key, Form::Bare, |_| ()).await.expect("logged in");
    assert_eq!(verified.user, "alice");
    let entry = gateway.list(certd.as_user("alice")).await.expect("listed").remove(0);
    assert!(entry.proven && entry.last_used.is_some() && entry.last_source == "192.0.2.1");
}

#[tokio::test]
async fn the_gateways_word_registers_only_where_it_is_trusted_and_only_that_key() {
    let trusted = "[trust]\nregistration_by_loaded_certificate = true\n";
    let certd = start(trusted).await;
    let (key, other) = (Key::curve("P-256"), Key::curve("P-256"));
    let request = |loaded: &Key, assertion: String| RegisterRequest {
        loaded_key: loaded.der(),
        certificate: key.certificate("/CN=alice", &[]),
        ..registration(assertion, key.pem())
    };
    let mut gateway = certd.gateway().await;
    let refused = gateway.register(request(&other, certd.as_user("alice"))).await;
    assert_eq!(code(&refused), Code::PermissionDenied);
    let entry = gateway.register(request(&key, certd.as_user("alice"))).await.expect("registered");
    assert!(entry.proven);
    assert_eq!(entry.subject, "CN=alice");
    assert_eq!(entry.not_after - entry.not_before, 30 * 86_400);
    gateway.revoke(certd.as_user("alice"), key.pem(), "").await.expect("revoked");

    let certd = certd.restarted(&trusted.replace("true", "false")).await;
    let refused = certd.gateway().await.register(request(&key, certd.as_user("alice"))).await;
    assert_eq!(code(&refused), Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_that_is_not_taken_is_refused_with_the_reason() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let key = Key::ed25519();
    let good = key.certificate("/CN=x", &[]);
    for (certificate, why) in [
        (Key::ed25519().certificate("/CN=x", &[]), "another key"),
        ([good.clone(), good.clone()].concat(), "END line"),
        ([der_of(&good), vec![0]].concat(), "followed by more"),
        (vec![0x30; 20_000], "16 KiB"),
        (b"garbage".to_vec(), "not an X.509"),
    ] {
        let request = RegisterRequest { certificate, ..registration(certd.as_user("alice"), key.pem()) };
        let (code, sentence) = told(gateway.register(request).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(sentence.starts_with("the certificate") && sentence.contains(why), "{sentence}");
    }
    let request = RegisterRequest { certificate: good, ..registration(certd.as_user("alice"), key.pem()) };
    assert!(!gateway.register(request).await.expect("registered").certificate.is_empty());
}

#[tokio::test]
async fn keys_that_are_not_taken_are_refused_with_the_reason() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    for (key, why) in [
        (Key::rsa(1024).pem(), "1024 bits"),
        (Key::rsa_exponent(2048, 3).pem(), "exponent"),
        (Key::curve("P-521").pem(), "type"),
        (b"KEY/../x".to_vec(), "neither PEM nor DER"),
        (Vec::new(), "neither PEM nor DER"),
    ] {
        let (code, sentence) = told(gateway.register(registration(certd.as_user("alice"), key)).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(sentence.starts_with("the public key") && sentence.contains(why), "{sentence}");
    }
}

#[tokio::test]
async fn two_users_see_and_revoke_what_they_may_and_no_more() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let (alices, wheels) = (Key::ed25519(), Key::ed25519());
    gateway.register(registration(certd.as_user("alice"), alices.pem())).await.expect("registered");
    gateway.register(registration(certd.as_full("wheel"), wheels.pem())).await.expect("registered");
    let users = |entries: Vec<doorward_proto::certd::v1::Entry>| {
        entries.into_iter().map(|entry| entry.user).collect::<Vec<_>>()
    };
    assert_eq!(users(gateway.list(certd.as_user("alice")).await.expect("listed")), ["alice"]);
    assert_eq!(users(gateway.list(certd.as_full("wheel")).await.expect("listed")), ["alice", "wheel"]);
    assert!(gateway.list(certd.as_user("bob")).await.expect("listed").is_empty());

    let revoke = async |assertion: String, key: &Key, user: &str| {
        code(&gateway.clone().revoke(assertion, key.pem(), user).await)
    };
    assert_eq!(revoke(certd.as_user("alice"), &wheels, "wheel").await, Code::PermissionDenied);
    assert_eq!(revoke(certd.as_user("alice"), &wheels, "").await, Code::NotFound);
    assert_eq!(revoke(certd.as_full("wheel"), &alices, "").await, Code::NotFound);
    assert_eq!(revoke(certd.as_full("wheel"), &alices, "bob").await, Code::NotFound);
    assert_eq!(revoke(certd.as_full("wheel"), &alices, "alice").await, Code::Ok);
}

#[tokio::test]
async fn an_assertion_is_needed_and_must_be_authds_for_certd() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let other = crate::fixture::Authd::new();
    for assertion in [
        String::new(),
        "alice".to_owned(),
        other.sign(&changed("alice", json!({}))),
        certd.authd.sign(&changed("alice", json!({ "aud": "sysinfo" }))),
        certd.authd.sign(&changed("alice", json!({ "exp": now() - 1 }))),
        certd.authd.sign(&changed("alice", json!({ "exp": now() + 3600 }))),
    ] {
        let key = Key::ed25519().pem();
        assert_eq!(code(&gateway.list(assertion.clone()).await), Code::Unauthenticated, "{assertion}");
        assert_eq!(code(&gateway.challenge(&assertion, "c").await), Code::Unauthenticated);
        assert_eq!(
            code(&gateway.register(registration(assertion.clone(), key.clone())).await),
            Code::Unauthenticated
        );
        assert_eq!(code(&gateway.revoke(assertion, key, "").await), Code::Unauthenticated);
    }
    std::fs::remove_file(certd.directory.path().join("assertion.pub")).expect("removed");
    let certd = certd.restarted("").await;
    let unavailable = certd.gateway().await.list(certd.as_user("alice")).await;
    assert_eq!(code(&unavailable), Code::Unavailable);
    // authd starts now.
    std::fs::write(certd.directory.path().join("assertion.pub"), &certd.authd.pem).expect("written");
    assert!(certd.gateway().await.list(certd.as_user("alice")).await.expect("listed").is_empty());
}

#[tokio::test]
async fn an_old_login_or_one_by_key_registers_and_revokes_nothing() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let key = Key::ed25519();
    gateway.register(registration(certd.as_user("alice"), key.pem())).await.expect("registered");
    for changes in [
        json!({ "auth_time": now() - 700 }),
        json!({ "method": "certificate_challenge" }),
        json!({ "method": "tls_certificate" }),
        json!({ "acl": ["sysadm.rpc.query.#"] }),
    ] {
        let assertion = certd.authd.sign(&changed("alice", changes));
        let another = Key::ed25519().pem();
        assert_eq!(code(&gateway.challenge(&assertion, "c").await), Code::PermissionDenied);
        assert_eq!(
            code(&gateway.register(registration(assertion.clone(), another)).await),
            Code::PermissionDenied
        );
        assert_eq!(code(&gateway.revoke(assertion, key.pem(), "").await), Code::PermissionDenied);
    }
    let local = certd.authd.sign(&changed("alice", json!({ "method": "local_peer" })));
    gateway.revoke(local, key.pem(), "").await.expect("the kernel's word counts");
}

#[tokio::test]
async fn root_has_keys_only_where_configured() {
    let root = json!({ "uid": 0, "access": "full", "acl": ["#"] });
    let certd = start(UNPROVEN).await;
    let key = Key::ed25519();
    for name in ["root", "toor"] {
        let assertion = certd.authd.sign(&changed(name, root.clone()));
        let refused = certd.gateway().await.register(registration(assertion, key.pem())).await;
        assert_eq!(code(&refused), Code::PermissionDenied);
    }
    let allowed = "[policy]\nrequire_key_possession = false\nkeys_for_root = true\n";
    let certd = certd.restarted(allowed).await;
    let assertion = certd.authd.sign(&changed("root", root));
    certd.gateway().await.register(registration(assertion, key.pem())).await.expect("registered");
    certd.asker().await.log_in(&key, Form::Ed25519, |_| ()).await.expect("logged in");
    // Switched off again, the key that is there counts for nothing.
    let certd = certd.restarted("").await;
    let refused = certd.asker().await.log_in(&key, Form::Ed25519, |_| ()).await;
    assert_eq!(code(&refused), Code::Unauthenticated);
}

#[tokio::test]
async fn texts_cannot_forge_lines_and_fields_have_bounds() {
    let certd = start(UNPROVEN).await;
    let mut gateway = certd.gateway().await;
    let base = || registration(certd.as_user("alice"), Key::ed25519().pem());
    for request in [
        RegisterRequest { nickname: "x\nProven: yes".into(), ..base() },
        RegisterRequest { nickname: "x".repeat(129), ..base() },
        RegisterRequest { email: "a@b\r\n".into(), ..base() },
        RegisterRequest { email: "x".repeat(255), ..base() },
        RegisterRequest { connection: String::new(), ..base() },
        RegisterRequest { connection: "x".repeat(65), ..base() },
        RegisterRequest { connection: "a b".into(), ..base() },
        RegisterRequest { public_key: vec![b'A'; 5000], ..base() },
    ] {
        assert_eq!(code(&gateway.register(request).await), Code::InvalidArgument);
    }
    let huge = RegisterRequest { certificate: vec![0; 70_000], ..base() };
    assert_eq!(code(&gateway.register(huge).await), Code::OutOfRange);
    let full = RegisterRequest { nickname: "é".repeat(128), email: "a@b".into(), ..base() };
    gateway.register(full).await.expect("registered");
}

#[tokio::test]
async fn the_64_keys_of_a_user_are_a_bound() {
    let tables = "[policy]\nrequire_key_possession = false\n\
                  [limits]\nkeys_per_user = 2\nkeys_total = 3\nrefusal_step_ms = 1\n";
    let certd = start(tables).await;
    let mut gateway = certd.gateway().await;
    let mut register = async |user: &str| {
        code(&gateway.register(registration(certd.as_user(user), Key::ed25519().pem())).await)
    };
    assert_eq!(register("alice").await, Code::Ok);
    assert_eq!(register("alice").await, Code::Ok);
    assert_eq!(register("alice").await, Code::ResourceExhausted);
    assert_eq!(register("bob").await, Code::Ok);
    assert_eq!(register("carol").await, Code::ResourceExhausted);
}

#[tokio::test]
async fn a_proven_registration_displaces_an_unproven_one_and_watchers_hear_of_it() {
    let certd = start(UNPROVEN).await;
    let (mut gateway, mut asker) = (certd.gateway().await, certd.asker().await);
    let key = Key::ed25519();
    gateway.register(registration(certd.as_user("mallory"), key.pem())).await.expect("registered");
    let unproven = gateway.register(registration(certd.as_user("alice"), key.pem())).await;
    assert_eq!(code(&unproven), Code::PermissionDenied);
    let mut watch =
        asker.proofs.watch_revoked(WatchRevokedRequest { since: 0 }).await.expect("watching").into_inner();
    assert!(watch.message().await.expect("told").expect("ready").fingerprint.is_empty());
    let entry = gateway.prove(certd.as_user("alice"), &key, Form::Ed25519).await.expect("displaced");
    let event = watch.message().await.expect("told").expect("an event");
    assert_eq!((event.user.as_str(), event.fingerprint), ("mallory", entry.fingerprint));
    assert_eq!(asker.log_in(&key, Form::Ed25519, |_| ()).await.expect("logged in").user, "alice");
    let back = gateway.prove(certd.as_user("mallory"), &key, Form::Ed25519).await;
    assert_eq!(code(&back), Code::PermissionDenied, "a proven one stays");
}

#[tokio::test]
async fn listings_that_nobody_reads_are_bounded() {
    let certd = start(UNPROVEN).await;
    // More than the 64 KiB that this peer takes unread and the 400 KiB that HTTP/2 keeps for it.
    let names: Vec<_> = (0..600).map(|n| format!("DNS:host-{n:04}.example.org")).collect();
    let names = format!("subjectAltName={}", names.join(","));
    let mut gateway = certd.gateway().await;
    for _ in 0..48 {
        let key = Key::ed25519();
        let mut request = registration(certd.as_user("alice"), key.pem());
        request.certificate = key.certificate("/CN=x", &["-addext", &names]);
        gateway.register(request).await.expect("registered");
    }
    let mut gateway = certd.slow_gateway().await;
    let mut unread = Vec::new();
    for _ in 0..16 {
        let request = ListRequest { assertion: certd.as_user("alice") };
        unread.push(gateway.registry.list(request).await.expect("listed").into_inner());
    }
    assert_eq!(code(&gateway.list(certd.as_user("alice")).await), Code::ResourceExhausted);
    // Whoever reads to the end makes room.
    let mut first = unread.remove(0);
    let mut entries = 0;
    while first.message().await.expect("told").is_some() {
        entries += 1;
    }
    assert_eq!(entries, 48);
    gateway.registry.list(ListRequest { assertion: certd.as_user("alice") }).await.expect("room");
}

const BY_ROOT: &str = "[trust]\nregistration = 'root'\n[policy]\nrequire_key_possession = false\n";

#[tokio::test]
async fn where_root_registers_nothing_is_registered_in_a_session_whatever_it_shows() {
    let certd = start(BY_ROOT).await;
    let mut gateway = certd.gateway().await;
    let key = Key::ed25519();
    for assertion in [certd.as_user("alice"), certd.as_full("alice")] {
        let (refused, sentence) = told(gateway.challenge(&assertion, "c").await);
        assert_eq!(refused, Code::PermissionDenied);
        assert!(sentence.contains("doorward certs register --user"), "{sentence}");
        let unproven = registration(assertion.clone(), key.pem());
        let loaded = RegisterRequest { loaded_key: key.der(), ..unproven.clone() };
        let proof = key.prove(Form::Ed25519, "doorward register v1 local", &"x".repeat(128));
        let proven = RegisterRequest { proof, ..unproven.clone() };
        for request in [unproven, loaded, proven] {
            assert_eq!(code(&gateway.register(request).await), Code::PermissionDenied);
        }
    }
    assert!(gateway.list(certd.as_full("alice")).await.expect("listed").is_empty());
}

#[tokio::test]
async fn what_root_registered_opens_is_proven_by_no_word_of_the_gateways_and_revoked_by_its_owner() {
    if not_root("what_root_registered_opens") {
        return;
    }
    let certd = start(BY_ROOT).await;
    let (mut gateway, mut asker) = (certd.gateway().await, certd.asker().await);
    let key = Key::ed25519();
    let entry = Entry { key: key.der(), user: "alice".into(), registered: now(), ..Entry::default() };
    let reply = certd.store().await.import(tokio_stream::iter([entry])).await.expect("imported").into_inner();
    assert_eq!((reply.added, reply.refused.len()), (1, 0), "{:?}", reply.refused);
    let loaded = LoadedRequest {
        user: "alice".into(),
        key: key.der(),
        certificate: key.certificate("/CN=alice", &[]),
        source: "192.0.2.1".into(),
    };
    asker.proofs.loaded(loaded).await.expect("tls_certificate_login is another switch");
    let listed = gateway.list(certd.as_user("alice")).await.expect("listed");
    assert!(!listed[0].proven, "nobody but the gateway has seen that");
    asker.log_in(&key, Form::Ed25519, |_| ()).await.expect("logged in");
    assert!(gateway.list(certd.as_user("alice")).await.expect("listed")[0].proven);
    gateway.revoke(certd.as_user("alice"), key.pem(), "").await.expect("revoked");
    let refused = asker.log_in(&key, Form::Ed25519, |_| ()).await;
    assert_eq!(code(&refused), Code::Unauthenticated);
}

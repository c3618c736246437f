//! Actions and their args, one line each.

use serde_json::json;

use super::*;
use crate::dialect::sysadm;

fn decoded(namespace: &str, name: &str, args: &serde_json::Value) -> (Option<&'static str>, Call) {
    let text = json!({"namespace": namespace, "name": name, "args": args}).to_string();
    let request = sysadm::decode(&text, 32).request.expect("an envelope");
    (request.subject.map(|subject| subject.action.name), request.call)
}

fn settings(args: serde_json::Value) -> (Option<&'static str>, Call) {
    decoded("rpc", "settings", &args)
}

fn wrong(args: serde_json::Value, expected: &str) {
    let (_, call) = settings(args.clone());
    let Call::Malformed(Error::BadRequest(why)) = call else { panic!("{args}: {call:?}") };
    assert_eq!(why, expected, "{args}");
}

#[test]
fn every_action_of_the_table_is_decoded() {
    for action in crate::namespace::find("rpc", "settings").expect("in the table").actions {
        for name in std::iter::once(action.name).chain(action.alias) {
            let (subject, call) = settings(json!({"action": name, "pub_key": "AAEC"}));
            assert_eq!(subject, Some(action.name));
            assert!(matches!(call, Call::Settings(_)), "{name}: {call:?}");
        }
    }
}

#[test]
fn three_names_mean_the_row_and_letter_case_does_not_count() {
    let args = json!({"action": "List_SSL_certs"});
    for (namespace, name) in [("rpc", "settings"), ("SysAdm", "Settings"), ("settings", "sysadm")] {
        let (subject, call) = decoded(namespace, name, &args);
        assert_eq!(subject, Some("list_ssl_certs"));
        assert!(matches!(call, Call::Settings(KeyRequest::List)));
    }
    let text = r#"{"namespace":"rpc","name":"settings","action":"list_ssl_certs"}"#;
    let request = sysadm::decode(text, 32).request.expect("an envelope");
    assert!(matches!(request.call, Call::Settings(KeyRequest::List)), "args may be the object itself");
}

#[test]
fn an_action_that_there_is_not_means_nothing() {
    for action in ["", "_", "list", "register_ssl_certs", "list_ssl_certs "] {
        let (subject, call) = settings(json!({"action": action}));
        assert!(subject.is_none() && matches!(call, Call::Absent), "{action:?}");
    }
}

#[test]
fn keys_come_in_three_forms() {
    let pem = "-----BEGIN PUBLIC KEY-----\nAAEC\n-----END PUBLIC KEY-----\n";
    for (given, expected) in [
        (pem.to_owned(), pem.as_bytes()),
        (format!("  \r\n{pem}"), format!("  \r\n{pem}").as_bytes()),
        (STANDARD.encode(pem), pem.as_bytes()),
        ("AAEC".to_owned(), &[0, 1, 2][..]),
        (" AA\nEC\r\n".to_owned(), &[0, 1, 2][..]),
    ] {
        let (_, call) = settings(json!({"action": "revoke_ssl_cert", "pub_key": given, "user": "bob"}));
        let Call::Settings(KeyRequest::Revoke { public_key, user }) = call else { panic!("{given}") };
        assert_eq!((public_key.as_slice(), user.as_str()), (expected, "bob"));
    }
}

#[test]
fn a_registration_has_all_its_parts() {
    let (_, call) = settings(json!({
        "action": "register_ssl_certificate", "pub_key": "AAEC", "certificate": "AwQF",
        "nickname": "laptop", "email": "a@example.org", "proof": "Bg==",
    }));
    let Call::Settings(KeyRequest::Register(registration)) = call else { panic!("{call:?}") };
    assert_eq!((registration.public_key, registration.certificate), (vec![0, 1, 2], vec![3, 4, 5]));
    assert_eq!((&*registration.nickname, &*registration.email), ("laptop", "a@example.org"));
    assert_eq!(registration.proof, [6]);
    let (_, call) = settings(json!({"action": "register_ssl_cert", "pub_key": "AAEC"}));
    let Call::Settings(KeyRequest::Register(registration)) = call else { panic!("{call:?}") };
    assert!(registration.certificate.is_empty() && registration.proof.is_empty());
    assert!(registration.nickname.is_empty() && registration.email.is_empty());
}

#[test]
fn wrong_args_are_told_what_is_wrong() {
    wrong(json!([]), "args must be an object");
    wrong(json!(""), "args must be an object");
    wrong(json!({}), "action is missing");
    wrong(json!({"action": 1}), "action must be a string");
    let register = |field: &str, value: serde_json::Value| {
        let mut args = json!({"action": "register_ssl_cert", "pub_key": "AAEC"});
        args[field] = value;
        args
    };
    wrong(json!({"action": "register_ssl_cert"}), "pub_key is missing");
    wrong(json!({"action": "revoke_ssl_cert"}), "pub_key is missing");
    wrong(register("pub_key", json!("")), "pub_key is empty");
    wrong(register("pub_key", json!(1)), "pub_key must be a string");
    wrong(register("pub_key", json!("?")), "pub_key is neither PEM nor base64");
    wrong(register("pub_key", json!("AAE")), "pub_key is neither PEM nor base64");
    wrong(register("certificate", json!("?")), "certificate is neither PEM nor base64");
    wrong(register("certificate", json!({})), "certificate must be a string");
    wrong(register("proof", json!("?")), "proof is not base64");
    wrong(register("nickname", json!(null)), "nickname must be a string");
    wrong(register("email", json!([])), "email must be a string");
    wrong(register("pub_key", json!(STANDARD.encode(vec![0; KEY_MAX + 1]))), "pub_key is too long");
    wrong(register("proof", json!(STANDARD.encode(vec![0; PROOF_MAX + 1]))), "proof is too long");
    wrong(register("nickname", json!("x".repeat(TEXT_MAX + 1))), "nickname is too long");
    wrong(
        register("certificate", json!(STANDARD.encode(vec![0; CERTIFICATE_MAX + 1]))),
        "certificate is too long",
    );
    let revoke = |user: &str| json!({"action": "revoke_ssl_cert", "pub_key": "AAEC", "user": user});
    wrong(revoke("a/b"), "user cannot be a user's name");
    wrong(revoke("-a"), "user cannot be a user's name");
}

#[test]
fn a_field_given_twice_is_refused() {
    let text = r#"{"namespace":"rpc","name":"settings","args":{"action":"revoke_ssl_cert","pub_key":"AAEC","pub_key":"AAED"}}"#;
    let request = sysadm::decode(text, 32).request.expect("an envelope");
    assert!(matches!(request.call, Call::Malformed(_)));
    let text = r#"{"namespace":"rpc","name":"settings","args":{"action":"list_ssl_certs","action":"revoke_ssl_cert"}}"#;
    let request = sysadm::decode(text, 32).request.expect("an envelope");
    assert!(request.subject.is_none() && matches!(request.call, Call::Malformed(_)));
}

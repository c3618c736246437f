//! Registered keys, as deployed clients read them: by user, each under the base64 of its PEM.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

use super::write_string;
use crate::{call::Key, pem, utc};

/// `{"<user>": {"<pub_key>": "<text>"}}`
pub(super) fn write_list(out: &mut Vec<u8>, keys: &[Key]) {
    let mut users: BTreeMap<&str, BTreeMap<String, &Key>> = BTreeMap::new();
    for key in keys {
        users
            .entry(&key.user)
            .or_default()
            .insert(STANDARD.encode(pem::encode("PUBLIC KEY", &key.spki)), key);
    }
    out.push(b'{');
    for (place, (user, keys)) in users.iter().enumerate() {
        comma(out, place);
        write_string(out, user);
        out.extend_from_slice(b":{");
        for (place, (packed, key)) in keys.iter().enumerate() {
            comma(out, place);
            write_string(out, packed);
            out.push(b':');
            write_string(out, &description(key));
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// `{"md5_keys": [...]}`: by these, old clients find out which of their keys the server has. Nothing is
/// decided by them; they are no identity.
pub(super) fn write_checksums(out: &mut Vec<u8>, keys: &[Key]) {
    out.extend_from_slice(br#"{"md5_keys":["#);
    for (place, key) in keys.iter().enumerate() {
        comma(out, place);
        let sum: [u8; 16] = Md5::digest(pem::encode("PUBLIC KEY", &key.spki)).into();
        write_string(out, &STANDARD.encode(sum));
    }
    out.extend_from_slice(b"]}");
}

fn comma(out: &mut Vec<u8>, place: usize) {
    if place > 0 {
        out.push(b',');
    }
}

/// Deployed clients read the first three lines.
fn description(key: &Key) -> String {
    let mut lines = vec![
        format!("Nickname: {}", line(&key.nickname)),
        format!("Email: {}", line(&key.email)),
        format!("Date Registered: {}", utc::text(key.registered)),
        format!("Fingerprint: SHA256:{}", STANDARD.encode(key.fingerprint)),
        format!("Proven: {}", if key.proven { "yes" } else { "no" }),
        match &key.last_used {
            None => "Last Used: never".to_owned(),
            Some((when, source)) if source.is_empty() => format!("Last Used: {}", utc::text(*when)),
            Some((when, source)) => format!("Last Used: {} from {}", utc::text(*when), line(source)),
        },
    ];
    if let Some(certificate) = &key.certificate {
        lines.push(format!("Subject: {}", line(&certificate.subject)));
        lines.push(format!("Not Before: {}", utc::text(certificate.not_before)));
        lines.push(format!("Not After: {}", utc::text(certificate.not_after)));
        lines.push(pem::encode("CERTIFICATE", &certificate.der));
    }
    lines.join("\n")
}

/// Text that stays on its line.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::call::KeyCertificate;

    fn key(user: &str, spki: &[u8]) -> Key {
        Key {
            user: user.to_owned(),
            spki: spki.to_vec(),
            fingerprint: [0xab; 32],
            nickname: "my \"laptop\"\nProven: yes".to_owned(),
            email: "a@example.org".to_owned(),
            registered: 1_795_319_222,
            proven: false,
            last_used: None,
            certificate: None,
        }
    }

    fn list(keys: &[Key]) -> Value {
        let mut out = Vec::new();
        write_list(&mut out, keys);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn keys_stand_by_user_under_the_base64_of_their_pem() {
        assert_eq!(list(&[]), serde_json::json!({}));
        let found = list(&[key("bob", &[1]), key("alice", &[2]), key("bob", &[3])]);
        let users = found.as_object().expect("an object");
        assert_eq!(users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
        assert_eq!(users["bob"].as_object().expect("an object").len(), 2);
        let packed = users["alice"].as_object().expect("an object").keys().next().expect("one");
        let pem = STANDARD.decode(packed).expect("base64");
        assert_eq!(pem, b"-----BEGIN PUBLIC KEY-----\nAg==\n-----END PUBLIC KEY-----\n");
    }

    #[test]
    fn descriptions_begin_as_clients_know_them() {
        let mut described = key("a", &[1]);
        let first = description(&described);
        let lines: Vec<_> = first.lines().collect();
        assert_eq!(lines[0], "Nickname: my \"laptop\" Proven: yes", "a text stays on its line");
        assert_eq!(lines[1], "Email: a@example.org");
        assert_eq!(lines[2], "Date Registered: 2026-11-22T03:47:02Z");
        assert_eq!(lines[3], "Fingerprint: SHA256:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=");
        assert_eq!(lines[4..], ["Proven: no", "Last Used: never"]);

        described.proven = true;
        described.last_used = Some((0, "192.0.2.1".to_owned()));
        described.certificate = Some(KeyCertificate {
            der: vec![1, 2, 3],
            subject: "CN=a".to_owned(),
            not_before: 0,
            not_after: 86_400,
        });
        let text = description(&described);
        let rest: Vec<_> = text.lines().skip(4).collect();
        assert_eq!(
            rest,
            [
                "Proven: yes",
                "Last Used: 1970-01-01T00:00:00Z from 192.0.2.1",
                "Subject: CN=a",
                "Not Before: 1970-01-01T00:00:00Z",
                "Not After: 1970-01-02T00:00:00Z",
                "-----BEGIN CERTIFICATE-----",
                "AQID",
                "-----END CERTIFICATE-----",
            ]
        );
    }

    #[test]
    fn checksums_are_of_the_pem_text() {
        let mut out = Vec::new();
        write_checksums(&mut out, &[key("a", &[2]), key("b", &[3])]);
        // printf -- '-----BEGIN PUBLIC KEY-----\nAg==\n-----END PUBLIC KEY-----\n' | openssl md5 -binary | base64
        let expected = r#"{"md5_keys":["LGnHqwuYRkm8klsLG6jDNQ==","y2AMBQVUQqegiT/R3T4aqw=="]}"#;
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }
}

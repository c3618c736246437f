//! Who reads which of certd's audit records.

use doorward_proto::certd::v1::{LogsRequest, RevokeRequest};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    fixture::{Fixture, Gateway, changed, code, now, registration, start},
    openssl::{Form, Key},
};

async fn read(gateway: &mut Gateway, assertion: String) -> Result<Vec<(String, String)>, Status> {
    let request = LogsRequest { assertion, from: 0, until: u64::MAX, skip: 0, most: 100 };
    let mut parts = gateway.registry.logs(request).await?.into_inner();
    let mut records = Vec::new();
    while let Some(part) = parts.message().await? {
        for line in part.lines {
            let record: Value = serde_json::from_str(&line).expect("JSON");
            let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
            records.push((text("event"), text("user")));
        }
        if let Some(end) = part.end {
            assert!(!end.more && !end.unread);
            return Ok(records);
        }
    }
    panic!("no end")
}

fn reader(certd: &Fixture, user: &str, more: Value) -> String {
    let mut claims = changed(user, json!({"acl": ["sysadm.rpc.logs.read_logs"]}));
    claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    certd.authd.sign(&claims)
}

#[tokio::test]
async fn an_owner_reads_what_was_done_with_his_keys_and_full_access_reads_all() {
    let certd = start("").await;
    let mut gateway = certd.gateway().await;
    let (mine, other) = (Key::ed25519(), Key::ed25519());
    gateway.prove(certd.as_user("alice"), &mine, Form::Ed25519).await.expect("registered");
    gateway.prove(certd.as_user("bob"), &other, Form::Ed25519).await.expect("registered");
    let unproven = registration(certd.as_user("bob"), Key::ed25519().pem());
    assert_eq!(code(&gateway.register(unproven).await), Code::PermissionDenied);
    let boss = certd.authd.sign(&changed("root", json!({"access": "full", "acl": ["#"], "uid": 0})));
    let request = RevokeRequest { assertion: boss.clone(), public_key: mine.pem(), user: "alice".to_owned() };
    gateway.registry.revoke(request).await.expect("revoked");

    let of = |event: &str, user: &str| (event.to_owned(), user.to_owned());
    let alices = [of("key_registered", "alice"), of("key_revoked", "alice")];
    assert_eq!(read(&mut gateway, reader(&certd, "alice", json!({}))).await.expect("read"), alices);
    let bobs = [of("key_registered", "bob"), of("key_refused", "bob")];
    assert_eq!(read(&mut gateway, reader(&certd, "bob", json!({}))).await.expect("read"), bobs);
    assert_eq!(read(&mut gateway, boss).await.expect("read").len(), 4);
}

#[tokio::test]
async fn what_authd_did_not_sign_for_this_reads_nothing() {
    let certd = start("").await;
    let mut gateway = certd.gateway().await;
    assert_eq!(code(&read(&mut gateway, certd.as_user("alice")).await), Code::PermissionDenied);
    for wrong in [
        json!({"aud": "example/disk"}),
        json!({"exp": now() - 1}),
        json!({"iat": now() + 600, "exp": now() + 660}),
        json!({"sub": "a/b"}),
    ] {
        let jwt = reader(&certd, "alice", wrong.clone());
        assert_eq!(code(&read(&mut gateway, jwt).await), Code::Unauthenticated, "{wrong}");
    }
    assert_eq!(code(&read(&mut gateway, String::new()).await), Code::Unauthenticated);
}

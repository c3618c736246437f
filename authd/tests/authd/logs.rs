//! Who reads which audit records.

use doorward_proto::authd::v1 as wire;
use serde_json::Value;
use tonic::{Code, Status};

use crate::bench::{Bench, ONE, code, is_denied, password};

/// Records and their end.
async fn read(bench: &Bench, token: &str, most: u32) -> Result<(Vec<Value>, wire::LogsEnd), Status> {
    let request = wire::LogsRequest { token: token.into(), from: 0, until: u64::MAX, skip: 0, most };
    let mut parts = bench.sessions().await.logs(request).await?.into_inner();
    let mut records = Vec::new();
    while let Some(part) = parts.message().await? {
        records.extend(part.lines.iter().map(|line| serde_json::from_str(line).expect("JSON")));
        if let Some(end) = part.end {
            return Ok((records, end));
        }
    }
    panic!("no end")
}

fn of(records: &[Value]) -> Vec<(&str, &str)> {
    let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let words = records.iter().map(|record| (text(record, "event"), text(record, "user")));
    let all: Vec<_> = words.collect();
    all.into_iter().map(|(event, user)| (&*event.leak(), &*user.leak())).collect()
}

#[tokio::test]
async fn full_access_reads_all_and_everybody_else_what_is_about_him() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (alice, bob) = (bench.session_of("alice").await.token, bench.session_of("bob").await.token);
    assert!(is_denied(bench.login().await.begin(password(ONE, "bob", "wrong")).await));
    assert!(is_denied(bench.login().await.begin(password(ONE, "alice", "wrong")).await));

    let (records, end) = read(&bench, &bob, 100).await.expect("read");
    assert_eq!(of(&records), [("login", "bob"), ("login_refused", "bob")]);
    assert_eq!((end.more, end.everybody, end.user.as_str(), end.uid), (false, false, "bob", 1001));
    let (records, end) = read(&bench, &alice, 100).await.expect("read");
    let expected =
        [("login", "alice"), ("login", "bob"), ("login_refused", "bob"), ("login_refused", "alice")];
    assert_eq!(of(&records), expected);
    assert_eq!((end.more, end.everybody, end.user.as_str()), (false, true, ""));
    let (records, end) = read(&bench, &alice, 3).await.expect("read");
    assert_eq!((of(&records), end.more), (expected[..3].to_vec(), true));
    let (records, end) = read(&bench, &alice, 0).await.expect("read");
    assert_eq!((records.len(), end.more), (0, true));
}

#[tokio::test]
async fn what_no_token_opens_or_the_acl_does_not_grant_reads_nothing() {
    let bench = Bench::start(|config| config.access.limited_acl = vec!["sysadm.rpc.query.#".into()]).await;
    bench.pam_with_passwords();
    let bob = bench.session_of("bob").await;
    assert_eq!(code(read(&bench, &bob.token, 1).await), Code::PermissionDenied);
    // A session's name is no token.
    for token in ["", "x", ONE, bob.session.expect("a session").session.as_str()] {
        assert_eq!(code(read(&bench, token, 1).await), Code::Unauthenticated, "{token}");
    }
    let ended = bench.session_of("alice").await.token;
    assert!(read(&bench, &ended, 1).await.is_ok());
    bench.sessions().await.end(wire::EndRequest { token: ended.clone() }).await.expect("ended");
    assert_eq!(code(read(&bench, &ended, 1).await), Code::Unauthenticated);
}

#[tokio::test]
async fn the_default_lets_limited_access_read() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    for _ in 0..40 {
        bench.session_of("bob").await;
    }
    let bob = bench.session_of("bob").await.token;
    let (records, _) = read(&bench, &bob, 1_000).await.expect("read");
    assert_eq!(records.len(), 41, "in more than one part");
    assert!(records.iter().all(|record| record["user"] == "bob"));
}

//! Who sees and ends which sessions, and sessions whose users have gone.

use doorward_proto::authd::v1::{self as wire, end_other_request::Which, ended_event};
use tonic::{Code, Status};

use crate::bench::{Bench, ONE, PATIENCE, code};

async fn list(bench: &Bench, token: &str) -> Result<Vec<wire::SessionEntry>, Status> {
    let mut client = bench.sessions().await;
    let mut all: Vec<wire::SessionEntry> = Vec::new();
    loop {
        let after = all.last().map_or_else(String::new, |last| last.session.clone());
        let page = client.list(wire::ListRequest { token: token.into(), after }).await?.into_inner();
        all.extend(page.sessions);
        if !page.more {
            return Ok(all);
        }
    }
}

async fn users(bench: &Bench, token: &str) -> Vec<String> {
    let mut users: Vec<_> =
        list(bench, token).await.expect("a list").into_iter().map(|entry| entry.user).collect();
    users.sort();
    users
}

async fn end(bench: &Bench, token: &str, which: Which) -> Result<u32, Code> {
    let request = wire::EndOtherRequest { token: token.into(), which: Some(which) };
    let reply = bench.sessions().await.end_other(request).await;
    reply.map(|reply| reply.into_inner().ended).map_err(|status| status.code())
}

fn name(granted: &wire::Granted) -> String {
    granted.session.as_ref().expect("a session").session.clone()
}

fn one(granted: &wire::Granted) -> Which {
    Which::Session(name(granted))
}

#[tokio::test]
async fn full_access_sees_and_ends_all_and_everybody_else_his_own() {
    let mut bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (alice, bob, second) =
        (bench.session_of("alice").await, bench.session_of("bob").await, bench.session_of("bob").await);
    assert_eq!(users(&bench, &alice.token).await, ["alice", "bob", "bob"]);
    assert_eq!(users(&bench, &bob.token).await, ["bob", "bob"]);

    assert_eq!(end(&bench, &bob.token, one(&alice)).await, Err(Code::NotFound), "as if it were not there");
    let nobody = Which::Session("f81d4fae-7dec-41d0-a765-00a0c91e6bf6".into());
    assert_eq!(end(&bench, &bob.token, nobody).await, Err(Code::NotFound));
    assert_eq!(end(&bench, &bob.token, Which::Session("x".into())).await, Err(Code::NotFound));
    assert!(bench.check(&alice.token).await.is_ok());

    assert_eq!(end(&bench, &bob.token, one(&second)).await, Ok(1));
    assert_eq!(bench.check(&second.token).await, Err(Code::NotFound));
    assert_eq!(end(&bench, &bob.token, one(&second)).await, Err(Code::NotFound), "it has ended");
    assert_eq!(end(&bench, &alice.token, one(&bob)).await, Ok(1));
    assert_eq!(code(list(&bench, &bob.token).await), Code::Unauthenticated);
    assert_eq!(end(&bench, &bob.token, one(&alice)).await, Err(Code::Unauthenticated));
    bench.restart().await;
    assert_eq!(bench.check(&bob.token).await, Err(Code::NotFound), "it was on disk");
    assert!(bench.check(&alice.token).await.is_ok());
}

#[tokio::test]
async fn all_others_of_a_user_end_and_are_told_and_nobody_elses() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (kept, other) = (bench.session_of("alice").await, bench.session_of("alice").await);
    let bob = bench.session_of("bob").await;
    let request = wire::WatchEndedRequest {};
    let mut told = bench.sessions().await.watch_ended(request).await.expect("watching").into_inner();
    assert_eq!(end(&bench, &kept.token, Which::Others(wire::Others {})).await, Ok(1));
    let ended = loop {
        let event = tokio::time::timeout(PATIENCE, told.message()).await.expect("told").expect("an event");
        if let Some(ended_event::Kind::Ended(ended)) = event.expect("an event").kind {
            break ended;
        }
    };
    assert_eq!((ended.session.clone(), ended.reason()), (name(&other), wire::EndReason::Revoked));
    assert_eq!(bench.check(&other.token).await, Err(Code::NotFound));
    assert!(bench.check(&kept.token).await.is_ok() && bench.check(&bob.token).await.is_ok());
    assert_eq!(end(&bench, &kept.token, Which::Others(wire::Others {})).await, Ok(0));
}

#[tokio::test]
async fn what_no_token_opens_or_the_acl_does_not_grant_is_refused() {
    let bench = Bench::start(|config| {
        config.access.limited_acl = vec!["sysadm.rpc.sessions.list".into()];
    })
    .await;
    bench.pam_with_passwords();
    let (bob, second) = (bench.session_of("bob").await, bench.session_of("bob").await);
    assert_eq!(users(&bench, &bob.token).await, ["bob", "bob"]);
    assert_eq!(end(&bench, &bob.token, one(&second)).await, Err(Code::PermissionDenied));
    assert_eq!(end(&bench, &bob.token, Which::Others(wire::Others {})).await, Err(Code::PermissionDenied));
    // A session's name is no token.
    for token in ["", "x", ONE, name(&bob).as_str()] {
        assert_eq!(code(list(&bench, token).await), Code::Unauthenticated, "{token}");
        assert_eq!(end(&bench, token, one(&bob)).await, Err(Code::Unauthenticated), "{token}");
    }
    let request = wire::EndOtherRequest { token: bob.token.clone(), which: None };
    assert_eq!(code(bench.sessions().await.end_other(request).await), Code::InvalidArgument);
    assert!(bench.check(&second.token).await.is_ok());
}

#[tokio::test]
async fn a_list_says_since_when_and_which_is_the_callers() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let first = bench.session_of("bob").await;
    // The session's clock went on by 100 s and the time of day did not: that is a clock set back.
    bench.forward(100_000);
    let second = bench.session_of("bob").await;
    let listed = list(&bench, &second.token).await.expect("a list");
    let of = |granted: &wire::Granted| {
        listed.iter().find(|entry| entry.session == name(granted)).expect("listed").clone()
    };
    let (old, new) = (of(&first), of(&second));
    assert_eq!((old.current, new.current), (false, true));
    assert!(new.started - old.started >= 97 && new.started - old.started <= 102, "{old:?} {new:?}");
    assert_eq!(old.started, old.last_used);
    assert_eq!(
        (old.method.as_str(), old.dialect.as_str(), old.source.as_str()),
        ("password", "sysadm", "192.0.2.1")
    );
    bench.forward(200_000);
    let left = list(&bench, &second.token).await.expect("a list");
    assert_eq!(left.len(), 1, "who is idle too long is not listed, forgotten or not");
}

#[tokio::test]
async fn a_long_list_comes_in_pages_and_complete() {
    let bench = Bench::start(|config| config.sessions.per_user = 1_000).await;
    bench.pam_with_passwords();
    let mut names = std::collections::BTreeSet::new();
    let mut token = String::new();
    for _ in 0..150 {
        let granted = bench.session_of("bob").await;
        names.insert(name(&granted));
        token.clone_from(&granted.token);
    }
    let listed = list(&bench, &token).await.expect("a list");
    assert_eq!(listed.len(), 150);
    assert_eq!(
        listed.into_iter().map(|entry| entry.session).collect::<std::collections::BTreeSet<_>>(),
        names
    );
    let mut client = bench.sessions().await;
    let mut page = async |after: &str| {
        client.list(wire::ListRequest { token: token.clone(), after: after.into() }).await
    };
    let first = page("").await.expect("a page").into_inner();
    assert_eq!((first.sessions.len(), first.more), (64, true));
    assert_eq!(code(page("no name").await), Code::InvalidArgument);
    // A session that has ended meanwhile is a place in the list all the same.
    let other = first.sessions.iter().rev().find(|entry| !entry.current).expect("another").session.clone();
    let before = page(&other).await.expect("a page").into_inner();
    end(&bench, &token, Which::Session(other.clone())).await.expect("ended");
    assert_eq!(page(&other).await.expect("a page").into_inner(), before);
}

/// Nobody asks about these sessions: they end because authd looks by itself.
#[tokio::test]
async fn who_lost_all_access_loses_silent_sessions_too() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (alice, bob) = (bench.session_of("alice").await, bench.session_of("bob").await);
    let request = wire::WatchEndedRequest {};
    let mut told = bench.sessions().await.watch_ended(request).await.expect("watching").into_inner();
    bench.users.set_groups("bob", &[]);
    bench.forward(30_000);
    let ended = loop {
        let event = tokio::time::timeout(PATIENCE, told.message()).await.expect("told").expect("an event");
        if let Some(ended_event::Kind::Ended(ended)) = event.expect("an event").kind {
            break ended;
        }
    };
    assert_eq!((ended.session.clone(), ended.reason()), (name(&bob), wire::EndReason::Revoked));
    assert!(bench.check(&alice.token).await.is_ok());
}

/// A directory that has just lost its server says so of everybody.
#[tokio::test]
async fn who_is_said_not_to_exist_loses_silent_sessions_when_it_is_said_twice() {
    let bench = Bench::start(|_| ()).await;
    bench.pam_with_passwords();
    let (root, alice) = (bench.session_of("root").await, bench.session_of("alice").await);
    let bob = bench.session_of("bob").await;
    let request = wire::WatchEndedRequest {};
    let mut told = bench.sessions().await.watch_ended(request).await.expect("watching").into_inner();
    bench.users.remove_user("alice");
    // Looked at after alice, and known to be without access: shows that both were looked at.
    bench.users.set_groups("bob", &[]);
    for (gone, left) in [(&bob, vec!["alice", "root"]), (&alice, vec!["root"])] {
        bench.forward(25_000);
        let ended = loop {
            let event =
                tokio::time::timeout(PATIENCE, told.message()).await.expect("told").expect("an event");
            if let Some(ended_event::Kind::Ended(ended)) = event.expect("an event").kind {
                break ended;
            }
        };
        assert_eq!((ended.session.clone(), ended.reason()), (name(gone), wire::EndReason::Revoked));
        assert_eq!(users(&bench, &root.token).await, left);
    }
}

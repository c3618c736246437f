//! certd, killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward_tests::client::{outcome, token_of};
use doorward_tests::keys::Quick;
use doorward_tests::wal::Wal;
use doorward_tests::{Program, Received, Role};
use serde_json::json;

use crate::bed::{ANSWERED, Bed, taken_up};
use crate::support::{Purpose, answer, challenge, listed, log_in_with, revoke};

const SILENCE: Duration = Duration::from_millis(20);
const TRIES: usize = 100;

pub(super) async fn starting(bed: &mut Bed) {
    bed.stack.kill(Program::Certd);
    let bound = bed.anew("run/certd/certd.sock");
    bed.stack.kill_in_start(Program::Certd, "socket", bound);
    bed.again(Program::Certd).await;
}

pub(super) async fn registering(bed: &mut Bed) {
    let database = bed.stack.path("state/certd/registry.sqlite");
    let (mut client, _) = bed.enter(Role::Limited).await;
    for _ in 0..TRIES {
        let key = Arc::new(Quick::generate());
        let (context, text) = challenge(&mut client, Purpose::Registration).await.expect("a challenge");
        let proof = STANDARD.encode(key.prove(&context, &text));
        let args = json!({"action": "register_ssl_cert", "pub_key": key.packed(), "proof": proof});
        let (wal, bytes) = (Wal::of(&database), key.spki());
        let frozen = bed.freeze(Program::Certd, move || wal.has(&bytes));
        client.request("rpc/settings", args).await;
        frozen.await.expect("no panic");
        // On disk in any case.
        bed.is_registered(Arc::clone(&key));
        if let Some(reply) = client.receive_within(SILENCE).await {
            bed.thaw(Program::Certd);
            let Received::Json(reply) = reply else { panic!("{reply:?}") };
            outcome(&reply).expect("a registration");
            continue;
        }
        bed.stack.kill(Program::Certd);
        let answer = outcome(&client.json().await);
        bed.again(Program::Certd).await;
        assert!(listed(&mut client).await.contains_key(&key.packed()), "what is committed is there");
        match answer {
            // On a busy machine the answer was on its way.
            Ok(_) => continue,
            Err(code) => return assert!(matches!(code, 408 | 503), "{code}"),
        }
    }
    panic!("the moment was missed {TRIES} times");
}

pub(super) async fn registered(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    bed.key(&mut client).await;
    bed.stack.kill(Program::Certd);
    bed.again(Program::Certd).await;
}

pub(super) async fn revoked(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    let key = bed.key(&mut client).await;
    let mut opened = bed.stranger().await;
    let token = log_in_with(&mut opened, &key).await.expect("it opens the door");
    revoke(&mut client, &key).await.expect("one's own key");
    bed.stack.kill(Program::Certd);
    bed.is_revoked(&key);
    bed.again(Program::Certd).await;
    let deadline = Instant::now() + ANSWERED;
    while taken_up(&bed.stack, &token, deadline).await {
        assert!(Instant::now() < deadline, "what a revoked key opened goes on");
    }
    bed.has_ended(&token);
}

pub(super) async fn challenged(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    let key = bed.key(&mut client).await;
    let mut other = bed.stranger().await;
    let (context, text) = challenge(&mut other, Purpose::Login).await.expect("a challenge");
    bed.stack.kill(Program::Certd);
    let proof = key.prove(&context, &text);
    let refused = answer(&mut other, &proof, json!({})).await.expect_err("certd is gone");
    assert!(matches!(refused, 401 | 503), "{refused}");
    bed.again(Program::Certd).await;
    let mut other = bed.stranger().await;
    let refused = answer(&mut other, &proof, json!({})).await.expect_err("of the time before");
    assert!(matches!(refused, 401 | 503), "{refused}");
}

pub(super) async fn proving(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    let key = bed.key(&mut client).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        let mut client = bed.stranger().await;
        let (context, text) = challenge(&mut client, Purpose::Login).await.expect("a challenge");
        all.push((client, STANDARD.encode(key.prove(&context, &text))));
    }
    for (client, proof) in &mut all {
        client.request("rpc/auth_ssl", json!({"encrypted_string": proof})).await;
    }
    let mut killed = false;
    for (client, _) in &mut all {
        match outcome(&client.json().await) {
            Ok(args) => bed.lives(&token_of(&args)).await,
            Err(code) => assert!(killed && matches!(code, 401 | 408 | 500 | 503), "{code}"),
        }
        if !killed {
            bed.stack.kill(Program::Certd);
            killed = true;
        }
    }
    bed.again(Program::Certd).await;
}

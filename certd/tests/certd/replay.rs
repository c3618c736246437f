//! Captured proofs, sent again in every way: none is accepted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use doorward_proto::certd::v1::VerifyRequest;
use tonic::Code;

use crate::{
    fixture::{code, long, proof, registration, start},
    openssl::{Form, Key},
};

const WORKERS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn no_replay_and_no_use_on_another_connection_is_accepted() {
    let rounds = if long() { 100_000 } else { 1_000 };
    let certd = start("[policy]\nrequire_key_possession = false\n").await;
    let key = Key::rsa(2048);
    certd
        .gateway()
        .await
        .register(registration(certd.as_user("alice"), key.pem()))
        .await
        .expect("registered");
    let mut asker = certd.asker().await;
    // Captured: proofs that were accepted, and one whose challenge is still open on its own connection.
    let mut captured = Vec::new();
    for form in [Form::Bare, Form::Pkcs1, Form::Pss] {
        let asked = asker.challenge("c").await;
        let request = proof(key.prove(form, &asked.context, &asked.test_string));
        assert_eq!(code(&asker.verify(request.clone()).await), Code::Ok);
        captured.push(request.signature);
    }
    let opened = Instant::now();
    let asked = asker.challenge("owner").await;
    let open = key.prove(Form::Bare, &asked.context, &asked.test_string);
    captured.push(open.clone());

    let captured = Arc::new(captured);
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (captured, next, mut asker) = (captured.clone(), next.clone(), asker.clone());
            tokio::spawn(async move {
                let mut accepted = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds {
                        return accepted;
                    }
                    let connection = format!("w{worker}-{}", number % 3);
                    // Two of three times a challenge is open there: another one.
                    if number % 3 != 0 {
                        asker.challenge(&connection).await;
                    }
                    let user = if number % 2 == 0 { "alice" } else { "" };
                    let verdict = asker
                        .verify(VerifyRequest {
                            connection,
                            user: user.into(),
                            // Sources of their own, so that searches do not queue.
                            source: format!("w{worker}"),
                            signature: captured[number % captured.len()].clone(),
                            ..Default::default()
                        })
                        .await;
                    match code(&verdict) {
                        Code::Unauthenticated => {}
                        Code::Ok => accepted += 1,
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    let mut accepted = 0;
    for worker in workers {
        accepted += worker.await.expect("no panic");
    }
    assert_eq!(accepted, 0, "of {rounds}");
    // The one that was open all the time still belongs to its connection, unless its 30 s are over.
    if opened.elapsed() < Duration::from_secs(25) {
        let owner = VerifyRequest { connection: "owner".into(), ..proof(open) };
        assert_eq!(code(&asker.verify(owner).await), Code::Ok);
    }
}

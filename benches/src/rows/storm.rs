//! What others notice of logins by password.

use std::{
    io,
    time::{Duration, Instant},
};

use doorward_tests::{Client, Program, Role};

use super::{Row, requests::asking};
use crate::{
    product::{Product, envelope},
    report::Figure,
    rounds::{Rounds, Side, median},
};

pub(super) const STORM: Row = Row {
    name: "storm",
    what: "p99 of rpc/query while passwords are checked, beside quiet",
    target: "at most twice the quiet p99",
    measure: |product, rounds| Box::pin(storm(product, rounds)),
};

async fn storm(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let request = envelope("rpc", "query", "{}");
    let mut side = Side {
        pids: product.pids(&[Program::Gateway]),
        workers: asking(product.sockets(rounds.connections).await?, &request),
    };
    let length = Duration::from_secs(rounds.seconds);
    let (mut ratios, mut logins) = (Vec::new(), 0_u32);
    for _ in 0..rounds.rounds {
        let quiet = side.turn(length).await?;
        let stack = &product.stack;
        let storm = async {
            let one = |role| async move {
                let (mut done, began) = (0_u32, Instant::now());
                let mut client = Client::unix(stack).await;
                while began.elapsed() < length {
                    done += u32::from(client.login(stack.person(role)).await.is_ok());
                }
                done
            };
            // As many as one account may have at once, of each.
            let roles = [Role::Full, Role::Full, Role::Limited, Role::Limited];
            futures_util::future::join_all(roles.map(one)).await.into_iter().sum::<u32>()
        };
        let (loud, done) = tokio::join!(side.turn(length), storm);
        logins += done;
        ratios.push(loud?.percentile(99) / quiet.percentile(99));
    }
    if logins == 0 {
        return Err(io::Error::other("nobody logged in during the storm"));
    }
    let note = format!("{logins} logins in {} s", rounds.seconds * u64::from(rounds.rounds));
    Ok(vec![Figure::absolute("p99, loud/quiet", median(ratios), 2.0, note)])
}

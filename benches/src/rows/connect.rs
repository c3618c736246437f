//! A new client each time.

use std::io;

use doorward_tests::Program;
use futures_util::future::BoxFuture;

use super::Row;
use crate::{
    client::Door,
    product::{Floor, Product, args_of, envelope},
    report::Figure,
    rounds::{Rounds, Side, Work, measure},
};

pub(super) const CONNECT: Row = Row {
    name: "connect",
    what: "connect, TLS, upgrade, rpc/identify",
    target: "at most 1.15 of the toy's CPU",
    measure: |product, rounds| Box::pin(connect(product, rounds)),
};

/// A new client each time, which says one thing and leaves.
struct Connecting {
    door: Door,
    request: String,
}

impl Work for Connecting {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { self.door.websocket().await?.succeed(&self.request).await.map(|_| ()) })
    }
}

async fn connect(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let request = envelope("rpc", "identify", "{}");
    let answer = args_of(&product.door().websocket().await?.succeed(&request).await?)?;
    let floor = Floor::start("cached", &["--answer".to_owned(), answer]).await?;
    // More clients than cores only wait for each other's handshakes.
    let workers = |door: Door| -> Vec<Box<dyn Work>> {
        let one = || Box::new(Connecting { door: door.clone(), request: request.clone() }) as Box<dyn Work>;
        (0..rounds.connections.min(4)).map(|_| one()).collect()
    };
    let mut ours = Side { pids: product.pids(&[Program::Gateway]), workers: workers(product.door()) };
    let mut theirs = Side { pids: vec![floor.pid()], workers: workers(Door::new(&floor.address)) };
    Ok(vec![Figure::pair(measure(rounds, &mut ours, &mut theirs).await?, 1.15, None)])
}

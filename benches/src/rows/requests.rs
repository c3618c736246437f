//! Requests on a WebSocket that is there: decided by the gateway, by authd, by a subsystem.

use std::{
    io,
    time::{Duration, Instant},
};

use doorward_tests::Program;
use futures_util::future::BoxFuture;

use super::Row;
use crate::{
    client::{Door, Socket},
    product::{Floor, Product, args_of, envelope, with_a_hop},
    report::Figure,
    rounds::{Rounds, Side, Work, measure},
};

pub(super) const QUERY: Row = Row {
    name: "query",
    what: "authenticated request that the gateway decides (rpc/query) over TLS",
    target: "at most 1.18 of the toy's CPU",
    measure: |product, rounds| Box::pin(query(product, rounds)),
};

pub(super) const SESSIONS: Row = Row {
    name: "sessions",
    what: "authenticated request that asks authd (rpc/sessions, list of one) over TLS",
    target: "at most 1.12 of the toy's CPU, p99 at most 1.3",
    measure: |product, rounds| Box::pin(sessions(product, rounds)),
};

pub(super) const SUBSYSTEM: Row = Row {
    name: "subsystem",
    what: "call of a subsystem that answers at once, over TLS",
    target: "at most 1.12 of the CPU of a toy with one hop",
    measure: |product, rounds| Box::pin(subsystem(product, rounds)),
};

/// A registration takes effect within two seconds.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Asks the same again and again on a WebSocket.
struct Asking {
    socket: Socket,
    request: String,
}

impl Work for Asking {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { self.socket.succeed(&self.request).await.map(|_| ()) })
    }
}

pub(super) fn asking(sockets: Vec<Socket>, request: &str) -> Vec<Box<dyn Work>> {
    let one = |socket| Box::new(Asking { socket, request: request.to_owned() }) as Box<dyn Work>;
    sockets.into_iter().map(one).collect()
}

pub(super) async fn opened(door: &Door, count: usize) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        sockets.push(door.websocket().await?);
    }
    Ok(sockets)
}

/// The product's answer to a request, which the floor then gives as well.
async fn answer(product: &Product, request: &str) -> io::Result<String> {
    let mut sockets = product.sockets(1).await?;
    let socket = sockets.first_mut().ok_or(io::ErrorKind::NotFound)?;
    args_of(&socket.succeed(request).await?)
}

async fn query(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let request = envelope("rpc", "query", "{}");
    let answer = answer(product, &request).await?;
    let floor = Floor::start("cached", &["--answer".to_owned(), answer]).await?;
    let mut ours = Side {
        pids: product.pids(&[Program::Gateway]),
        workers: asking(product.sockets(rounds.connections).await?, &request),
    };
    let mut theirs = Side {
        pids: vec![floor.pid()],
        workers: asking(opened(&Door::new(&floor.address), rounds.connections).await?, &request),
    };
    Ok(vec![Figure::pair(measure(rounds, &mut ours, &mut theirs).await?, 1.18, None)])
}

async fn sessions(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let request = envelope("rpc", "sessions", r#"{"action":"list"}"#);
    let answer = answer(product, &request).await?;
    let directory = tempfile::tempdir()?;
    let floor = with_a_hop(&answer, directory.path()).await?;
    let mut ours = Side {
        pids: product.pids(&[Program::Gateway, Program::Authd]),
        workers: asking(product.sockets(rounds.connections).await?, &request),
    };
    let mut theirs = Side {
        pids: floor.iter().map(Floor::pid).collect(),
        workers: asking(opened(&Door::new(&floor[0].address), rounds.connections).await?, &request),
    };
    Ok(vec![Figure::pair(measure(rounds, &mut ours, &mut theirs).await?, 1.12, Some(1.3))])
}

async fn subsystem(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let answer = r#"{"pong":1}"#;
    let request = envelope("test", "fake", &format!(r#"{{"action":"read","quiet":true,"answer":{answer}}}"#));
    // It believes everybody, prints nothing and answers at once: what is measured is the way there, as with the floor.
    let fake = product.stack.add_fake("");
    let mut sockets = product.sockets(rounds.connections).await?;
    let first = sockets.first_mut().ok_or(io::ErrorKind::NotFound)?;
    let began = Instant::now();
    while let Err(error) = first.succeed(&request).await {
        if began.elapsed() > SEEN_WITHIN {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let directory = tempfile::tempdir()?;
    let floor = with_a_hop(answer, directory.path()).await?;
    let mut pids = product.pids(&[Program::Gateway]);
    pids.push(fake.pid());
    let mut ours = Side { pids, workers: asking(sockets, &request) };
    let mut theirs = Side {
        pids: floor.iter().map(Floor::pid).collect(),
        workers: asking(opened(&Door::new(&floor[0].address), rounds.connections).await?, &request),
    };
    Ok(vec![Figure::pair(measure(rounds, &mut ours, &mut theirs).await?, 1.12, None)])
}

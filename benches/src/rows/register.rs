//! Registrations of keys: on disk before they are answered.

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_tests::{Program, Role, wal::Wal};
use futures_util::future::BoxFuture;

use super::{Row, requests::opened};
use crate::{
    client::{Door, Socket},
    keys::Signer,
    product::{Floor, Product, args_of, envelope, with_commits},
    report::Figure,
    rounds::{Rounds, Side, Work, measure_times},
};

pub(super) const REGISTER: Row = Row {
    name: "register",
    what: "register an Ed25519 key with a proof (two requests, one commit) over TLS, one after another and 8 at a time",
    target: "at most 1.3 of the CPU of two requests with a hop, a check and a bare commit; one commit each, fewer for 8",
    measure: |product, rounds| Box::pin(register(product, rounds)),
};

/// What one user may have.
const MOST: usize = 1_000;
/// Registrations at a time, in the second half.
const TOGETHER: usize = 8;
/// Registrations among which commits are counted: few enough that SQLite does not begin its log anew each time.
const COUNTED: usize = 48;

/// Registers a new key each time.
struct Registering {
    socket: Socket,
}

impl Work for Registering {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            let key = Signer::ed25519();
            let ask = envelope("rpc", "settings", r#"{"action":"register_challenge"}"#);
            let proof = key.prove(&args_of(&self.socket.succeed(&ask).await?)?)?;
            let packed = STANDARD.encode(key.spki());
            let args = format!(
                r#"{{"action":"register_ssl_cert","pub_key":"{packed}","nickname":"bench","proof":"{proof}"}}"#
            );
            self.socket.succeed(&envelope("rpc", "settings", &args)).await.map(drop)
        })
    }
}

fn registering(sockets: Vec<Socket>) -> Vec<Box<dyn Work>> {
    sockets.into_iter().map(|socket| Box::new(Registering { socket }) as Box<dyn Work>).collect()
}

/// Connections of somebody who has just typed a password, as certd wants it.
async fn fresh(product: &Product, role: Role, count: usize) -> io::Result<Vec<Socket>> {
    let person = product.stack.person(role);
    let args = format!(r#"{{"username":"{}","password":"{}"}}"#, person.name, person.password);
    let mut sockets = opened(&product.door(), count).await?;
    for socket in &mut sockets {
        socket.succeed(&envelope("rpc", "auth", &args)).await?;
    }
    Ok(sockets)
}

/// Commits for each registration.
async fn commits(side: &mut Side, database: &Path) -> io::Result<f64> {
    let each = COUNTED / side.workers.len();
    for _ in 0..5 {
        let before = Wal::of(database);
        let registered = side.times(each).await?.operations;
        if let Some(commits) = before.commits() {
            return Ok(commits as f64 / registered as f64);
        }
    }
    Err(io::Error::other("the log of the registry was begun anew each time"))
}

async fn register(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let challenge = envelope("rpc", "settings", r#"{"action":"register_challenge"}"#);
    let answer = {
        let mut sockets = fresh(product, Role::Full, 1).await?;
        let socket = sockets.first_mut().ok_or(io::ErrorKind::NotFound)?;
        args_of(&socket.succeed(&challenge).await?)?
    };
    // Where temporary files are, as the product's: the same file system.
    let directory = tempfile::tempdir()?;
    let floor = with_commits(&answer, "", directory.path()).await?;
    let database = product.stack.path("state/certd/registry.sqlite");
    let mut figures = Vec::new();
    for (role, together, of, most_commits) in
        [(Role::Full, 1, "one after another, ", 1.0), (Role::Spare, TOGETHER, "8 at a time, ", 0.5)]
    {
        let mut ours = Side {
            pids: product.pids(&[Program::Gateway, Program::Authd, Program::Certd]),
            workers: registering(fresh(product, role, together).await?),
        };
        let mut theirs = Side {
            pids: floor.iter().map(Floor::pid).collect(),
            workers: registering(opened(&Door::new(&floor[0].address), together).await?),
        };
        let turns = rounds.rounds as usize + 1;
        let each = (MOST - 5 * COUNTED) / turns / together;
        let turns = measure_times(rounds, each, &mut ours, &mut theirs).await?;
        figures.push(Figure::pair(turns, 1.3, None).of(of));
        let commits = commits(&mut ours, &database).await?;
        figures.push(Figure::absolute(
            "commits each",
            commits,
            most_commits,
            of.trim_end_matches(", ").to_owned(),
        ));
    }
    Ok(figures)
}

//! Tokens of the token API: few of them, and as many as there may be.

use std::{
    fs, io,
    os::unix::fs::chown,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use doorward_authd::{
    secret::{self, Token},
    session::{AtLimit, Boot, Bounds, Clock, Dialect, Holder, Identity, SessionId, Sessions, Terms},
};
use doorward_tests::{Program, Role};
use futures_util::future::BoxFuture;
use rusqlite::{Connection, params};
use tokio::time::sleep;

use super::Row;
use crate::{
    client::{Door, Http},
    cpu,
    product::Product,
    report::Figure,
    rounds::{Rounds, Side, Work, measure},
};

pub(super) const TOKENS: Row = Row {
    name: "tokens",
    what: "HEAD token check with 1,000,000 tokens stored beside 100; memory of each",
    target: "CPU within 1.2; at most 400 bytes a token",
    measure: |product, rounds| Box::pin(tokens(product, rounds)),
};

const FEW: usize = 100;
const MANY: usize = 1_000_000;
/// What a user may have at most; authd's own bound.
const OF_A_USER: usize = 65_536;

/// Checks one token after the other.
struct Checking {
    http: Http,
    tokens: Arc<[String]>,
    next: usize,
    step: usize,
}

impl Work for Checking {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            let token =
                self.tokens.get(self.next % self.tokens.len().max(1)).ok_or(io::ErrorKind::NotFound)?;
            self.next += self.step;
            match self.http.ask(&head(token)).await? {
                204 => Ok(()),
                status => Err(refused(status)),
            }
        })
    }
}

async fn checking(product: &Product, tokens: &Arc<[String]>, count: usize) -> io::Result<Side> {
    let door = Door::new(product.stack.token_address());
    let mut workers: Vec<Box<dyn Work>> = Vec::new();
    for number in 0..count {
        let http = door.http().await?;
        workers.push(Box::new(Checking { http, tokens: Arc::clone(tokens), next: number, step: count }));
    }
    Ok(Side { pids: product.pids(&[Program::Gateway, Program::Authd]), workers })
}

/// A store with so many tokens. authd's own code makes it, and grants one token to each holder; the others are copies
/// of those rows, each with a name and a token of its own: granted one by one into a store that grows to 300 MB, a
/// million take minutes.
async fn granted(directory: &Path, holders: &[Identity], count: usize) -> io::Result<Vec<String>> {
    let bounds = Bounds {
        idle: Duration::from_secs(300),
        absolute: Duration::from_secs(43_200),
        per_user: OF_A_USER,
        total: count,
        at_limit: AtLimit::Refuse,
    };
    let boot = Boot::current()?;
    let sessions =
        Sessions::open(directory, &boot, Clock::of_the_system(), bounds).map_err(io::Error::other)?;
    let acl: Arc<[String]> = Arc::new(["confd.#".to_owned()]);
    let mut tokens = Vec::with_capacity(count);
    let mut first_of_each = Vec::new();
    for who in holders.iter().take(count.div_ceil(OF_A_USER)) {
        let terms = Terms { life: Duration::from_secs(86_400), acl: Some(Arc::clone(&acl)), only_one: false };
        let holder = Holder {
            who: who.clone(),
            method: "password".to_owned(),
            dialect: Dialect::Token,
            source: "127.0.0.1".to_owned(),
        };
        let (token, session) = sessions.grant_on(holder, terms).await.map_err(io::Error::other)?;
        tokens.push(token.expose().to_owned());
        first_of_each.push(session.id);
    }
    sessions.close().await;
    multiply(&directory.join("sessions.sqlite"), &first_of_each, count, &mut tokens)
        .map_err(io::Error::other)?;
    Ok(tokens)
}

/// Copies the first row of each holder until he has as many as he may, or there are enough.
fn multiply(
    database: &Path,
    first_of_each: &[SessionId],
    count: usize,
    tokens: &mut Vec<String>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut database = Connection::open(database)?;
    // The index of tokens stays in memory, and nothing is kept for a crash.
    database.execute_batch("PRAGMA cache_size = -800000; PRAGMA synchronous = OFF;")?;
    // Whatever other columns there are.
    let columns: String = database.query_row(
        "SELECT group_concat(name) FROM pragma_table_info('session') WHERE name NOT IN ('id', 'token')",
        [],
        |row| row.get(0),
    )?;
    let transaction = database.transaction()?;
    {
        let mut copy = transaction.prepare(&format!(
            "INSERT INTO session (id, token, {columns}) SELECT ?1, ?2, {columns} FROM session WHERE id = ?3"
        ))?;
        for number in first_of_each.len()..count {
            let token = Token::mint(secret::random()?);
            // The first rows are the first of each holder, so each has one already.
            let place = (number - first_of_each.len()) / (OF_A_USER - 1);
            let like = first_of_each.get(place).ok_or("more tokens than the holders may have")?;
            // In their order, so that each goes to the end of the table.
            let name = u128::try_from(number)?.to_be_bytes();
            copy.execute(params![name, token.hash().0, like.0])?;
            tokens.push(token.expose().to_owned());
        }
    }
    transaction.commit()?;
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(())
}

/// Gives a product's authd a store with so many tokens, which it takes up at its start.
async fn store(product: &mut Product, count: usize) -> io::Result<Arc<[String]>> {
    let of = |role| {
        let person = product.stack.person(role);
        Identity::User { name: person.name.clone(), uid: person.uid }
    };
    // All who may have a session at all.
    let holders: Vec<Identity> = HOLDERS.iter().copied().map(of).collect();
    // In memory where that can be: filling is not what is measured.
    let shm = Path::new("/dev/shm");
    let directory = if shm.is_dir() { tempfile::tempdir_in(shm)? } else { tempfile::tempdir()? };
    let tokens = granted(directory.path(), &holders, count).await?;
    product.stack.stop(Program::Authd);
    let (from, to) =
        (directory.path().join("sessions.sqlite"), product.stack.path("state/authd/sessions.sqlite"));
    for companion in ["-wal", "-shm"] {
        // Not there after a clean end.
        let _ = fs::remove_file(product.stack.path(&format!("state/authd/sessions.sqlite{companion}")));
    }
    fs::copy(from, &to)?;
    chown(&to, Some(product.stack.authd_uid()), Some(product.stack.authd_uid()))?;
    product.stack.start_again(Program::Authd);
    served(product, tokens.first().ok_or(io::ErrorKind::NotFound)?).await?;
    Ok(tokens.into())
}

/// Waits until the gateway has found the authd that was started anew.
async fn served(product: &Product, token: &str) -> io::Result<()> {
    let door = Door::new(product.stack.token_address());
    let began = Instant::now();
    loop {
        match door.http().await?.ask(&head(token)).await? {
            204 => return Ok(()),
            503 if began.elapsed() < Duration::from_secs(30) => sleep(Duration::from_millis(50)).await,
            status => return Err(refused(status)),
        }
    }
}

fn head(token: &str) -> String {
    format!("HEAD /0.1/token/{token} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn refused(status: u16) -> io::Error {
    io::Error::other(format!("the check of a token was answered {status}"))
}

const HOLDERS: &[Role] = &[
    Role::Full,
    Role::Limited,
    Role::Two,
    Role::Code,
    Role::Expired,
    Role::Texts,
    Role::Hang,
    Role::Crash,
    Role::Flood,
    Role::Changer,
    Role::Stdout,
    Role::Fork,
    Role::Daemon,
    Role::Clean,
    Role::Spare,
    Role::Locked,
    Role::Lapsed,
];

async fn tokens(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let few = store(product, FEW).await?;
    let mut full = Product::start().await?;
    let many = store(&mut full, MANY).await?;
    let memory = |product: &Product, program| cpu::resident(product.stack.pid(program)) as f64;
    let each = |full: &Product, few: &Product, program| {
        (memory(full, program) - memory(few, program)) / (MANY - FEW) as f64
    };
    // The same number of tokens is asked about on both sides: what differs is how many others there are.
    let asked: Arc<[String]> = many.iter().take(FEW).cloned().collect();
    let mut ours = checking(&full, &asked, rounds.connections).await?;
    let mut theirs = checking(product, &few, rounds.connections).await?;
    let turns = measure(rounds, &mut ours, &mut theirs).await?;
    // Every one of them once, so that whatever is kept of each is.
    let mut all = checking(&full, &many, rounds.connections).await?;
    let turn = all.times(MANY / rounds.connections.max(1)).await?;
    let (authd, gateway) = (each(&full, product, Program::Authd), each(&full, product, Program::Gateway));
    let note = format!(
        "{MANY} stored, each checked once: {authd:.0} of authd, {gateway:.0} of the gateway; such a check is {:.1} us CPU",
        turn.cpu_each()
    );
    Ok(vec![Figure::pair(turns, 1.2, None), Figure::absolute("bytes each", authd + gateway, 400.0, note)])
}

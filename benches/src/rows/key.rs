//! Logins by registered keys.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_tests::{Program, Role};

use super::Row;
use crate::{
    client::Door,
    cpu,
    keys::{KeyLogin, Signer, entry, import, last_source, many_rsa},
    product::{Floor, Product, args_of, envelope, with_commits},
    report::Figure,
    rounds::{Rounds, Side, Turn, Work, measure, median},
};

pub(super) const KEY: Row = Row {
    name: "key",
    what: "login by a registered Ed25519 key over TLS",
    target: "at most 1.25 of the CPU of two requests with a hop, a check and a row on disk; memory flat over 10,000",
    measure: |product, rounds| Box::pin(ed25519(product, rounds)),
};

pub(super) const RSA: Row = Row {
    name: "rsa",
    what: "login by a registered RSA-2048 key over TLS: with a hint among 1, 1,000, 100,000; without among 1,000",
    target: "with a hint flat within 1.1; without at least 34 each second",
    measure: |product, rounds| Box::pin(rsa(product, rounds)),
};

const SERVING: &[Program] = &[Program::Gateway, Program::Authd, Program::Certd, Program::Guard];

/// As many as PAM lets through side by side, and one that waits.
const AT_A_TIME: usize = 8;

async fn logins(door: &Door, key: &Signer, hints: &str, count: usize) -> io::Result<Vec<Box<dyn Work>>> {
    let mut workers: Vec<Box<dyn Work>> = Vec::new();
    for _ in 0..count {
        let socket = door.websocket().await?;
        workers.push(Box::new(KeyLogin { socket, key: key.clone(), hints: hints.to_owned() }));
    }
    Ok(workers)
}

/// What the product's challenge looks like, which the floor then says as well.
async fn challenge(product: &Product) -> io::Result<String> {
    args_of(&product.door().websocket().await?.succeed(&envelope("rpc", "auth_ssl", "{}")).await?)
}

async fn ed25519(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    /// Logins over which memory must be flat.
    const MANY: usize = 10_000;
    let key = Signer::ed25519();
    import(product, vec![entry(key.spki(), &product.stack.person(Role::Limited).name)]).await?;
    let directory = tempfile::tempdir()?;
    let floor =
        with_commits(&challenge(product).await?, &STANDARD.encode(key.spki()), directory.path()).await?;
    let mut ours =
        Side { pids: product.pids(SERVING), workers: logins(&product.door(), &key, "", AT_A_TIME).await? };
    let mut theirs = Side {
        pids: floor.iter().map(Floor::pid).collect(),
        workers: logins(&Door::new(&floor[0].address), &key, "", AT_A_TIME).await?,
    };
    let turns = measure(rounds, &mut ours, &mut theirs).await?;
    let guard = product.pids(&[Program::Guard]);
    let daemons = product.pids(&[Program::Gateway, Program::Authd, Program::Certd]);
    let memory = || daemons.iter().copied().map(cpu::resident).sum::<u64>() as f64;
    let (before, of_pam) = (memory(), cpu::used(&guard));
    let turn = ours.times(MANY / AT_A_TIME).await?;
    let of_pam = (cpu::used(&guard) - of_pam).as_secs_f64() * 1e6 / turn.operations as f64;
    let note = format!(
        "{MANY} logins later, gateway, authd and certd; of a login's CPU {of_pam:.0} us are PAM's account management and its process"
    );
    Ok(vec![
        Figure::pair(turns, 1.25, None),
        Figure::absolute("of the memory before", memory() / before, 1.05, note),
    ])
}

/// Another product with so many more keys.
async fn with_keys(key: &Signer, more: usize) -> io::Result<Product> {
    let product = Product::start().await?;
    let user = &product.stack.person(Role::Limited).name;
    // Fewer than a user may have are each one's.
    let others = many_rsa(key, more)?.into_iter().enumerate();
    let mut entries: Vec<_> =
        others.map(|(number, spki)| entry(spki, &format!("u{}", number / 500))).collect();
    entries.insert(entries.len() / 2, entry(key.spki(), user));
    import(&product, entries).await?;
    Ok(product)
}

async fn rsa(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let key = Signer::rsa()?;
    import(product, vec![entry(key.spki(), &product.stack.person(Role::Limited).name)]).await?;
    let side = async |product: &Product| {
        let workers = logins(&product.door(), &key, &key.hint(), AT_A_TIME).await?;
        io::Result::Ok(Side { pids: product.pids(SERVING), workers })
    };
    let mut figures = Vec::new();
    for (many, of) in [(999, "1,000 keys, "), (99_999, "100,000 keys, ")] {
        let larger = with_keys(&key, many).await?;
        let turns = measure(rounds, &mut side(&larger).await?, &mut side(product).await?).await?;
        figures.push(Figure::pair(turns, 1.1, None).of(of));
    }
    figures.push(searched(product, &key, rounds).await?);
    Ok(figures)
}

/// Without a hint, and with the worst order of the search that there is: those that are not it come first.
async fn searched(product: &Product, key: &Signer, rounds: Rounds) -> io::Result<Figure> {
    const LEAST: f64 = 34.0;
    let source = last_source(product, key).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?.as_secs();
    let others = many_rsa(key, 999)?.into_iter().enumerate().map(|(number, spki)| {
        let mut entry = entry(spki, &format!("u{}", number / 500));
        entry.last_source.clone_from(&source);
        entry.last_used = i64::try_from(now + 80_000).ok();
        entry
    });
    import(product, others.collect()).await?;
    let mut side = Side { pids: product.pids(SERVING), workers: logins(&product.door(), key, "", 2).await? };
    let mut turns = Vec::new();
    for _ in 0..rounds.rounds {
        turns.push(side.turn(std::time::Duration::from_secs(rounds.seconds)).await?);
    }
    let each_second = median(turns.iter().map(Turn::each_second).collect());
    let cpu = median(turns.iter().map(Turn::cpu_each).collect());
    let note = format!(
        "without a hint, the last of 1,000: {each_second:.0} each second ({LEAST} at least), {cpu:.0} us CPU each"
    );
    Ok(Figure::absolute("ms each", 1e3 / each_second, 1e3 / LEAST, note))
}

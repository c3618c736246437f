//! What one says, 1,000 hear.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use doorward_tests::{Options, Program};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::UnixStream};

use super::{Row, redis_server::Redis};
use crate::{
    client::{Door, Socket, upgrade},
    cpu,
    crowd::{Crowd, Stream, Template, frame},
    product::{Floor, Product, envelope},
    report::Figure,
    rounds::{Rounds, Turn, median},
};

const LISTENERS: usize = 1_000;
/// So many publications are under way before the publisher waits until everybody has the oldest.
const WINDOWS: [(usize, &str); 2] = [(1, "window 1, "), (16, "window 16, ")];
/// At most so much of the floor's CPU, which is 0.8 of its speed.
const MOST: f64 = 1.25;

pub(super) const PLAIN: Row = Row {
    name: "fanout",
    what: "a publication to 1,000 WebSockets on the Unix socket, each delivery",
    target: "at most 1.25 of the CPU of a toy that frames once and writes what waits at once",
    measure: |product, rounds| Box::pin(memory(product, rounds, false)),
};

pub(super) const TLS: Row = Row {
    name: "fanout-tls",
    what: "the same over TLS",
    target: "at most 1.25 of the toy's CPU",
    measure: |product, rounds| Box::pin(memory(product, rounds, true)),
};

pub(super) const REDIS: Row = Row {
    name: "fanout-redis",
    what: "the same on the Unix socket with the engine redis, beside 1,000 subscribers of redis-server itself",
    target: "at most 1.25 of redis-server's CPU",
    measure: |product, rounds| Box::pin(redis(product, rounds)),
};

pub(super) const SLOW: Row = Row {
    name: "fanout-slow",
    what: "p99 of 999 listeners while the thousandth does not read, beside without it",
    target: "at most 1.2 times",
    measure: |product, rounds| Box::pin(slow(product, rounds)),
};

/// 150 bytes of JSON with a number in it.
fn payload() -> String {
    format!(r#"{{"number":"0000000000","data":"{}"}}"#, "x".repeat(117))
}

fn publication() -> String {
    format!(r#"{{"action":"publish","channel":"room","message":{}}}"#, payload())
}

fn delivery() -> String {
    format!(r#"{{"channel":"room","message":{}}}"#, payload())
}

/// The services with a channel for everybody who is logged in, and without the bounds that one busy publisher meets.
async fn channels(
    product: &mut Product,
    configured: impl FnOnce(Options) -> Options,
) -> io::Result<tempfile::TempDir> {
    let place = tempfile::tempdir()?;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755))?;
    let table = place.path().join("channels.toml");
    std::fs::write(&table, "[channels.room]\nsubscribe = \"member\"\npublish = \"member\"\n")?;
    let options = |options: Options| {
        let options = options.gateway("channels.file", table.display().to_string());
        configured(options.gateway("limits.publishes", 1_000_000))
    };
    *product = Product::start_as(options).await?;
    Ok(place)
}

/// Where WebSockets are opened.
enum Place {
    Unix(PathBuf),
    Tls(Door),
}

impl Place {
    async fn open(&self) -> io::Result<Socket<Box<dyn Stream>>> {
        match self {
            Self::Unix(path) => {
                let stream: Box<dyn Stream> = Box::new(UnixStream::connect(path).await?);
                upgrade("ws://localhost/".to_owned(), stream).await
            }
            Self::Tls(door) => {
                let stream: Box<dyn Stream> = Box::new(door.connect().await?);
                upgrade(format!("wss://{}/", door.address()), stream).await
            }
        }
    }

    fn of(product: &Product, tls: bool) -> Self {
        match tls {
            true => Self::Tls(product.door()),
            false => Self::Unix(product.stack.path("run/gateway.sock")),
        }
    }
}

async fn logged_in(product: &Product, place: &Place) -> io::Result<Socket<Box<dyn Stream>>> {
    let mut socket = place.open().await?;
    let take_up = envelope("rpc", "auth_token", &format!(r#"{{"token":"{}"}}"#, product.token));
    socket.succeed(&take_up).await?;
    Ok(socket)
}

/// One that is subscribed.
async fn listener(product: &Product, place: &Place) -> io::Result<Box<dyn Stream>> {
    let mut socket = logged_in(product, place).await?;
    let told = socket.ask(r#"{"action":"subscribe","channel":"room"}"#).await?;
    match told.contains(r#""name":"subscribed""#) {
        true => Ok(socket.into_stream()),
        false => Err(io::Error::other(told)),
    }
}

async fn crowd(product: &Product, place: &Place, listeners: usize, pids: Vec<u32>) -> io::Result<Crowd> {
    let mut all = Vec::with_capacity(listeners);
    for _ in 0..listeners {
        all.push(listener(product, place).await?);
    }
    let publisher = logged_in(product, place).await?.into_stream();
    let asked = Template::new(&frame(publication().as_bytes(), true));
    let said = Template::new(&frame(delivery().as_bytes(), false));
    Ok(Crowd::new(pids, publisher, all, asked, said, None))
}

async fn toy(floor: &Floor, place: &Place) -> io::Result<Crowd> {
    let mut all = Vec::with_capacity(LISTENERS);
    for _ in 0..LISTENERS {
        let mut socket = place.open().await?;
        socket.ask("subscribe").await?;
        all.push(socket.into_stream());
    }
    let publisher = place.open().await?.into_stream();
    // It says what everybody gets: there is nothing to be made of it.
    let [asked, said] = [true, false].map(|masked| Template::new(&frame(delivery().as_bytes(), masked)));
    Ok(Crowd::new(vec![floor.pid()], publisher, all, asked, said, None))
}

/// Both in turns at each window, after a turn of each that does not count.
async fn compare(rounds: Rounds, ours: &mut Crowd, theirs: &mut Crowd) -> io::Result<Vec<Figure>> {
    let length = Duration::from_secs(rounds.seconds);
    let mut figures = Vec::new();
    for (window, name) in WINDOWS {
        ours.turn(window, length / 4).await?;
        theirs.turn(window, length / 4).await?;
        let mut turns: Vec<(Turn, Turn)> = Vec::new();
        for _ in 0..rounds.rounds {
            turns.push((ours.turn(window, length).await?, theirs.turn(window, length).await?));
        }
        figures.push(Figure::pair(turns, MOST, None).of(name));
    }
    Ok(figures)
}

async fn memory(product: &mut Product, rounds: Rounds, tls: bool) -> io::Result<Vec<Figure>> {
    let directory = channels(product, |options| options).await?;
    let socket = directory.path().join("toy.sock");
    let arguments = if tls { vec![] } else { vec!["--socket".to_owned(), socket.display().to_string()] };
    let floor = Floor::start("fanout", &arguments).await?;
    let toys = if tls { Place::Tls(Door::new(&floor.address)) } else { Place::Unix(socket) };
    let gateway = product.pids(&[Program::Gateway]);
    let mut ours = crowd(product, &Place::of(product, tls), LISTENERS, gateway).await?;
    let mut theirs = toy(&floor, &toys).await?;
    compare(rounds, &mut ours, &mut theirs).await
}

async fn redis(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let start = || Redis::start().ok_or_else(|| io::Error::other("there is no redis-server"));
    let (behind, alone) = (start()?, start()?);
    let _directory = channels(product, |options| {
        let uid = rustix::process::geteuid().as_raw().to_string();
        options
            .gateway("channels.engine", "redis")
            .gateway("redis.prefix", "ws")
            .gateway("redis.socket", behind.socket().display().to_string())
            .gateway("redis.socket_user", uid)
    })
    .await?;
    let gateway = product.stack.pid(Program::Gateway);
    let mut ours = crowd(product, &Place::of(product, false), LISTENERS, vec![gateway, behind.pid()]).await?;
    let mut theirs = subscribers(&alone.socket(), alone.pid()).await?;
    let before = [gateway, behind.pid()].map(|pid| cpu::used(&[pid]));
    let mut figures = compare(rounds, &mut ours, &mut theirs).await?;
    let [gateway, redis] = [(gateway, before[0]), (behind.pid(), before[1])]
        .map(|(pid, before)| (cpu::used(&[pid]) - before).as_secs_f64());
    let share = 100.0 * redis / (gateway + redis);
    figures.push(Figure::Note(format!(
        "{share:.1} % of the product's CPU is that of the redis-server behind it"
    )));
    Ok(figures)
}

/// Of redis-server's own.
async fn subscribers(socket: &Path, pid: u32) -> io::Result<Crowd> {
    let mut all: Vec<Box<dyn Stream>> = Vec::with_capacity(LISTENERS);
    for _ in 0..LISTENERS {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"SUBSCRIBE ws:room:events\r\n").await?;
        let expected = b"*3\r\n$9\r\nsubscribe\r\n$14\r\nws:room:events\r\n:1\r\n";
        let mut told = vec![0; expected.len()];
        stream.read_exact(&mut told).await?;
        if told != expected {
            return Err(io::Error::other(String::from_utf8_lossy(&told).into_owned()));
        }
        all.push(Box::new(stream));
    }
    let payload = payload();
    let rest = format!("$14\r\nws:room:events\r\n${}\r\n{payload}\r\n", payload.len());
    let asked = Template::new(format!("*3\r\n$7\r\nPUBLISH\r\n{rest}").as_bytes());
    let said = Template::new(format!("*3\r\n$7\r\nmessage\r\n{rest}").as_bytes());
    let publisher = Box::new(UnixStream::connect(socket).await?);
    Ok(Crowd::new(vec![pid], publisher, all, asked, said, Some(b":1000\r\n")))
}

async fn slow(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let _directory = channels(product, |options| options).await?;
    let gateway = product.pids(&[Program::Gateway]);
    let length = Duration::from_secs(rounds.seconds);
    let place = Place::of(product, false);
    let mut others = crowd(product, &place, LISTENERS - 1, gateway).await?;
    let mut figures = Vec::new();
    for (window, name) in WINDOWS {
        others.turn(window, length / 4).await?;
        let mut ratios = Vec::new();
        for _ in 0..rounds.rounds {
            let quiet = others.turn(window, length).await?;
            // What waits for it grows, as long as it may; then it is closed.
            let deaf = listener(product, &place).await?;
            let loud = others.turn(window, length).await?;
            drop(deaf);
            ratios.push(loud.percentile(99) / quiet.percentile(99));
        }
        let note = format!("{name}p99 of the others with one that does not read, beside without it");
        figures.push(Figure::absolute("times", median(ratios), 1.2, note));
    }
    Ok(figures)
}

//! The rows: what is measured, against what, and how much it may be.

use std::{
    io,
    time::{Duration, Instant},
};

use doorward_tests::{
    Client, Program, Role,
    web::{Way, Web},
};
use futures_util::future::BoxFuture;

use crate::{
    client::{Door, Http, Socket},
    cpu,
    product::{Floor, Product, args_of, envelope, with_a_hop},
    report::{self, Figure},
    rounds::{Rounds, Side, Work, measure, median},
};

/// One row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) target: &'static str,
    measure: for<'a> fn(&'a mut Product, Rounds) -> BoxFuture<'a, io::Result<Vec<Figure>>>,
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "query",
        what: "authenticated request that the gateway decides (rpc/query) over TLS",
        target: "at most 1.18 of the toy's CPU",
        measure: |product, rounds| Box::pin(query(product, rounds)),
    },
    Row {
        name: "sessions",
        what: "authenticated request that asks authd (rpc/sessions, list of one) over TLS",
        target: "at most 1.12 of the toy's CPU, p99 at most 1.3",
        measure: |product, rounds| Box::pin(sessions(product, rounds)),
    },
    Row {
        name: "subsystem",
        what: "call of a subsystem that answers at once, over TLS",
        target: "at most 1.12 of the CPU of a toy with one hop",
        measure: |product, rounds| Box::pin(subsystem(product, rounds)),
    },
    Row {
        name: "connect",
        what: "connect, TLS, upgrade, rpc/identify",
        target: "at most 1.15 of the toy's CPU",
        measure: |product, rounds| Box::pin(connect(product, rounds)),
    },
    Row {
        name: "head",
        what: "HEAD token check over keep-alive TLS",
        target: "at most 1.18 of a bare hyper server's CPU",
        measure: |product, rounds| Box::pin(head(product, rounds)),
    },
    Row {
        name: "storm",
        what: "p99 of rpc/query while passwords are checked, beside quiet",
        target: "at most twice the quiet p99",
        measure: |product, rounds| Box::pin(storm(product, rounds)),
    },
    Row {
        name: "idle",
        what: "memory of an idle authenticated TLS connection, 10,000 of them",
        target: "at most 16 KiB",
        measure: |product, rounds| Box::pin(idle(product, rounds)),
    },
    Row {
        name: "start",
        what: "start to ready, and memory then",
        target: "100 ms each; gateway 12 MiB, authd and certd 16 MiB",
        measure: |product, rounds| Box::pin(start(product, rounds)),
    },
];

/// A registration takes effect within two seconds.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Measures the rows of these names; whether all reach their targets.
pub(crate) fn run(names: &[String], rounds: Rounds) -> io::Result<bool> {
    let all = names.iter().any(|name| name == "all");
    if let Some(unknown) =
        names.iter().find(|name| *name != "all" && ROWS.iter().all(|row| row.name != **name))
    {
        return Err(io::Error::other(format!("there is no row {unknown}: `list` shows them")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut reached = true;
    report::header(rounds);
    for row in ROWS.iter().filter(|row| all || names.iter().any(|name| name == row.name)) {
        // Each row has services of its own: what one leaves behind is no other's burden.
        let figures = runtime.block_on(async {
            let mut product = Product::start().await?;
            (row.measure)(&mut product, rounds).await
        })?;
        for figure in figures {
            reached &= report::show(row, &figure);
        }
    }
    Ok(reached)
}

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

fn asking(sockets: Vec<Socket>, request: &str) -> Vec<Box<dyn Work>> {
    let one = |socket| Box::new(Asking { socket, request: request.to_owned() }) as Box<dyn Work>;
    sockets.into_iter().map(one).collect()
}

async fn opened(door: &Door, count: usize) -> io::Result<Vec<Socket>> {
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
    let request = envelope("test", "fake", &format!(r#"{{"action":"read","answer":{answer}}}"#));
    // It believes everybody and answers at once: what is measured is the way there, as with the floor.
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

/// Checks a token again and again.
struct Checking {
    http: Http,
    request: String,
}

impl Work for Checking {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            match self.http.ask(&self.request).await? {
                204 => Ok(()),
                status => Err(io::Error::other(format!("the check of a token was answered {status}"))),
            }
        })
    }
}

async fn head(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let mut web = Web::connect(&product.stack, Way::Plain).await;
    let token = web.issue(product.stack.person(Role::Full), r#"{"expiration":3600}"#).await;
    let floor = Floor::start("http", &["--token".to_owned(), token.clone()]).await?;
    let request = format!("HEAD /0.1/token/{token} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let doors = (Door::new(product.stack.token_address()), Door::new(&floor.address));
    for _ in 0..rounds.connections {
        let one = |http| Box::new(Checking { http, request: request.clone() }) as Box<dyn Work>;
        ours.push(one(doors.0.http().await?));
        theirs.push(one(doors.1.http().await?));
    }
    let mut ours = Side { pids: product.pids(&[Program::Gateway]), workers: ours };
    let mut theirs = Side { pids: vec![floor.pid()], workers: theirs };
    Ok(vec![Figure::pair(measure(rounds, &mut ours, &mut theirs).await?, 1.18, None)])
}

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

async fn idle(product: &mut Product, _: Rounds) -> io::Result<Vec<Figure>> {
    const MANY: usize = 10_000;
    let gateway = product.stack.pid(Program::Gateway);
    // What the first ones cost once is no connection's.
    drop(product.sockets(100).await?);
    let before = cpu::resident(gateway);
    let held = product.sockets(MANY).await?;
    let each = cpu::resident(gateway).saturating_sub(before) as f64 / held.len() as f64 / 1024.0;
    Ok(vec![Figure::absolute("KiB each", each, 16.0, format!("{MANY} connections"))])
}

async fn start(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (program, name, most) in [
        (Program::Gateway, "gateway", 12.0),
        (Program::Authd, "authd", 16.0),
        (Program::Certd, "certd", 16.0),
    ] {
        let mut times = Vec::new();
        for _ in 0..rounds.rounds {
            product.stack.stop(program);
            let began = Instant::now();
            product.stack.start_again(program);
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let memory = cpu::resident(product.stack.pid(program)) as f64 / f64::from(1 << 20);
        figures.push(Figure::absolute("ms to ready", median(times), 100.0, name.to_owned()));
        figures.push(Figure::absolute("MiB", memory, most, name.to_owned()));
    }
    Ok(figures)
}

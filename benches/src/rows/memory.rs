//! What the services need when nobody asks them anything: memory of connections, and of themselves.

use std::{io, time::Instant};

use doorward_tests::Program;

use super::Row;
use crate::{
    cpu,
    product::Product,
    report::Figure,
    rounds::{Rounds, median},
};

pub(super) const IDLE: Row = Row {
    name: "idle",
    what: "memory of an idle authenticated TLS connection, 10,000 of them",
    target: "at most 16 KiB",
    measure: |product, rounds| Box::pin(idle(product, rounds)),
};

pub(super) const START: Row = Row {
    name: "start",
    what: "start to ready, and memory then",
    target: "100 ms each; gateway 12 MiB, authd and certd 16 MiB",
    measure: |product, rounds| Box::pin(start(product, rounds)),
};

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

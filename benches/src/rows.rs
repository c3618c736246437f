//! The rows: what is measured, against what, and how much it may be. Each subject has a file.

mod connect;
mod fanout;
mod head;
mod key;
mod memory;
mod password;
#[path = "../../gateway/tests/gateway/redis_server.rs"]
mod redis_server;
mod register;
mod requests;
mod storm;
mod tokens;

use std::io;

use futures_util::future::BoxFuture;

use crate::{
    figures::Figures,
    product::Product,
    report::{self, Figure},
    rounds::Rounds,
};

/// One row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) target: &'static str,
    measure: for<'a> fn(&'a mut Product, Rounds) -> BoxFuture<'a, io::Result<Vec<Figure>>>,
}

pub(crate) const ROWS: &[Row] = &[
    requests::QUERY,
    requests::SESSIONS,
    requests::SUBSYSTEM,
    connect::CONNECT,
    head::HEAD,
    tokens::TOKENS,
    password::PASSWORD,
    key::KEY,
    key::RSA,
    register::REGISTER,
    storm::STORM,
    memory::IDLE,
    memory::START,
    fanout::PLAIN,
    fanout::TLS,
    fanout::REDIS,
    fanout::SLOW,
];

/// Measures the rows of these names; whether all reach their targets, and what is to be recorded of them.
pub(crate) fn run(names: &[String], rounds: Rounds) -> io::Result<(bool, Figures)> {
    let all = names.iter().any(|name| name == "all");
    if let Some(unknown) =
        names.iter().find(|name| *name != "all" && ROWS.iter().all(|row| row.name != **name))
    {
        return Err(io::Error::other(format!("there is no row {unknown}: `list` shows them")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut reached, mut ratios) = (true, Figures::new());
    report::header(rounds);
    for row in ROWS.iter().filter(|row| all || names.iter().any(|name| name == row.name)) {
        // Each row has services of its own: what one leaves behind is no other's burden.
        let figures = runtime.block_on(async {
            let mut product = Product::start().await?;
            (row.measure)(&mut product, rounds).await
        })?;
        for figure in figures {
            reached &= report::show(row, &figure);
            ratios.extend(report::recorded(row, &figure));
        }
    }
    Ok((reached, ratios))
}

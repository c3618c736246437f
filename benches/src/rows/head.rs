//! Token checks.

use std::io;

use doorward_tests::{
    Program, Role,
    web::{Way, Web},
};
use futures_util::future::BoxFuture;

use super::Row;
use crate::{
    client::{Door, Http},
    product::{Floor, Product},
    report::Figure,
    rounds::{Rounds, Side, Work, measure},
};

pub(super) const HEAD: Row = Row {
    name: "head",
    what: "HEAD token check over keep-alive TLS",
    target: "at most 1.18 of a bare hyper server's CPU",
    measure: |product, rounds| Box::pin(head(product, rounds)),
};

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

//! Logins by password.

use std::{fs, io, thread};

use doorward_tests::{Program, Role};
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

use super::{
    Row,
    requests::{asking, opened},
};
use crate::{
    product::{Floor, Product, envelope},
    report::Figure,
    rounds::{Rounds, Side, Work, measure},
};

pub(super) const PASSWORD: Row = Row {
    name: "password",
    what: "login by password (yescrypt) through gateway, authd, guard and worker, cores - 1 at a time",
    target: "at most 1.05 of the CPU of pam_unix in the process that asks",
    measure: |product, rounds| Box::pin(password(product, rounds)),
};

/// Has the floor check the same account again and again.
struct Checking {
    stream: BufStream<TcpStream>,
    question: String,
}

impl Work for Checking {
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            self.stream.write_all(self.question.as_bytes()).await?;
            self.stream.flush().await?;
            let mut answer = String::new();
            self.stream.read_line(&mut answer).await?;
            match answer.as_str() {
                "yes\n" => Ok(()),
                other => Err(io::Error::other(format!("PAM said {other:?}"))),
            }
        })
    }
}

/// What is measured is yescrypt, so it must be that.
fn is_yescrypt(user: &str) -> io::Result<()> {
    let shadow = fs::read_to_string("/etc/shadow")?;
    let hash = shadow.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
    match hash {
        Some(hash) if hash.starts_with("$y$") => Ok(()),
        _ => Err(io::Error::other(
            "new passwords are no yescrypt here: /etc/pam.d/common-password says what they are",
        )),
    }
}

async fn password(product: &mut Product, rounds: Rounds) -> io::Result<Vec<Figure>> {
    let person = product.stack.person(Role::Limited);
    is_yescrypt(&person.name)?;
    let at_a_time = thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1);
    let args = format!(r#"{{"username":"{}","password":"{}"}}"#, person.name, person.password);
    let service = product.stack.pam_service();
    let service = service.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidData)?;
    // The same service, so the same modules.
    let floor = Floor::start("account", &["--service".to_owned(), service.to_owned()]).await?;
    let mut theirs: Vec<Box<dyn Work>> = Vec::new();
    for _ in 0..at_a_time {
        let stream = BufStream::new(TcpStream::connect(&floor.address).await?);
        theirs
            .push(Box::new(Checking { stream, question: format!("{}\t{}\n", person.name, person.password) }));
    }
    let mut ours = Side {
        pids: product.pids(&[Program::Gateway, Program::Authd, Program::Guard]),
        workers: asking(opened(&product.door(), at_a_time).await?, &envelope("rpc", "auth", &args)),
    };
    let mut theirs = Side { pids: vec![floor.pid()], workers: theirs };
    Ok(vec![Figure::pair(measure(rounds, &mut ours, &mut theirs).await?, 1.05, None)])
}

//! `doorward events NAME...`: what is published, a line each, as it comes.

use serde_json::{Value, json};

use crate::{
    client::{Endpoint, Incoming, Listener},
    error::Error,
    login,
    output::{Output, json_text, printable, still_read},
    utc,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which events, for example system-state
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Name>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// The gateway's bound for one connection.
const NAMES_MAX: usize = 256;

/// 1 to 64 of `a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(String);

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err("an event is 1 to 64 of a-z 0-9 _ -".to_owned()),
        }
    }
}

/// What is left to do after a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Listen,
    Done,
}

/// Subscribes and prints, until so many came or something ends it.
pub(crate) async fn events(options: Options, endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let mut names: Vec<&str> = options.names.iter().map(|name| name.0.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > NAMES_MAX {
        return Err(Error::Usage(format!("at most {NAMES_MAX} events")));
    }
    let (client, _) = login::with_session(endpoint).await?;
    let mut listener = client.listen();
    let result = print(&mut listener, &names, options.count, output).await;
    listener.into_client().close().await;
    result
}

async fn print(
    listener: &mut Listener,
    names: &[&str],
    count: Option<u64>,
    output: Output,
) -> Result<(), Error> {
    let asked = listener.begin("events", "subscribe", &names).await?;
    let mut left = count;
    loop {
        let next = match listener.incoming().await? {
            Incoming::Answer { id, outcome } if id == asked || (id.is_empty() && outcome.is_err()) => {
                subscribed(names, outcome)?;
                Next::Listen
            }
            // The session's own, which nobody needs to ask for.
            Incoming::Event { name, args } if name == "auth" && !names.contains(&"auth") => {
                of_session(&args)?;
                Next::Listen
            }
            Incoming::Event { name, args } if names.contains(&name.as_str()) => {
                let next = one(&name, &args, &mut left, output)?;
                if name == "auth" {
                    of_session(&args)?;
                }
                next
            }
            Incoming::Answer { .. }
            | Incoming::Progress { .. }
            | Incoming::Event { .. }
            | Incoming::Said(_) => Next::Listen,
        };
        if next == Next::Done {
            return Ok(());
        }
    }
}

/// The gateway leaves out what nobody publishes here.
fn subscribed(names: &[&str], outcome: Result<Value, Error>) -> Result<(), Error> {
    let reply = outcome.map_err(|error| match error {
        Error::Refused { code: Some(400), message } => {
            Error::Refused { code: Some(400), message: format!("{message}: nothing publishes that here") }
        }
        other => other,
    })?;
    let accepted = reply.get("subscribe").and_then(Value::as_array);
    let accepted = accepted.ok_or_else(|| Error::unreachable("the gateway's reply makes no sense"))?;
    for name in names {
        if !accepted.iter().any(|accepted| accepted == *name) {
            tell(&format!("nothing publishes {name} here"));
        }
    }
    Ok(())
}

/// What became of the session.
pub(crate) fn of_session(args: &Value) -> Result<(), Error> {
    match args.get("reason").and_then(Value::as_str) {
        Some("expiring") => {
            let seconds = args.get("seconds").and_then(Value::as_u64).unwrap_or_default();
            tell(&format!("the session ends in {seconds} s"));
            Ok(())
        }
        Some("expired") => Err(Error::refused("the session's time is over; log in again")),
        Some("revoked") => Err(Error::refused("the session was ended by somebody else")),
        _ => Ok(()),
    }
}

fn one(name: &str, args: &Value, left: &mut Option<u64>, output: Output) -> Result<Next, Error> {
    let time = utc::text(utc::now());
    let line = if output.json {
        json_text(&json!({"time": time, "name": name, "args": args}))
    } else {
        format!("{time} {name} {}", printable(&args.to_string()))
    };
    let read = still_read(&(line + "\n"))?;
    *left = left.map(|left| left.saturating_sub(1));
    Ok(if read && *left != Some(0) { Next::Listen } else { Next::Done })
}

/// Says something beside what is printed.
pub(crate) fn tell(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "doorward: {}", printable(line));
}

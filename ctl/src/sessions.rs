//! `doorward sessions`: who is logged in, and ending it.

use serde_json::{Value, json};

use crate::{
    client::{Endpoint, REPLY_DEADLINE},
    error::Error,
    login,
    output::Output,
    utc,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show your sessions; with full access, everybody's
    List,
    /// End a session: its connections are closed at once
    #[command(group = clap::ArgGroup::new("which").required(true))]
    End {
        /// Which, as `list` names it
        #[arg(value_name = "SESSION", group = "which")]
        session: Option<String>,
        /// All of your own but the kept one
        #[arg(long, group = "which")]
        others: bool,
    },
}

/// Through the gateway, with the kept session.
pub(crate) async fn run(command: Command, endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let args = match &command {
        Command::List => json!({"action": "list"}),
        Command::End { session: Some(session), .. } => json!({"action": "end", "session": session}),
        Command::End { session: None, .. } => json!({"action": "end_others"}),
    };
    let reply = ask(endpoint, &args).await?;
    match command {
        Command::List => list(&reply?, output),
        Command::End { .. } => {
            let reply = reply.map_err(|error| match error {
                Error::Refused { code: Some(404), message } => Error::Refused {
                    code: Some(404),
                    message: format!("{message}: no such session, or not yours to end"),
                },
                other => other,
            })?;
            let ended = reply.get("ended").and_then(Value::as_u64);
            let ended = ended.ok_or_else(|| Error::unreachable("the gateway's reply makes no sense"))?;
            output.result(&[("ended", ended.to_string())], &json!({ "ended": ended }))
        }
    }
}

/// Those of one dialect alone.
pub(crate) async fn list_of(dialect: &str, endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let mut reply = ask(endpoint, &json!({"action": "list"})).await??;
    if let Some(entries) = reply.as_array_mut() {
        entries.retain(|entry| entry.get("dialect").and_then(Value::as_str) == Some(dialect));
    }
    list(&reply, output)
}

/// The outer error: there is no session to ask with.
async fn ask(endpoint: &Endpoint, args: &Value) -> Result<Result<Value, Error>, Error> {
    let (mut client, _) = login::with_session(endpoint).await?;
    let reply = client.request("rpc", "sessions", args, REPLY_DEADLINE).await;
    client.close().await;
    Ok(reply)
}

fn list(reply: &Value, output: Output) -> Result<(), Error> {
    let head = ["session", "user", "method", "dialect", "source", "started", "last used", "current"];
    output.list(head, &rows(reply)?, reply)
}

fn rows(reply: &Value) -> Result<Vec<[String; 8]>, Error> {
    let unclear = || Error::unreachable("the gateway's list of sessions makes no sense");
    let row = |entry: &Value| -> Option<[String; 8]> {
        let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
        let time = |name: &str| entry.get(name)?.as_u64().map(utc::text);
        let source = text("source").map(|source| if source.is_empty() { "local".to_owned() } else { source });
        let current = if entry.get("current")?.as_bool()? { "yes" } else { "" };
        Some([
            text("session")?,
            text("user")?,
            text("method")?,
            text("dialect")?,
            source?,
            time("started")?,
            time("last_used")?,
            current.to_owned(),
        ])
    };
    let entries = reply.as_array().ok_or_else(unclear)?;
    entries.iter().map(|entry| row(entry).ok_or_else(unclear)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        let good = json!({"session": "s", "user": "u", "method": "password", "dialect": "sysadm",
            "source": "", "started": 0, "last_used": 60, "current": true});
        let rows_of = |entry: &Value| rows(&json!([entry])).ok().map(|rows| rows.concat());
        let expected =
            ["s", "u", "password", "sysadm", "local", "1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"];
        assert_eq!(
            rows_of(&good).map(|cells| cells[..7].to_vec()),
            Some(expected.map(str::to_owned).to_vec())
        );
        for name in ["session", "user", "method", "dialect", "source", "started", "last_used", "current"] {
            let mut entry = good.clone();
            entry[name] = json!([]);
            assert_eq!(rows_of(&entry), None, "{name}");
        }
        assert!(rows(&json!({})).is_err());
        assert!(rows(&json!([])).expect("an empty list").is_empty());
    }
}

//! `doorward channels explain`: for root, what somebody may do on a channel, and which rule says so.
//!
//! Nothing is decided here. authd says which entries a user has; the gateway's own program, run for this question,
//! says what its table makes of them.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use doorward_proto::authd::v1::{
    Access, Dialect, ExplainRequest, Explanation, GivenEntry, rights_client::RightsClient,
};
use nix::unistd::User;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tonic::Code;

use crate::{
    acl::DEFAULT_SOCKET,
    channels::{Channel, Pk},
    error::Error,
    output::Output,
    program::{CONFIG_DIR, Programs},
    service,
};

const GATEWAY: (&str, &str) = ("doorward-gateway", "gateway.toml");
/// authd gives up on its user database before.
const REPLY_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// As root: whether somebody may subscribe and publish, and which rule decides
    #[command(
        after_help = "Exit codes: 0 something of it is allowed, 1 nothing is, 2 it cannot be said: a handler \
                      decides, or entries are not known."
    )]
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// A user of this host, KIND/ID of another identity, or - for whoever has not logged in
    user: Asked,
    /// Which channel
    channel: Channel,
    /// Which of its objects; without one the channel itself
    pk: Option<Pk>,
    /// A custom message of this name, too
    #[arg(long, value_name = "NAME")]
    action: Option<Channel>,
    /// The session has this ACL entry and no other but those that are named, in place of what the user has: of a JWT, a
    /// token, an authenticator
    #[arg(long = "entry", value_name = "ENTRY")]
    entries: Option<Vec<String>>,
    /// authd's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    authd: PathBuf,
    /// The directory of gateway.toml
    #[arg(long, value_name = "DIR", default_value = CONFIG_DIR)]
    config_dir: PathBuf,
}

/// Of whom something is to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Nobody,
    User(String),
    Other { kind: String, id: String },
}

impl std::str::FromStr for Asked {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None if text == "-" => Ok(Self::Nobody),
            None if text.is_empty() => Err("a name is not empty"),
            None => Ok(Self::User(text.to_owned())),
            Some(("user", _)) => Err("name a user of this host alone, without user/"),
            Some((kind, id)) if kind.is_empty() || id.is_empty() => {
                Err("an identity of another kind is KIND/ID")
            }
            Some((kind, id)) => Ok(Self::Other { kind: kind.to_owned(), id: id.to_owned() }),
        }
    }
}

/// Who is asked about, as the gateway would know them, and with which entries.
struct Somebody {
    asked: String,
    /// For the gateway's program; null: nobody.
    who: Value,
    given: Vec<GivenEntry>,
    /// What it holds for.
    holds_for: String,
}

/// What the gateway's program says.
#[derive(Deserialize)]
struct Answer {
    table: String,
    table_exists: bool,
    subscribe: One,
    publish: One,
    action: Option<One>,
}

#[derive(Deserialize)]
struct One {
    answer: String,
    key: Option<String>,
    rule: Option<String>,
    entry: Option<String>,
    place: Option<usize>,
    handler: Option<String>,
    why: String,
}

/// The answer is the exit code, too.
pub(crate) async fn run(command: Command, output: Output) -> ExitCode {
    let Command::Explain(asked) = command;
    match explain(&asked, output).await {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::from(2)
        }
    }
}

async fn explain(asked: &Explain, output: Output) -> Result<ExitCode, Error> {
    let somebody = somebody(asked).await?;
    let pk = asked.pk.as_ref().map(|pk| &pk.0);
    let action = asked.action.as_ref().map(|action| &action.0);
    let question = json!({"who": somebody.who, "channel": asked.channel.0, "pk": pk, "action": action});
    let programs = Programs::find()?;
    let said = programs
        .ask(GATEWAY, &asked.config_dir, "--explain-channel", question.to_string().as_bytes())
        .await
        .map_err(Error::Failed)?;
    let answer: Answer = serde_json::from_slice(&said)
        .map_err(|error| Error::Failed(format!("{} is of another version: {error}", GATEWAY.0)))?;
    let all: Vec<(&str, &One)> = [("subscribe", &answer.subscribe), ("publish", &answer.publish)]
        .into_iter()
        .chain(answer.action.as_ref().map(|one| ("action", one)))
        .collect();
    let table = match answer.table_exists {
        true => answer.table.clone(),
        false => format!("{}, which does not exist: nothing but one's own channel is allowed", answer.table),
    };
    let at = pk.map_or_else(|| asked.channel.0.clone(), |pk| format!("{} {pk}", asked.channel.0));
    let mut rows = vec![("who", somebody.asked.clone()), ("channel", at), ("table", table)];
    rows.extend(all.iter().map(|(verb, one)| (*verb, one.text(&somebody))));
    rows.push(("holds for", somebody.holds_for.clone()));
    let verbs: Map<String, Value> =
        all.iter().map(|(verb, one)| ((*verb).to_owned(), one.value(&somebody))).collect();
    let mut value = json!({
        "who": somebody.asked,
        "channel": asked.channel.0,
        "pk": pk,
        "table": answer.table,
        "table_exists": answer.table_exists,
        "holds_for": somebody.holds_for,
    });
    if let Some(members) = value.as_object_mut() {
        members.extend(verbs);
    }
    output.result(&rows, &value)?;
    let says = |answer: &str| all.iter().any(|(_, one)| one.answer == answer);
    Ok(match () {
        () if says("yes") => ExitCode::SUCCESS,
        () if says("handler") || says("unknown") => ExitCode::from(2),
        () => ExitCode::FAILURE,
    })
}

async fn somebody(asked: &Explain) -> Result<Somebody, Error> {
    let named = asked.entries.as_deref();
    let from_option = |entries: &[String]| {
        let given = |entry: &String| GivenEntry { entry: entry.clone(), origin: "--entry".to_owned() };
        entries.iter().map(given).collect::<Vec<_>>()
    };
    let given = from_option(named.unwrap_or_default());
    match &asked.user {
        Asked::Nobody if named.is_some() => {
            Err(Error::Usage("whoever has not logged in has no entries".to_owned()))
        }
        Asked::Nobody => Ok(Somebody {
            asked: "nobody in particular".to_owned(),
            who: Value::Null,
            given,
            holds_for: "whoever has connected and has not logged in".to_owned(),
        }),
        Asked::Other { kind, id } => Ok(Somebody {
            asked: format!("{kind}/{id}"),
            who: json!({"kind": kind, "id": id, "entries": named}),
            given,
            holds_for: match named {
                Some(_) => "a session with the entries of --entry, if authd knows such an identity",
                None => {
                    "an identity that authd knows: whether it does, and with which entries, its login says. \
                     --entry names them"
                }
            }
            .to_owned(),
        }),
        Asked::User(name) => match named {
            Some(entries) => Ok(Somebody {
                asked: name.clone(),
                who: user(name, entries)?,
                given,
                holds_for: "a session with the entries of --entry".to_owned(),
            }),
            None => of_authd(name, asked).await,
        },
    }
}

/// As the gateway is told of a local user.
fn user(name: &str, entries: &[String]) -> Result<Value, Error> {
    let found = User::from_name(name)
        .map_err(|error| Error::unreachable(format!("the user database cannot be asked: {error}")))?
        .ok_or_else(|| Error::refused(format!("there is no user {name}")))?;
    Ok(json!({"kind": "user", "name": name, "id": found.uid.to_string(), "entries": entries}))
}

async fn of_authd(name: &str, asked: &Explain) -> Result<Somebody, Error> {
    let mut rights = RightsClient::new(service::connect(&asked.authd, "authd").await?);
    // It is asked for the entries; what they mean on a channel the gateway says.
    let request =
        ExplainRequest { user: name.to_owned(), subject: "ws".to_owned(), dialect: Dialect::Channel.into() };
    let answer = timeout(REPLY_DEADLINE, rights.explain(request)).await;
    let answer = answer.map_err(|_| Error::unreachable("authd did not answer within 20 seconds"))?;
    let explanation: Explanation = answer
        .map_err(|status| match status.code() {
            Code::NotFound => Error::refused(format!("there is no user {name}")),
            _ => service::refused(&status, "authd"),
        })?
        .into_inner();
    let access = match explanation.access() {
        Access::Full => "full",
        Access::Limited => "limited",
        Access::Unspecified => {
            return Ok(Somebody {
                asked: format!("{name}, in no access group"),
                who: Value::Null,
                given: Vec::new(),
                holds_for: "whoever has not logged in, because this user cannot log in".to_owned(),
            });
        }
    };
    let entries: Vec<String> = explanation.entries.iter().map(|given| given.entry.clone()).collect();
    Ok(Somebody {
        asked: format!("{name}, {access} access"),
        who: user(name, &entries)?,
        given: explanation.entries,
        holds_for:
            "a login by password, or without one; a session by a JWT or a token of the token API can have \
                    fewer entries"
                .to_owned(),
    })
}

impl One {
    /// Where the session's entry that decides comes from.
    fn given<'a>(&self, somebody: &'a Somebody) -> Option<&'a GivenEntry> {
        somebody.given.get(self.place?)
    }

    /// `yes: channels.group.subscribe = acl: an entry of the session decides: ws.# from access.full_groups (group x)`
    fn text(&self, somebody: &Somebody) -> String {
        let mut text = match &self.handler {
            Some(socket) => format!("the handler at {socket} is asked"),
            None => self.answer.clone(),
        };
        match (&self.key, &self.rule) {
            (Some(key), Some(rule)) => text.push_str(&format!(": {key} = {rule}")),
            (Some(key), None) => text.push_str(&format!(": {key}")),
            (None, _) => {}
        }
        text.push_str(&format!(": {}", self.why));
        match (&self.entry, self.given(somebody)) {
            (Some(entry), _) => text.push_str(&format!(": {entry}")),
            (None, Some(given)) => text.push_str(&format!(": {} from {}", given.entry, given.origin)),
            (None, None) => {}
        }
        text
    }

    fn value(&self, somebody: &Somebody) -> Value {
        let given = self.given(somebody).map(|given| json!({"entry": given.entry, "from": given.origin}));
        let listed = self.entry.as_ref().map(|entry| json!({"entry": entry, "from": self.key}));
        json!({
            "answer": self.answer,
            "key": self.key,
            "rule": self.rule,
            "decided_by": listed.or(given),
            "handler": self.handler,
            "why": self.why,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_meant_is_one_word() {
        let asked = |text: &str| text.parse::<Asked>();
        let other = |kind: &str, id: &str| Asked::Other { kind: kind.into(), id: id.into() };
        assert_eq!(asked("-"), Ok(Asked::Nobody));
        assert_eq!(asked("alice"), Ok(Asked::User("alice".into())));
        assert_eq!(asked("terminal/a/b"), Ok(other("terminal", "a/b")));
        for wrong in ["", "user/1000", "/1", "terminal/"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}

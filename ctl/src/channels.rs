//! `doorward subscribe` and `doorward publish`: channels, where whoever may says something to whoever listens.

use std::{io::Read, time::Duration};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    client::{Endpoint, Incoming, Listener, Said},
    error::Error,
    events::{Next, of_session, tell},
    login,
    output::{Output, json_text, printable, still_read},
    utc,
};

/// The gateway's bound for a message, and with it for what is in one.
const MESSAGE_MAX: u64 = 128 << 10;
/// An engine that takes nothing is told to us long before.
const REPLY_DEADLINE: Duration = Duration::from_secs(60);
/// What the gateway itself says, about no channel.
const SYSTEM: &str = "system";
const INTERRUPTED: &str = "delivery interrupted";
const RESUMED: &str = "delivery resumed";

#[derive(Debug, clap::Args)]
pub(crate) struct Subscribe {
    /// Which channel
    channel: Channel,
    /// Which of its objects; without one the channel itself
    pk: Option<Pk>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(override_usage = "doorward publish [OPTIONS] <CHANNEL> [PK] <JSON>")]
pub(crate) struct Publish {
    /// Which channel
    channel: Channel,
    /// Which of its objects, if one is meant; then the message, one JSON value; `-` reads it from stdin
    #[arg(value_name = "PK|JSON", required = true, num_args = 1..=2, allow_negative_numbers = true)]
    rest: Vec<String>,
}

/// 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel(pub(crate) String);

impl std::str::FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err("a channel is 1 to 64 of A-Z a-z 0-9 _ -".to_owned()),
        }
    }
}

/// 1 to 128 bytes without `:` and control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pk(pub(crate) String);

impl std::str::FromStr for Pk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=128).contains(&text.len()) && !text.contains(|c: char| c == ':' || c.is_control());
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err("a PK is 1 to 128 bytes without `:` and control characters".to_owned()),
        }
    }
}

/// Where something is said.
struct Address {
    channel: Channel,
    pk: Option<Pk>,
}

#[derive(Serialize)]
struct Request<'a> {
    action: &'a str,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pk: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

impl Address {
    fn request<'a>(&'a self, action: &'a str) -> Request<'a> {
        Request { action, channel: &self.channel.0, pk: self.pk(), message: None, id: None }
    }

    fn pk(&self) -> Option<&str> {
        self.pk.as_ref().map(|pk| pk.0.as_str())
    }

    fn is(&self, said: &Said) -> bool {
        said.channel == self.channel.0 && said.pk.as_deref() == self.pk()
    }

    fn text(&self) -> String {
        let pk = self.pk().map(|pk| format!(" {pk}")).unwrap_or_default();
        printable(&format!("{}{pk}", self.channel.0))
    }

    /// A refusal of what was asked last, in the gateway's words.
    fn refusal(&self, said: &Said) -> Option<Error> {
        if !said.name.is_empty() || (said.channel != self.channel.0 && said.channel != SYSTEM) {
            return None;
        }
        let error =
            said.message.get("error").and_then(Value::as_str).filter(|error| *error != INTERRUPTED)?;
        let code =
            said.message.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok())?;
        Some(Error::from_wire(code, format!("{error} ({code})")))
    }
}

/// Whether the gateway says that messages get lost, or that they come again. That is for people.
fn interruption(said: &Said) -> bool {
    let says = |member: &str, text: &str| said.message.get(member).and_then(Value::as_str) == Some(text);
    let line = match () {
        () if said.channel != SYSTEM || said.pk.is_some() => return false,
        () if says("error", INTERRUPTED) => "delivery is interrupted: what is published now may not come",
        () if says("name", RESUMED) => "delivery goes on",
        () => return false,
    };
    tell(line);
    true
}

/// Prints what is said on a channel, until so many came or something ends it.
pub(crate) async fn subscribe(options: Subscribe, endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let Subscribe { channel, pk, count } = options;
    let address = Address { channel, pk };
    let (client, _) = login::with_session(endpoint).await?;
    let mut listener = client.listen();
    let result = print(&mut listener, &address, count, output).await;
    listener.into_client().close().await;
    result
}

async fn print(
    listener: &mut Listener,
    address: &Address,
    count: Option<u64>,
    output: Output,
) -> Result<(), Error> {
    listener.say(&address.request("subscribe")).await?;
    let (mut subscribed, mut left) = (false, count);
    loop {
        match listener.incoming().await? {
            Incoming::Said(said) if interruption(&said) => {}
            Incoming::Said(said) if !subscribed => {
                if let Some(refusal) = address.refusal(&said) {
                    return Err(refusal);
                }
                subscribed = said.name == "subscribed" && address.is(&said);
                if subscribed {
                    // From now on nothing is missed: whoever waits for that reads it here.
                    tell(&format!("subscribed to {}", address.text()));
                }
            }
            Incoming::Said(said) if said.name.is_empty() && address.is(&said) => {
                if one(&said, &mut left, output)? == Next::Done {
                    return Ok(());
                }
            }
            // The session's own.
            Incoming::Event { name, args } if name == "auth" => of_session(&args)?,
            Incoming::Said(_)
            | Incoming::Answer { .. }
            | Incoming::Progress { .. }
            | Incoming::Event { .. } => {}
        }
    }
}

fn one(said: &Said, left: &mut Option<u64>, output: Output) -> Result<Next, Error> {
    let Said { channel, pk, message, .. } = said;
    let time = utc::text(utc::now());
    let line = if output.json {
        json_text(&json!({"time": time, "channel": channel, "pk": pk, "message": message}))
    } else {
        let pk = pk.as_ref().map(|pk| format!(" {}", printable(pk))).unwrap_or_default();
        format!("{time} {channel}{pk} {}", printable(&message.to_string()))
    };
    let read = still_read(&(line + "\n"))?;
    *left = left.map(|left| left.saturating_sub(1));
    Ok(if read && *left != Some(0) { Next::Listen } else { Next::Done })
}

/// Says one thing on a channel; done when the gateway says that it is published.
pub(crate) async fn publish(options: Publish, endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let mut rest = options.rest.into_iter();
    let (pk, message) = match (rest.next(), rest.next()) {
        (Some(pk), Some(message)) => (Some(pk.parse::<Pk>().map_err(Error::Usage)?), message),
        (Some(message), None) => (None, message),
        (None, _) => return Err(Error::Usage("say what is to be published".to_owned())),
    };
    let address = Address { channel: options.channel, pk };
    let message = read(message).await?;
    let (client, _) = login::with_session(endpoint).await?;
    let mut listener = client.listen();
    let published = timeout(REPLY_DEADLINE, acknowledged(&mut listener, &address, &message)).await;
    listener.into_client().close().await;
    published.map_err(|_| {
        Error::unreachable("the gateway did not say within 60 seconds that it is published")
    })??;
    output.result(
        &[("published", address.text())],
        &json!({"published": true, "channel": address.channel.0, "pk": address.pk()}),
    )
}

async fn acknowledged(listener: &mut Listener, address: &Address, message: &RawValue) -> Result<(), Error> {
    const ID: &str = "doorward-publish";
    let request = Request { message: Some(message), id: Some(ID), ..address.request("publish") };
    listener.say(&request).await?;
    loop {
        match listener.incoming().await? {
            Incoming::Said(said) if said.name == "published" && said.id == ID => return Ok(()),
            Incoming::Said(said) if interruption(&said) => {}
            Incoming::Said(said) => {
                if let Some(refusal) = address.refusal(&said) {
                    return Err(refusal);
                }
            }
            Incoming::Event { name, args } if name == "auth" => of_session(&args)?,
            Incoming::Answer { .. } | Incoming::Progress { .. } | Incoming::Event { .. } => {}
        }
    }
}

/// What is secret does not belong on a command line, which every user can read.
async fn read(text: String) -> Result<Box<RawValue>, Error> {
    let problem = |why: &str| Error::Usage(format!("a message is one JSON value: {why}"));
    let text = if text == "-" {
        // A read that waits must not keep us from hearing a signal.
        let read = spawn_blocking(|| {
            let mut text = String::new();
            std::io::stdin().take(MESSAGE_MAX + 1).read_to_string(&mut text).map(|_| text)
        });
        let read = read.await.map_err(|error| Error::Failed(format!("reading failed: {error}")))?;
        read.map_err(|error| problem(&error.to_string()))?
    } else {
        text
    };
    if text.len() as u64 > MESSAGE_MAX {
        return Err(problem("at most 128 KiB"));
    }
    RawValue::from_string(text.trim().to_owned()).map_err(|error| problem(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: Value) -> Said {
        let member = |name: &str| text[name].as_str().map(str::to_owned);
        Said {
            channel: member("channel").unwrap_or_default(),
            pk: member("pk"),
            name: member("name").unwrap_or_default(),
            message: text["message"].clone(),
            id: text["id"].clone(),
        }
    }

    #[test]
    fn what_the_gateway_would_refuse_is_not_sent() {
        let channel = |text: &str| text.parse::<Channel>().is_ok();
        assert!(channel("Room-1_a") && !channel("") && !channel("a b") && !channel("a:b"));
        assert!(channel(&"x".repeat(64)) && !channel(&"x".repeat(65)));
        let pk = |text: &str| text.parse::<Pk>().is_ok();
        assert!(pk("3") && pk("a b/ä") && !pk("") && !pk("a:b") && !pk("a\n"));
        assert!(pk(&"x".repeat(128)) && !pk(&"x".repeat(129)));
    }

    #[test]
    fn a_refusal_is_about_what_was_asked_and_no_delivery_is_one() {
        let address = Address { channel: "room".parse().expect("a name"), pk: None };
        let code = |text: Value| address.refusal(&said(text)).and_then(|error| error.code());
        let refused = json!({"error": "subscribe permission denied", "code": 403});
        assert_eq!(code(json!({"channel": "room", "message": refused})), Some(403));
        assert_eq!(
            code(json!({"channel": "system", "message": {"error": "bad message", "code": 400}})),
            Some(400)
        );
        assert_eq!(code(json!({"channel": "other", "message": refused})), None);
        assert_eq!(code(json!({"channel": "room", "name": "subscribed", "message": refused})), None);
        assert_eq!(code(json!({"channel": "system", "message": {"error": INTERRUPTED, "code": 503}})), None);
    }
}

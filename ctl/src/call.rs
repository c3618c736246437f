//! `doorward call NAMESPACE/NAME [ACTION] [JSON]`.

use std::{collections::BTreeMap, fs::File, io::Read, path::PathBuf, process::ExitCode, time::Duration};

use serde::de::IgnoredAny;
use serde_json::{json, value::RawValue};
use tokio::{
    signal::unix::Signal,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    client::{Client, Endpoint, Incoming, Listener},
    error::Error,
    login,
    output::Output,
    progress::Progress,
    signals,
    token_file::Place,
};

/// The gateway's bound for a message after login.
const ARGS_MAX: u64 = 128 * 1024;
/// A stream may go on for a day; what is silent meanwhile is found out otherwise.
const CALL_DEADLINE: Duration = Duration::from_secs(25 * 3_600);
/// A call that is cancelled is answered within a second.
const CANCEL_DEADLINE: Duration = Duration::from_secs(3);
/// The code of an answer to what was cancelled.
const CANCELLED: u16 = 499;
const INTERRUPTED: &str = "interrupted;";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to call, for example rpc/query
    #[arg(value_name = "NAMESPACE/NAME")]
    target: Target,
    /// An action: letters, digits, `_` and `-`, beginning with a letter or `_`, and not true, false or null.
    /// Anything else is the arguments
    #[arg(value_name = "ACTION|JSON")]
    first: Option<String>,
    /// The arguments, one JSON value, after an action an object without `action`; `-` reads them from stdin
    #[arg(value_name = "JSON")]
    second: Option<String>,
    /// Read the arguments from a file; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "second")]
    args_from: Option<PathBuf>,
    /// Log in as yourself, without a password, for this one request
    #[arg(long)]
    local: bool,
}

/// What to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write NAMESPACE/NAME, for example rpc/query".to_owned()),
        }
    }
}

/// Where the arguments are.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Nowhere,
    Here(String),
    Stdin,
    File(PathBuf),
}

/// Sends one request and shows what comes of it: progress on stderr, `args` of the reply on stdout. With
/// `local`, logs in as the user that the kernel says we are, for this one request; otherwise the kept session
/// is used, if there is one.
pub(crate) async fn call(options: Options, endpoint: &Endpoint, output: Output) -> Result<ExitCode, Error> {
    let Options { target, first, second, args_from, local } = options;
    if local && !endpoint.is_local() {
        return Err(Error::Usage("--local is for the Unix socket and for loopback".to_owned()));
    }
    let (action, source) = understood(first, second, args_from)?;
    let mut interrupt = signals::first_interrupt()?;
    let prepared = signals::until_terminated(async {
        let prepared = async {
            let args = merged(action.as_deref(), read(source).await?)?;
            let (client, known) = open(endpoint, local).await?;
            Ok((args, client, known))
        };
        // One that comes with the end of this is there still for the exchange.
        tokio::select! {
            prepared = prepared => prepared,
            _ = interrupt.recv() => Err(Error::Interrupted),
        }
    });
    let (args, client, known) = prepared.await?;
    signals::until_terminated(async {
        let mut listener = client.listen();
        let said = exchange(&mut listener, &target, &args, interrupt, output).await;
        let mut client = listener.into_client();
        // Whatever came of the request, its session must not outlive it.
        let ended = if local { login::end(&mut client).await } else { Ok(()) };
        client.close().await;
        let code = said.map_err(|error| match error {
            Error::Refused { code: Some(401), message } if !known => Error::Refused {
                code: Some(401),
                message: format!("{message}; log in first: doorward login"),
            },
            other => other,
        })?;
        ended.map(|()| code)
    })
    .await
}

/// A connection, and whether there is a session on it.
async fn open(endpoint: &Endpoint, local: bool) -> Result<(Client, bool), Error> {
    if local {
        return Ok((login::as_ourselves(endpoint).await?.0, true));
    }
    let place = Place::of(&endpoint.name())?;
    let mut client = Client::connect(endpoint).await?;
    let session = login::resume(&mut client, &place).await?;
    Ok((client, session.is_some()))
}

/// Sends the request and waits for its answer. The first Ctrl-C cancels it.
async fn exchange(
    listener: &mut Listener,
    target: &Target,
    args: &RawValue,
    mut interrupt: Signal,
    output: Output,
) -> Result<ExitCode, Error> {
    let asked = listener.begin(&target.namespace, &target.name, args).await?;
    let mut progress = Progress::new(output);
    let mut cancelled = false;
    let mut until = Instant::now() + CALL_DEADLINE;
    let outcome = loop {
        tokio::select! {
            // First: however much comes, Ctrl-C is heard.
            biased;
            _ = interrupt.recv(), if !cancelled => {
                cancelled = true;
                until = Instant::now() + CANCEL_DEADLINE;
                listener.begin("rpc", "cancel", &json!({ "id": asked })).await?;
            }
            () = sleep_until(until) => break match cancelled {
                true => Err(Error::Cancelled(format!("{INTERRUPTED} whether the call has ended was not said in time"))),
                false => Err(Error::unreachable("no reply within 25 hours")),
            },
            incoming = listener.incoming() => match incoming {
                Ok(Incoming::Progress { id, args }) if id == asked => progress.show(&args),
                Ok(Incoming::Answer { id, outcome }) if id == asked => break outcome,
                // The answer to a request whose id could not be read: ours, as no other of ours is answered so.
                Ok(Incoming::Answer { id, outcome: Err(error) }) if id.is_empty() => break Err(error),
                Ok(_) => {}
                Err(error) => break Err(error),
            },
        }
    };
    progress.clear();
    match outcome {
        Ok(reply) => {
            output.value(&reply)?;
            Ok(if cancelled { ExitCode::from(130) } else { ExitCode::SUCCESS })
        }
        Err(Error::Refused { code: Some(CANCELLED), .. }) if cancelled => {
            Err(Error::Cancelled(format!("{INTERRUPTED} the call was cancelled")))
        }
        Err(error @ Error::Cancelled(_)) => Err(error),
        Err(error) if cancelled => {
            Err(Error::Cancelled(format!("{INTERRUPTED} it ended otherwise: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// What the words of the command line are.
fn understood(
    first: Option<String>,
    second: Option<String>,
    file: Option<PathBuf>,
) -> Result<(Option<String>, Source), Error> {
    let (action, text) = match (first, second) {
        (Some(first), second) if is_action(&first) => (Some(first), second),
        (Some(first), Some(_)) => {
            return Err(Error::Usage(format!("{first:?} is no action: {ACTIONS}")));
        }
        (first, _) => (None, first),
    };
    let source = match (text, file) {
        (Some(_), Some(_)) => return Err(Error::Usage("the arguments are given twice".to_owned())),
        // What is secret does not belong on a command line, which every user can read.
        (Some(text), None) if text == "-" => Source::Stdin,
        (Some(text), None) => Source::Here(text),
        (None, Some(file)) if file.as_os_str() == "-" => Source::Stdin,
        (None, Some(file)) => Source::File(file),
        (None, None) => Source::Nowhere,
    };
    Ok((action, source))
}

const ACTIONS: &str = "an action is letters, digits, `_` and `-`, begins with a letter or `_`, and is not true, \
                       false or null; any other is named in the JSON";

fn is_action(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && !matches!(text, "true" | "false" | "null")
}

fn problem(why: &str) -> Error {
    Error::Usage(format!("the arguments of a call are one JSON value: {why}"))
}

async fn read(source: Source) -> Result<Option<String>, Error> {
    let reading = |read: Box<dyn FnOnce() -> std::io::Result<String> + Send>| async {
        let read = spawn_blocking(read).await;
        let text = read.map_err(|error| Error::Failed(format!("reading failed: {error}")))?;
        text.map_err(|error| problem(&error.to_string()))
    };
    let text = match source {
        Source::Nowhere => return Ok(None),
        Source::Here(text) => text,
        // A read that waits must not keep us from hearing a signal.
        Source::Stdin => reading(Box::new(|| bounded(std::io::stdin()))).await?,
        Source::File(path) => {
            let shown = path.display().to_string();
            let read = reading(Box::new(move || bounded(File::open(path)?))).await;
            read.map_err(|error| Error::Usage(format!("{shown}: {error}")))?
        }
    };
    if text.len() as u64 > ARGS_MAX { Err(problem("at most 128 KiB")) } else { Ok(Some(text)) }
}

fn bounded(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(ARGS_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// The arguments as they were written, with the action in them.
fn merged(action: Option<&str>, text: Option<String>) -> Result<Box<RawValue>, Error> {
    let text = text.unwrap_or_else(|| "{}".to_owned());
    let text = match action {
        None => text,
        Some(action) => {
            let members: BTreeMap<String, IgnoredAny> = serde_json::from_str(&text)
                .map_err(|error| problem(&format!("after an action an object: {error}")))?;
            if members.contains_key("action") {
                return Err(problem("they name an action, and so does the command line"));
            }
            // Only at its beginning is it changed: a number that we cannot hold stays what it is.
            let rest = text.trim_start().strip_prefix('{').unwrap_or_default();
            let comma = if members.is_empty() { "" } else { "," };
            format!("{{\"action\":\"{action}\"{comma}{rest}")
        }
    };
    RawValue::from_string(text).map_err(|error| problem(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_namespace_and_a_name() {
        let target: Target = "rpc/query".parse().expect("a target");
        assert_eq!((target.namespace.as_str(), target.name.as_str()), ("rpc", "query"));
        for text in ["", "rpc", "/query", "rpc/", "/"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_begins_with_a_letter_is_an_action_and_the_rest_is_json() {
        let words = |first: &str| understood(Some(first.to_owned()), None, None).expect(first);
        for action in ["memorystats", "_", "listJobs", "a-b_2"] {
            assert_eq!(words(action), (Some(action.to_owned()), Source::Nowhere));
        }
        for json in ["{}", "[1]", "1", "-1", "\"a\"", "true", "false", "null", "", " a", "2x", "a.b", "é"] {
            assert_eq!(words(json), (None, Source::Here(json.to_owned())));
        }
        assert_eq!(words("-"), (None, Source::Stdin));
    }

    #[test]
    fn arguments_come_from_one_place() {
        let some = |text: &str| Some(text.to_owned());
        let source =
            |first, second, file: Option<&str>| understood(first, second, file.map(PathBuf::from)).ok();
        assert_eq!(source(some("a"), some("-"), None), Some((some("a"), Source::Stdin)));
        assert_eq!(source(some("a"), None, Some("-")), Some((some("a"), Source::Stdin)));
        assert_eq!(source(None, None, Some("f")), Some((None, Source::File("f".into()))));
        assert_eq!(source(None, None, None), Some((None, Source::Nowhere)));
        for (first, second, file) in
            [("{}", Some("{}"), None), ("a", Some("{}"), Some("f")), ("{}", None, Some("f"))]
        {
            assert_eq!(source(some(first), second.and_then(some), file), None, "{first}");
        }
    }

    #[test]
    fn an_action_goes_into_the_arguments_which_stay_as_they_were_written() {
        let merged =
            |action, text: &str| merged(action, Some(text.to_owned())).map(|raw| raw.get().to_owned()).ok();
        for (text, with) in [
            ("{}", r#"{"action":"a"}"#),
            (" { } ", r#"{"action":"a" }"#),
            (
                r#"{"b":1e999,"c":12345678901234567890123}"#,
                r#"{"action":"a","b":1e999,"c":12345678901234567890123}"#,
            ),
        ] {
            assert_eq!(merged(Some("a"), text).as_deref(), Some(with));
        }
        assert_eq!(merged(None, "[1.0, 2]").as_deref(), Some("[1.0, 2]"));
        for text in ["[]", "1", "{", r#"{"action":"b"}"#, "{} {}"] {
            assert_eq!(merged(Some("a"), text), None, "{text}");
        }
    }
}

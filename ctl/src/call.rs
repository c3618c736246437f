//! `doorward call NAMESPACE/NAME [JSON]`.

use std::io::Read;

use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint, REPLY_DEADLINE},
    error::Error,
    login,
    output::Output,
    token_file::Place,
};

/// The gateway's bound for a message after login.
const ARGS_MAX: u64 = 128 * 1024;

/// What to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    namespace: String,
    name: String,
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

/// Sends one request and shows `args` of the reply. With `local`, logs in as the user that the kernel
/// says we are, for this one request; otherwise the kept session is used, if there is one.
pub(crate) async fn call(
    endpoint: &Endpoint,
    target: &Target,
    args: Option<&str>,
    local: bool,
    output: Output,
) -> Result<(), Error> {
    let args = arguments(args)?;
    if local && !endpoint.is_local() {
        return Err(Error::Usage("--local is for the Unix socket and for loopback".to_owned()));
    }
    let (mut client, known) = if local {
        (login::as_ourselves(endpoint).await?.0, true)
    } else {
        let place = Place::of(&endpoint.name())?;
        let mut client = Client::connect(endpoint).await?;
        let session = login::resume(&mut client, &place).await?;
        (client, session.is_some())
    };
    let reply = client.request(&target.namespace, &target.name, &args, REPLY_DEADLINE).await;
    // Whatever came of the request, its session must not outlive it.
    let ended = if local { login::end(&mut client).await } else { Ok(()) };
    client.close().await;
    let reply = reply.map_err(|error| match error {
        Error::Refused { code: Some(401), message } if !known => {
            Error::Refused { code: Some(401), message: format!("{message}; log in first: doorward login") }
        }
        other => other,
    })?;
    ended?;
    output.value(&reply)
}

fn arguments(args: Option<&str>) -> Result<Value, Error> {
    let problem = |why: &str| Error::Usage(format!("the arguments of a call are one JSON value: {why}"));
    let mut input = String::new();
    let text = match args {
        None => return Ok(json!({})),
        // What is secret does not belong on a command line, which every user can read.
        Some("-") => {
            std::io::stdin()
                .take(ARGS_MAX + 1)
                .read_to_string(&mut input)
                .map_err(|error| problem(&error.to_string()))?;
            if input.len() as u64 > ARGS_MAX {
                return Err(problem("at most 128 KiB"));
            }
            &input
        }
        Some(text) => text,
    };
    serde_json::from_str(text).map_err(|error| problem(&error.to_string()))
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
}

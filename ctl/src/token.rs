//! `doorward token`: a client of the HTTP token API. Passwords and tokens are never arguments, which every
//! user of the host can read.

use std::{
    fs::File,
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{Method, StatusCode, header::HeaderValue};
use nix::unistd::{Uid, User};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    client::{Answer, Endpoint, Http, LOGIN_DEADLINE, REPLY_DEADLINE},
    error::Error,
    output::{self, Output},
    prompt::Answers,
    sessions,
};

/// The dialect of its sessions, as the list of sessions has it.
const DIALECT: &str = "token";
/// A file with a token is read up to here.
const FILE_MAX: u64 = 4096;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Ask for a token with a password, and print it
    Issue {
        /// Whose; absent, yours
        user: Option<String>,
        /// The back end that knows the user [default: the server's]
        #[arg(long, value_name = "NAME")]
        backend: Option<String>,
        /// The token's whole life [default: the server's]
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        expiration: Option<u64>,
        /// Read the password from stdin, one line
        #[arg(long)]
        password_stdin: bool,
    },
    /// Ask whether a token is valid, and what it may do
    #[command(after_help = "The token is read from stdin, or asked for on a terminal.\n\
        Exit codes: 0 valid and granted, 1 not, 2 usage, 3 unreachable.")]
    Check {
        /// What it must be granted, for example confd.users.read; again for more
        #[arg(long, value_name = "ACL")]
        scope: Vec<String>,
        /// Where the token is, in place of stdin
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// End a token: it is refused from now on
    #[command(after_help = "The token is read from stdin, or asked for on a terminal.")]
    Revoke {
        /// Where the token is, in place of stdin
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Show the live tokens of the user who is logged in; with full access, everybody's
    List,
}

/// Through the gateway.
pub(crate) async fn run(command: Command, endpoint: &Endpoint, output: Output) -> Result<ExitCode, Error> {
    match command {
        Command::Issue { user, backend, expiration, password_stdin } => {
            let wish = Wish { backend, expiration };
            issue(endpoint, user, &wish, password_stdin, output).await?;
        }
        Command::Check { scope, token_file } => {
            let token = Token::find(token_file.as_deref()).await?;
            return check(endpoint, &token, &scope, output).await;
        }
        Command::Revoke { token_file } => {
            let token = Token::find(token_file.as_deref()).await?;
            revoke(endpoint, &token, output).await?;
        }
        Command::List => sessions::list_of(DIALECT, endpoint, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the token is to be like.
struct Wish {
    backend: Option<String>,
    expiration: Option<u64>,
}

async fn issue(
    endpoint: &Endpoint,
    user: Option<String>,
    wish: &Wish,
    password_stdin: bool,
    output: Output,
) -> Result<(), Error> {
    let own = || User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name);
    let nobody = || Error::Usage(format!("uid {} has no account here: name a user", Uid::effective()));
    let user = user.or_else(own).ok_or_else(nobody)?;
    if user.is_empty() || user.contains(':') {
        return Err(Error::Usage("a user name is not empty and has no colon in it".to_owned()));
    }
    let mut answers = if password_stdin { Answers::Stdin } else { Answers::terminal()? };
    let password = answers.ask(&format!("Password for {user}:"), true).await?;
    if password.is_empty() {
        return Err(Error::refused("the password is empty"));
    }
    let authorization = basic(&user, &password)?;
    drop(password);
    let mut body = Map::new();
    body.extend(wish.backend.as_deref().map(|name| ("backend".to_owned(), name.into())));
    body.extend(wish.expiration.map(|seconds| ("expiration".to_owned(), seconds.into())));
    let body = Value::Object(body).to_string();
    let http = Http::connect(endpoint).await?;
    let answer =
        http.ask(Method::POST, "/0.1/token", Some(authorization), Some(body), LOGIN_DEADLINE).await?;
    let data = data(&granted(answer, None)?)?;
    let token = data.get("token").and_then(Value::as_str).map(|text| Token::parse(text.as_bytes()));
    let token = token.and_then(Result::ok).ok_or_else(unclear)?;
    if output.json {
        return output.value(&data);
    }
    output::write_out(&format!("{}\n", token.text()))
}

/// Credentials as RFC 7617 has them.
fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    HeaderValue::from_str(&value).map_err(|_| Error::refused("these credentials cannot be sent"))
}

async fn check(
    endpoint: &Endpoint,
    token: &Token,
    scopes: &[String],
    output: Output,
) -> Result<ExitCode, Error> {
    let http = Http::connect(endpoint).await?;
    if scopes.is_empty() {
        let answer = http.ask(Method::GET, &token.path(""), None, None, REPLY_DEADLINE).await?;
        let data = data(&granted(answer, Some(token))?)?;
        output.result(&rows(&data).ok_or_else(unclear)?, &without_token(&data))?;
        return Ok(ExitCode::SUCCESS);
    }
    let body = json!({ "scopes": scopes }).to_string();
    let path = token.path("/scopes/check");
    let answer = http.ask(Method::POST, &path, None, Some(body), REPLY_DEADLINE).await?;
    let answer = granted(answer, Some(token))?;
    let said = said(&answer, scopes).ok_or_else(unclear)?;
    let word = |granted: bool| if granted { "granted" } else { "denied" }.to_owned();
    let rows: Vec<_> = said.iter().map(|(scope, granted)| (*scope, word(*granted))).collect();
    let value: Map<String, Value> =
        said.iter().map(|(scope, granted)| ((*scope).to_owned(), Value::Bool(*granted))).collect();
    output.result(&rows, &json!({ "scopes": value }))?;
    let all = said.iter().all(|(_, granted)| *granted);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn revoke(endpoint: &Endpoint, token: &Token, output: Output) -> Result<(), Error> {
    let http = Http::connect(endpoint).await?;
    let answer = http.ask(Method::DELETE, &token.path(""), None, None, REPLY_DEADLINE).await?;
    granted(answer, Some(token))?;
    // The server does not say whether there was one.
    output.result(&[("the token opens nothing now", String::new())], &json!({ "revoked": true }))
}

/// What is asked about each scope, in the order given. None: the server did not answer to one.
fn said<'a>(answer: &Value, scopes: &'a [String]) -> Option<Vec<(&'a str, bool)>> {
    let said = answer.get("scopes")?;
    scopes.iter().map(|scope| Some((scope.as_str(), said.get(scope)?.as_bool()?))).collect()
}

fn rows(data: &Value) -> Option<[(&'static str, String); 5]> {
    let text = |name: &str| data.get(name)?.as_str().map(str::to_owned);
    let entries = data.get("acl")?.as_array()?;
    let entries: Option<Vec<_>> = entries.iter().map(Value::as_str).collect();
    Some([
        ("holder", text("auth_id")?),
        ("issued", text("utc_issued_at")?),
        ("expires", text("utc_expires_at")?),
        ("session", text("session_uuid")?),
        ("acl", entries?.join(" ")),
    ])
}

/// Who asked has it; what is printed may go further.
fn without_token(data: &Value) -> Value {
    let mut data = data.clone();
    if let Some(members) = data.as_object_mut() {
        members.remove("token");
    }
    data
}

/// The body of an answer that says yes.
fn granted(answer: Answer, token: Option<&Token>) -> Result<Value, Error> {
    #[derive(Deserialize)]
    struct Refusal {
        reason: Vec<String>,
    }
    let Answer { status, body, retry_after } = answer;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|_| unclear());
    }
    let Ok(Refusal { reason }) = serde_json::from_slice(&body) else {
        // Not by this API: another server, or a gateway that refuses before it looks.
        let message = format!("the gateway refused the request: HTTP {}", status.as_u16());
        return Err(match status {
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                Error::from_wire(status.as_u16(), message)
            }
            _ => Error::unreachable(format!("there is no token API: HTTP {}", status.as_u16())),
        });
    };
    let mut message = format!("{} ({})", reason.join("; "), status.as_u16());
    if let Some(seconds) = retry_after {
        message.push_str(&format!("; in {seconds} s"));
    }
    // A server that repeats what it was shown does not get it onto a screen or into a log.
    if let Some(token) = token {
        message = message.replace(token.text(), "[token]");
    }
    Err(Error::from_wire(status.as_u16(), message))
}

fn data(answer: &Value) -> Result<Value, Error> {
    answer.get("data").filter(|data| data.is_object()).cloned().ok_or_else(unclear)
}

fn unclear() -> Error {
    Error::unreachable("the answer of the token API makes no sense")
}

/// A token, which no log or error shows and which can stand in a path.
struct Token(Zeroizing<String>);

impl Token {
    /// From the file, or from stdin; a person is asked.
    async fn find(file: Option<&Path>) -> Result<Self, Error> {
        let text = match file {
            Some(path) => read(path)?,
            None if std::io::stdin().is_terminal() => Answers::terminal()?.ask("Token:", true).await?,
            None => Answers::Stdin.ask("", true).await?,
        };
        Self::parse(text.as_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.trim_ascii();
        let fits = |(place, byte): (usize, &u8)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        let fits = bytes.len() == 36 && bytes.iter().enumerate().all(fits);
        let text = std::str::from_utf8(bytes).ok().filter(|_| fits);
        let text = text.ok_or_else(|| Error::refused("what was given is no token: a token is a UUID"))?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    fn text(&self) -> &str {
        &self.0
    }

    fn path(&self, rest: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("/0.1/token/{}{rest}", self.text()))
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let failed = |why: &str| Error::Failed(format!("cannot read the token in {}: {why}", path.display()));
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| failed(&error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed("it is longer than 4 KiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0af6c1a8-9c4d-4f0a-9a53-0123456789ab";

    fn refused(status: u16, body: &str, retry_after: Option<u64>) -> Error {
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            body: body.to_owned().into(),
            retry_after,
        };
        let token = Token::parse(TOKEN.as_bytes()).ok();
        granted(answer, token.as_ref()).expect_err("not 200, or no JSON")
    }

    #[test]
    fn a_token_is_a_uuid_with_blanks_around_it() {
        for text in [TOKEN.to_owned(), format!(" {TOKEN}\r\n"), TOKEN.to_uppercase()] {
            assert_eq!(
                Token::parse(text.as_bytes()).map(|token| token.text().to_owned()).ok(),
                Some(text.trim().to_owned())
            );
        }
        for text in
            ["", "x", "../../rpc/identify", &TOKEN[1..], &format!("{TOKEN}?"), &TOKEN.replace('-', "/")]
        {
            let error = Token::parse(text.as_bytes()).map(|_| ()).expect_err(text).to_string();
            assert!(text.is_empty() || text.len() == 1 || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_told_and_its_code_kept() {
        let body =
            |reason: &str| json!({"reason": [reason], "timestamp": [1.5], "status_code": 0}).to_string();
        for (status, reason, retry, kind, message) in [
            (401, "Authentication Failed", None, "refused", "Authentication Failed (401)"),
            (404, "No such token", None, "refused", "No such token (404)"),
            (429, "Too many", Some(60), "refused", "Too many (429); in 60 s"),
            (503, "A back end is away", None, "unreachable", "A back end is away (503)"),
        ] {
            let error = refused(status, &body(reason), retry);
            assert_eq!(
                (error.kind(), error.code(), error.to_string().as_str()),
                (kind, Some(status), message)
            );
        }
        let echo = refused(403, &body(&format!("Unauthorized for {TOKEN}")), None).to_string();
        assert_eq!(echo, "Unauthorized for [token] (403)");
    }

    #[test]
    fn what_is_no_answer_of_the_api_is_unreachable_and_not_shown() {
        for (status, body) in
            [(200, "<html>"), (404, "<html>"), (404, r#"{"args":{}}"#), (500, ""), (301, "")]
        {
            let error = refused(status, body, None);
            assert_eq!(error.kind(), "unreachable", "{status}");
            assert!(!error.to_string().contains("html"));
        }
        assert_eq!(refused(403, "", None).kind(), "refused");
    }

    #[test]
    fn every_scope_has_an_answer() {
        let scopes = ["a.b".to_owned(), String::new()];
        let answer = json!({"scopes": {"a.b": true, "": false}});
        assert_eq!(said(&answer, &scopes), Some(vec![("a.b", true), ("", false)]));
        for answer in [json!({"scopes": {"a.b": true}}), json!({"scopes": {"a.b": 1, "": false}}), json!([])]
        {
            assert_eq!(said(&answer, &scopes), None);
        }
    }

    #[test]
    fn credentials_may_have_colons_in_the_password() {
        let value = basic("alice", "a:b é").expect("a header");
        assert_eq!(value.to_str().ok(), Some("Basic YWxpY2U6YTpiIMOp"));
    }
}

//! `login` and `logout`.

use std::time::Duration;

use nix::unistd::{Uid, User};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    client::{Client, Endpoint, LOGIN_DEADLINE, REPLY_DEADLINE, Server},
    error::Error,
    key::PrivateKey,
    output::Output,
    prompt::Answers,
    proof::{self, Purpose},
    token_file::{Place, Session, Token},
};

/// PAM ends a conversation after 300 s; a server that asks more often than this is not one.
const ROUNDS_MAX: usize = 64;
/// How long a session lasts without a request, if the gateway does not say it.
const IDLE: Duration = Duration::from_secs(300);

/// What the gateway says to a login.
enum Answer {
    Granted(Grant),
    Asks { conversation: Value, prompts: Vec<Prompt> },
}

/// A session, just opened.
pub(crate) struct Grant {
    token: Token,
    seconds: u64,
}

#[derive(Deserialize)]
struct Prompt {
    style: Style,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    Hidden,
    Visible,
    Info,
    Error,
}

impl Answer {
    fn from_wire(args: &Value) -> Result<Self, Error> {
        if let Some([token, seconds]) = args.as_array().map(Vec::as_slice) {
            let token = token.as_str().and_then(Token::from_wire);
            if let (Some(token), Some(seconds)) = (token, seconds.as_u64()) {
                return Ok(Self::Granted(Grant { token, seconds }));
            }
        }
        let prompts = args.get("prompts").and_then(|prompts| Vec::deserialize(prompts).ok());
        match (args.get("conversation"), prompts) {
            (Some(conversation), Some(prompts)) => {
                Ok(Self::Asks { conversation: conversation.clone(), prompts })
            }
            _ => Err(Error::unreachable("the gateway's answer to the login makes no sense")),
        }
    }
}

/// `doorward login [USER]`.
pub(crate) async fn login(
    endpoint: &Endpoint,
    user: Option<&str>,
    password_stdin: bool,
    key: Option<&PrivateKey>,
    output: Output,
) -> Result<(), Error> {
    // Before anything is asked: a session that cannot be kept is not worth a password.
    let place = Place::of(&endpoint.name())?;
    let me = User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name);
    let granted = match (key, user) {
        (Some(key), user) => {
            let (client, grant) = with_key(endpoint, user, key).await?;
            let owner = || format!("the owner of {}", key.public().fingerprint());
            (client, grant, user.map_or_else(owner, str::to_owned))
        }
        (None, None) if !endpoint.is_local() => {
            return Err(Error::Usage("name the user to log in as: login USER".to_owned()));
        }
        (None, None) => {
            let (client, grant) = as_ourselves(endpoint).await.map_err(|error| match error {
                Error::Refused { code: Some(401), .. } => Error::Refused {
                    code: Some(401),
                    message:
                        "the gateway takes no login without a password from you: it is for members of an \
                              access group, never for root or a service; try `login USER` with a password"
                            .to_owned(),
                },
                other => other,
            })?;
            (client, grant, me.unwrap_or_else(|| Uid::effective().to_string()))
        }
        (None, Some(user)) => {
            let own = endpoint.is_local() && !Uid::effective().is_root() && me.as_deref() == Some(user);
            let tried = match endpoint {
                _ if password_stdin => None,
                _ if own => Some(as_ourselves(endpoint).await),
                _ if endpoint.has_certificate() => Some(without_password(endpoint, Some(user)).await),
                _ => None,
            };
            let (client, grant) = match tried {
                Some(Ok(granted)) => granted,
                // Under a penalty a password would not be tried either.
                Some(Err(error)) if error.code() == Some(403) => return Err(error),
                // Who cannot be asked for a password gets the answer there was.
                Some(Err(error @ Error::Refused { .. })) => match Answers::terminal() {
                    Ok(answers) => with_password(endpoint, user, answers).await?,
                    Err(_) => return Err(error),
                },
                Some(Err(error)) => return Err(error),
                None if password_stdin => with_password(endpoint, user, Answers::Stdin).await?,
                None => with_password(endpoint, user, Answers::terminal()?).await?,
            };
            (client, grant, user.to_owned())
        }
    };
    let (client, grant, user) = granted;
    let server = match &client.server {
        Server::Key(key) => Some(key.to_string()),
        Server::Uid(_) => None,
    };
    let session = Session { endpoint: endpoint.name(), server, user, token: grant.token };
    place.write(&session)?;
    client.close().await;
    let rows = [
        ("logged in as", session.user.clone()),
        ("at", session.endpoint.clone()),
        ("idle limit", format!("{} s", grant.seconds)),
    ];
    output
        .result(&rows, &json!({"user": session.user, "endpoint": session.endpoint, "seconds": grant.seconds}))
}

/// Logs in on a new connection as the user that the kernel says we are. Over TCP what listens on loopback may
/// be the end of a tunnel to another host, where we are somebody else: it is told who we mean to be.
pub(crate) async fn as_ourselves(endpoint: &Endpoint) -> Result<(Client, Grant), Error> {
    let me = match endpoint {
        Endpoint::Unix(_) => None,
        Endpoint::Tls { .. } => {
            let user = User::from_uid(Uid::effective()).ok().flatten();
            let nobody = || Error::Usage(format!("uid {} has no account here", Uid::effective()));
            Some(user.ok_or_else(nobody)?.name)
        }
    };
    without_password(endpoint, me.as_deref()).await
}

/// The same as a user who is named, or as the one for whom our TLS certificate is registered.
async fn without_password(endpoint: &Endpoint, user: Option<&str>) -> Result<(Client, Grant), Error> {
    let mut client = Client::connect(endpoint).await?;
    client.identify().await?;
    let args = match user {
        Some(user) => json!({ "username": user, "password": "" }),
        None => json!({}),
    };
    let args = client.request("rpc", "auth", &args, LOGIN_DEADLINE).await?;
    granted(client, &args)
}

/// Logs in by a signature, on a new connection.
async fn with_key(
    endpoint: &Endpoint,
    user: Option<&str>,
    key: &PrivateKey,
) -> Result<(Client, Grant), Error> {
    let mut client = Client::connect(endpoint).await?;
    client.identify().await?;
    let mut hints = Map::new();
    hints.insert("fingerprint".to_owned(), key.public().fingerprint().to_string().into());
    hints.extend(user.map(|user| ("username".to_owned(), user.into())));
    let challenge = client.request("rpc", "auth_ssl", &Value::Object(hints.clone()), REPLY_DEADLINE).await?;
    let answer = proof::answer(&challenge, Purpose::Login, &client.server, key)?;
    hints.insert("encrypted_string".to_owned(), answer.into());
    let args = client.request("rpc", "auth_ssl", &Value::Object(hints), LOGIN_DEADLINE).await;
    let args = args.map_err(|error| match error {
        Error::Refused { code: Some(401), message } => Error::Refused {
            code: Some(401),
            message: format!(
                "{message}: the key {} opens nothing here; is it registered, and not revoked?",
                key.public().fingerprint()
            ),
        },
        other => other,
    })?;
    granted(client, &args)
}

fn granted(mut client: Client, args: &Value) -> Result<(Client, Grant), Error> {
    match Answer::from_wire(args)? {
        Answer::Granted(grant) => {
            client.idle = Some(Duration::from_secs(grant.seconds));
            Ok((client, grant))
        }
        Answer::Asks { .. } => Err(Error::refused("the gateway asks for more than this login can answer")),
    }
}

async fn with_password(
    endpoint: &Endpoint,
    user: &str,
    mut answers: Answers,
) -> Result<(Client, Grant), Error> {
    // Asked before connecting: the gateway closes a connection that does not log in within 30 s.
    let password = answers.ask(&format!("Password for {user}:"), true).await?;
    if password.is_empty() {
        // To the gateway an empty password means a login without one.
        return Err(Error::refused("the password is empty"));
    }
    let mut client = Client::connect(endpoint).await?;
    client.identify().await?;
    let args = json!({ "username": user, "password": password.as_str() });
    drop(password);
    let mut args = client.request("rpc", "auth", &args, LOGIN_DEADLINE).await?;
    for _ in 0..ROUNDS_MAX {
        let (conversation, prompts) = match Answer::from_wire(&args)? {
            Answer::Granted(grant) => return Ok((client, grant)),
            Answer::Asks { conversation, prompts } => (conversation, prompts),
        };
        // The gateway stops waiting for an answer by itself; then there is nobody to answer to.
        let replies = client.while_open(answer(&mut answers, &prompts)).await?;
        let replies: Vec<&str> = replies.iter().map(|reply| reply.as_str()).collect();
        let answer = json!({ "conversation": conversation, "answers": replies });
        args = client.request("rpc", "auth_respond", &answer, LOGIN_DEADLINE).await?;
    }
    Err(Error::refused("the gateway asks without end"))
}

async fn answer(answers: &mut Answers, prompts: &[Prompt]) -> Result<Vec<Zeroizing<String>>, Error> {
    let mut replies = Vec::new();
    for prompt in prompts {
        match prompt.style {
            Style::Hidden => replies.push(answers.ask(&prompt.text, true).await?),
            Style::Visible => replies.push(answers.ask(&prompt.text, false).await?),
            Style::Info | Style::Error => answers.show(&prompt.text),
        }
    }
    Ok(replies)
}

/// Takes up the session that is kept for this gateway, if there is one. A session that the gateway does
/// not know any more is forgotten.
pub(crate) async fn resume(client: &mut Client, place: &Place) -> Result<Option<Session>, Error> {
    let Some(session) = place.read()? else { return Ok(None) };
    if let (Server::Key(key), Some(known)) = (&client.server, &session.server)
        && *known != key.to_string()
    {
        return Err(Error::refused(format!(
            "the session was opened at a server with the key {known}, here answers {key}; \
             log in again if that is right"
        )));
    }
    match client.request("rpc", "auth_token", &json!({"token": session.token.as_str()}), LOGIN_DEADLINE).await
    {
        Ok(granted) => {
            let seconds = granted.get(1).and_then(Value::as_u64);
            client.idle = Some(seconds.map_or(IDLE, Duration::from_secs));
            Ok(Some(session))
        }
        Err(Error::Refused { code: Some(401), .. }) => {
            place.remove()?;
            let message = "the session has ended; log in again".to_owned();
            Err(Error::Refused { code: Some(401), message })
        }
        Err(error) => Err(error),
    }
}

/// A connection that has taken up the kept session.
pub(crate) async fn with_session(endpoint: &Endpoint) -> Result<(Client, Session), Error> {
    let place = Place::of(&endpoint.name())?;
    let mut client = Client::connect(endpoint).await?;
    match resume(&mut client, &place).await? {
        Some(session) => Ok((client, session)),
        None => Err(Error::refused("there is no session; log in first: doorward login")),
    }
}

/// `doorward logout`: fine when there is nothing to end.
pub(crate) async fn logout(endpoint: &Endpoint, output: Output) -> Result<(), Error> {
    let place = Place::of(&endpoint.name())?;
    let ended = if place.read()?.is_none() {
        false
    } else {
        let mut client = Client::connect(endpoint).await?;
        let ended = match resume(&mut client, &place).await {
            Ok(Some(_)) => {
                end(&mut client).await?;
                place.remove()?;
                true
            }
            Ok(None) | Err(Error::Refused { code: Some(401), .. }) => false,
            Err(error) => return Err(error),
        };
        client.close().await;
        ended
    };
    let text = if ended { "logged out" } else { "there was no session" };
    output.result(&[(text, String::new())], &json!({ "ended": ended }))
}

/// Ends the session of the connection, and waits until it has ended.
pub(crate) async fn end(client: &mut Client) -> Result<(), Error> {
    client.request("rpc", "auth_clear", &json!({"reply": true}), REPLY_DEADLINE).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_grant_nor_question_is_refused() {
        for args in [
            json!(null),
            json!([]),
            json!(["", 300]),
            json!(["a b", 300]),
            json!(["token"]),
            json!(["token", -1]),
            json!(["token", 300, 1]),
            json!({"conversation": "c"}),
            json!({"prompts": []}),
            json!({"conversation": "c", "prompts": [{"style": "loud", "text": ""}]}),
        ] {
            assert!(Answer::from_wire(&args).is_err(), "{args}");
        }
    }
}

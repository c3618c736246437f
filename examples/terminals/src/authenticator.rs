//! Who a terminal is: `doorward.authenticator.v1.Authenticator`.

use std::sync::Arc;

use doorward_proto::authenticator::v1::{
    self as wire, authenticate_reply::Outcome, authenticator_server::Authenticator,
};
use serde::Deserialize;
use tonic::{Request, Response, Status};

use crate::register::{Register, Terminal};

/// The longest token, in bytes.
const TOKEN_MAX: usize = 128;

/// The service.
#[derive(Debug, Clone)]
pub struct Terminals(pub Arc<Register>);

/// What a client sends: a token, or as a back end of the token API a name and a password.
#[derive(Deserialize)]
struct Credentials {
    token: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

#[tonic::async_trait]
impl Authenticator for Terminals {
    async fn authenticate(
        &self,
        request: Request<wire::AuthenticateRequest>,
    ) -> Result<Response<wire::AuthenticateReply>, Status> {
        let register = self.0.clone();
        let credentials = request.into_inner().credentials;
        // A file is read. What is wrong with it is no refusal: authd tells the client that it is not available.
        let judged = tokio::task::spawn_blocking(move || judge(&register, &credentials)).await;
        let outcome = match judged {
            Ok(Ok(Ok(identity))) => Outcome::Identity(identity),
            Ok(Ok(Err(why))) => Outcome::Refused(wire::Refused { why: why.to_owned() }),
            Ok(Err(failure)) => {
                eprintln!("terminals: {failure}");
                return Err(Status::internal("a fault"));
            }
            Err(_) => return Err(Status::internal("a fault")),
        };
        Ok(Response::new(wire::AuthenticateReply { outcome: Some(outcome) }))
    }
}

/// Who has these credentials, or why nobody.
fn judge(
    register: &Register,
    credentials: &[u8],
) -> Result<Result<wire::Identity, &'static str>, crate::RegisterError> {
    let Ok(Credentials { token, username, password }) = serde_json::from_slice(credentials) else {
        return Ok(Err("no token in the credentials"));
    };
    let Some(token) = token.or(password).filter(|token| (1..=TOKEN_MAX).contains(&token.len())) else {
        return Ok(Err("no token in the credentials"));
    };
    let Some(Terminal { terminal, group }) = register.find(&token)? else { return Ok(Err("no such token")) };
    let uuid = format!("terminal-{terminal}");
    if username.is_some_and(|name| name != uuid) {
        return Ok(Err("another terminal's token"));
    }
    Ok(Ok(wire::Identity {
        uuid,
        name: format!("Terminal {terminal}"),
        // Of these it has what `acl_max` of authd's configuration grants, too.
        acl: vec![format!("ws.group.{group}.subscribe"), format!("ws.terminal.{terminal}.action.status")],
        pk: terminal,
        expires: 0,
        only_one: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_known_by_its_token_and_by_nothing_else() {
        let directory = tempfile::tempdir().expect("temp dir");
        let register = Register::new(directory.path().join("terminals.json"));
        let token = register.add("7", "3").expect("added");
        let ask = |credentials: String| judge(&register, credentials.as_bytes()).expect("read");
        let identity = ask(format!(r#"{{"token":"{token}"}}"#)).expect("known");
        assert_eq!((identity.pk.as_str(), identity.uuid.as_str()), ("7", "terminal-7"));
        assert_eq!(identity.acl, ["ws.group.3.subscribe", "ws.terminal.7.action.status"]);
        assert!(identity.only_one);
        assert!(ask(format!(r#"{{"username":"terminal-7","password":"{token}"}}"#)).is_ok());
        for wrong in [
            "{}".to_owned(),
            "[]".to_owned(),
            "{".to_owned(),
            String::new(),
            r#"{"token":""}"#.to_owned(),
            r#"{"token":null}"#.to_owned(),
            r#"{"token":7}"#.to_owned(),
            format!(r#"{{"token":"{token}x"}}"#),
            format!(r#"{{"token":"{}"}}"#, "x".repeat(129)),
            format!(r#"{{"username":"terminal-8","password":"{token}"}}"#),
        ] {
            assert!(ask(wrong.clone()).is_err(), "{wrong}");
        }
    }
}

//! Answers to a gateway's challenges: a signature for one purpose, at the server that we see.
//!
//! What a key signs here must be of no use anywhere else. A server in between could hand on another
//! server's challenge; its context then names the other server's key, and nothing is signed.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

use crate::{client::Server, error::Error, key::PrivateKey};

/// What the signature is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Login,
    Registration,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::Login => "auth_ssl",
            Self::Registration => "register",
        }
    }
}

#[derive(Deserialize)]
struct Challenge {
    test_string: String,
    context: String,
}

/// The base64 of the signature that answers the challenge in `reply`.
pub(crate) fn answer(
    reply: &Value,
    purpose: Purpose,
    server: &Server,
    key: &PrivateKey,
) -> Result<String, Error> {
    let challenge = Challenge::deserialize(reply)
        .map_err(|_| Error::unreachable("the gateway's challenge makes no sense"))?;
    let message = message(&challenge, purpose, server)?;
    Ok(STANDARD.encode(key.sign(message.as_bytes())?))
}

fn message(challenge: &Challenge, purpose: Purpose, server: &Server) -> Result<String, Error> {
    let seen = match server {
        Server::Key(key) => key.base64(),
        Server::Uid(_) => "local".to_owned(),
    };
    if challenge.context != format!("doorward {} v1 {seen}", purpose.label()) {
        return Err(Error::refused(
            "the challenge is for another server or another purpose than this: somebody may be in between; \
             nothing was signed",
        ));
    }
    let text = &challenge.test_string;
    // Long enough that no two are alike, and nothing that could be read as another message.
    if !(32..=256).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::refused("the challenge is no random text; nothing was signed"));
    }
    Ok(format!("{}\n{text}", challenge.context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Fingerprint;

    fn asked(context: &str, text: &str) -> Challenge {
        Challenge { test_string: text.to_owned(), context: context.to_owned() }
    }

    #[test]
    fn only_a_challenge_of_the_server_that_is_seen_is_answered() {
        let text = "a1".repeat(64);
        let key = Fingerprint::of_spki(b"a key");
        let (tls, local) = (Server::Key(key.clone()), Server::Uid(7));
        let here = format!("doorward auth_ssl v1 {}", key.base64());
        let there = format!("doorward auth_ssl v1 {}", Fingerprint::of_spki(b"another").base64());
        let said = message(&asked(&here, &text), Purpose::Login, &tls).expect("ours");
        assert_eq!(said, format!("{here}\n{text}"));
        for (context, server) in [
            (here.as_str(), &local),
            (&there, &tls),
            ("doorward auth_ssl v1 local", &tls),
            ("doorward register v1 local", &local),
            ("", &local),
        ] {
            assert!(message(&asked(context, &text), Purpose::Login, server).is_err(), "{context}");
        }
        assert!(message(&asked("doorward register v1 local", &text), Purpose::Registration, &local).is_ok());
    }

    #[test]
    fn only_random_text_is_signed() {
        for text in ["", "short", &"a b".repeat(40), &"x\n".repeat(40), &"a".repeat(257)] {
            let challenge = asked("doorward auth_ssl v1 local", text);
            assert!(message(&challenge, Purpose::Login, &Server::Uid(0)).is_err(), "{text}");
        }
    }
}

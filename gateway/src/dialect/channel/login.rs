//! `auth`: by whichever kind.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Members, bad, json};
use crate::call::{
    ANSWERS_MAX, Answers, Call, ChannelAuth, ChannelName, Credentials, Error, PASSWORD_MAX, Secret, Token,
};

pub(super) fn decode(text: &str, members: &Members<'_>) -> Result<Call, Error> {
    let Some(kind) = members.text("kind") else { return bad() };
    let secret = |name: &str| members.text(name).map(|text| Secret::new(text.into_owned()));
    Ok(Call::ChannelAuth(match &*kind {
        "jwt" => {
            let Some(token) = secret("token") else { return bad() };
            // Clients know no other kind for a token of ours.
            match Token::parse(token.clone()) {
                Some(token) => ChannelAuth::Token(Some(token)),
                None => ChannelAuth::Jwt(token),
            }
        }
        "token" => {
            let Some(token) = secret("token") else { return bad() };
            ChannelAuth::Token(Token::parse(token))
        }
        "password" if members.get("conversation").is_some() => {
            return Ok(Call::AuthRespond(answers(members)?));
        }
        "password" => {
            let (Some(username), Some(password)) = (members.text("username"), secret("password")) else {
                return bad();
            };
            ChannelAuth::Password(Credentials { username: username.into_owned(), password })
        }
        other => {
            let Some(kind) = ChannelName::parse(other) else { return Err(Error::NoSuchKind) };
            ChannelAuth::Model { kind, credentials: credentials(text)? }
        }
    }))
}

fn answers(members: &Members<'_>) -> Result<Answers, Error> {
    let Some(conversation) = members.text("conversation") else { return bad() };
    let Some(items) = members.get("answers").and_then(|all| json::array(all, ANSWERS_MAX)) else {
        return bad();
    };
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let Some(answer) = json::string(item) else { return bad() };
        let answer = Secret::new(answer.into_owned());
        if answer.expose().len() > PASSWORD_MAX || answer.expose().contains('\0') {
            return bad();
        }
        answers.push(answer);
    }
    Ok(Answers { conversation: conversation.into_owned(), answers })
}

/// What else the client sent. A member that stands twice could be read in two ways.
fn credentials(text: &str) -> Result<Secret, Error> {
    let Ok(all) = serde_json::from_str::<Distinct<'_>>(text) else { return bad() };
    let mut rest = all.0;
    rest.remove("action");
    rest.remove("kind");
    serde_json::to_string(&rest).map(Secret::new).or_else(|_| bad())
}

struct Distinct<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> serde::Deserialize<'de> for Distinct<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> serde::de::Visitor<'de> for Each {
            type Value = Distinct<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if all.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a member stands twice"));
                    }
                }
                Ok(Distinct(all))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

//! What the path of a WebSocket says: whose messages it deals in, and perhaps who it is.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::{
    call::{ChannelAuth, ChannelName, Facility, Secret, Token},
    transport::{Shared, Way},
};

/// Where connections come for channels.
const PREFIX: &str = "/ws/";

/// What a connection with this path is for.
pub(super) fn way(shared: &Shared, path: &str, query: Option<&str>) -> Way {
    let Some(name) = path.strip_prefix(PREFIX) else { return Way::Envelopes };
    let facility = match name {
        "" => Some(shared.channels.facility.clone()),
        name => Facility::parse(name),
    };
    let allowed = |facility: &Facility| {
        shared.channels.facilities.iter().any(|one| one == "*" || one == facility.as_str())
    };
    match facility.filter(allowed) {
        Some(facility) => {
            Way::Channels(facility, credentials(&shared.channels.url_credentials, query).map(Box::new))
        }
        None => Way::Refused,
    }
}

/// Those of the first parameter that may bring any.
fn credentials(kinds: &BTreeMap<String, String>, query: Option<&str>) -> Option<ChannelAuth> {
    let pairs = query.filter(|_| !kinds.is_empty())?.split('&').filter_map(|pair| pair.split_once('='));
    let (kind, value) = pairs.filter_map(|(name, value)| Some((kinds.get(name)?, value))).next()?;
    let value = percent_decode_str(value).decode_utf8().ok()?;
    let secret = Secret::new(value.into_owned());
    Some(match kind.as_str() {
        "jwt" => match Token::parse(secret.clone()) {
            Some(token) => ChannelAuth::Token(Some(token)),
            None => ChannelAuth::Jwt(secret),
        },
        "token" => ChannelAuth::Token(Token::parse(secret)),
        kind => ChannelAuth::Model {
            kind: ChannelName::parse(kind)?,
            credentials: Secret::new(format!(
                r#"{{"token":{}}}"#,
                serde_json::to_string(secret.expose()).ok()?
            )),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(query: &str) -> String {
        let kinds = [("token", "jwt"), ("key", "terminal")].map(|(name, kind)| (name.into(), kind.into()));
        match credentials(&kinds.into(), Some(query)) {
            None => "none".to_owned(),
            Some(ChannelAuth::Jwt(jwt)) => format!("jwt {}", jwt.expose()),
            Some(ChannelAuth::Token(token)) => format!("token {}", token.is_some()),
            Some(ChannelAuth::Model { kind, credentials }) => format!("{kind:?} {}", credentials.expose()),
            Some(ChannelAuth::Password(_)) => "password".to_owned(),
        }
    }

    #[test]
    fn the_first_parameter_that_is_configured_counts() {
        for (query, expected) in [
            ("", "none"),
            ("other=1", "none"),
            ("token", "none"),
            ("other=1&token=a.b.c&key=x", "jwt a.b.c"),
            ("token=0af6c1a8-9c4d-4f0a-9a53-0123456789ab", "token true"),
            ("key=a%20%22b", r#"terminal {"token":"a \"b"}"#),
            ("key=%ff", "none"),
        ] {
            assert_eq!(told(query), expected, "{query}");
        }
        assert!(credentials(&BTreeMap::new(), Some("token=a.b.c")).is_none(), "off unless configured");
    }
}

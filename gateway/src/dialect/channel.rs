//! Channels: one JSON object with an `action` in a message from the client, several kinds of objects back.

mod login;
mod written;

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Decoded, Request, json};
use crate::call::{
    ActionName, Address, CHANNELS_MAX, Call, ChannelCall, ChannelName, Custom, Error, Facility, Payload, Pk,
};
use crate::plain::is_plain;

pub use self::written::{
    encode, encode_delivery, encode_ended, encode_expiring, encode_facility_refused, encode_no_credentials,
    encode_notice, encode_unsubscribed,
};

/// What a reply repeats, and what it is about.
#[derive(Debug, Default)]
pub struct Asked {
    channel: Option<ChannelName>,
    /// A JSON text.
    id: Option<Box<str>>,
    of: Of,
}

impl Asked {
    /// Of a login that no message asked for.
    pub fn auth() -> Self {
        Self { of: Of::Auth, ..Self::default() }
    }
}

/// What a failure is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Of {
    #[default]
    Nothing,
    Auth,
    Subscribe,
    Publish,
    Custom,
}

const MEMBERS: [&str; 12] = [
    "action",
    "channel",
    "pk",
    "message",
    "id",
    "kind",
    "token",
    "username",
    "password",
    "channels",
    "conversation",
    "answers",
];

/// The members that matter here.
struct Members<'a>([Option<&'a RawValue>; MEMBERS.len()]);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let place = MEMBERS.iter().position(|member| *member == name)?;
        self.0.get(place).copied().flatten()
    }

    /// A string, or nothing: neither absent nor anything else.
    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(json::string)
    }
}

pub(super) fn bad<T>() -> Result<T, Error> {
    Err(Error::BadRequest("bad message".into()))
}

/// Reads a message that is of this dialect, whether or not it can be understood.
pub fn decode(text: &str, facility: &Facility) -> Decoded<Asked> {
    let mut echo = Asked::default();
    let request = request(text, facility, &mut echo).map(|call| Request { subject: None, call });
    Decoded { echo, request }
}

/// A message of which nothing can be read.
pub fn undecoded() -> Decoded<Asked> {
    Decoded { echo: Asked::default(), request: bad() }
}

fn request(text: &str, facility: &Facility, echo: &mut Asked) -> Result<Call, Error> {
    let Ok(found) = json::members(text, &MEMBERS) else { return bad() };
    let members = Members(found.values);
    if found.twice.is_some() {
        return bad();
    }
    let Some(action) = members.text("action") else { return bad() };
    echo.of = match &*action {
        "auth" => Of::Auth,
        "subscribe" | "resubscribe" => Of::Subscribe,
        "publish" => Of::Publish,
        "unsubscribe" => Of::Nothing,
        _ => Of::Custom,
    };
    echo.id = members.get("id").map(|id| id.get().into());
    let channel = channel(members.get("channel"))?;
    echo.channel.clone_from(&channel);
    match &*action {
        "auth" => return login::decode(text, &members),
        "resubscribe" => return resubscribe(&members, facility),
        _ => {}
    }
    let Some(channel) = channel else { return bad() };
    let at = Address { channel, pk: pk(members.get("pk"))?, facility: facility.clone() };
    Ok(Call::Channel(match &*action {
        "subscribe" => ChannelCall::Subscribe(at),
        "unsubscribe" => ChannelCall::Unsubscribe(at),
        "publish" => {
            let Some(message) = members.get("message") else { return bad() };
            ChannelCall::Publish(at, payload(message.get())?)
        }
        other => {
            let Some(action) = ActionName::parse(other) else { return bad() };
            ChannelCall::Custom(Box::new(Custom { at, action, message: payload(text)? }))
        }
    }))
}

/// Only what every reader of JSON can read: it is passed on as it is.
fn payload(text: &str) -> Result<Payload, Error> {
    if !is_plain(text) {
        return bad();
    }
    Ok(Payload(Bytes::copy_from_slice(text.as_bytes())))
}

/// `null` is the same as nothing.
fn given(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

fn channel(value: Option<&RawValue>) -> Result<Option<ChannelName>, Error> {
    let Some(value) = given(value) else { return Ok(None) };
    match json::string(value).and_then(|name| ChannelName::parse(&name)) {
        Some(name) => Ok(Some(name)),
        None => bad(),
    }
}

/// A string, or a number as it is written.
fn pk(value: Option<&RawValue>) -> Result<Option<Pk>, Error> {
    let Some(value) = given(value) else { return Ok(None) };
    let text = match value.get().as_bytes().first() {
        Some(b'"') => json::string(value),
        Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(value.get())),
        Some(_) | None => None,
    };
    match text.and_then(|text| Pk::parse(&text)) {
        Some(pk) => Ok(Some(pk)),
        None => bad(),
    }
}

fn resubscribe(members: &Members<'_>, facility: &Facility) -> Result<Call, Error> {
    let Some(items) = members.get("channels").and_then(|all| json::array(all, CHANNELS_MAX)) else {
        return bad();
    };
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let Ok(found) = json::members(item.get(), &["channel", "pk"]) else { return bad() };
        let [name, key] = found.values;
        let (Some(channel), None) = (channel(name)?, found.twice) else { return bad() };
        all.push(Address { channel, pk: pk(key)?, facility: facility.clone() });
    }
    Ok(Call::Channel(ChannelCall::Resubscribe(all)))
}

#[cfg(test)]
mod tests;

//! What the gateway says.

use std::time::Duration;

use super::{Asked, Of};
use crate::{
    call::{Address, Answer, ChannelAnswer, EndReason, Error, Prompts, Reply, Style},
    hub::{Delivery, Notice},
};

/// Where things are told that belong to no channel; the table of channels has none that is called so.
const SYSTEM: &str = "system";

/// Writes a reply: as many messages as it takes, which may be none.
pub fn encode(asked: &Asked, reply: &Reply, mut out: impl FnMut(Vec<u8>)) {
    match reply {
        Reply::Answer(Answer::Channel(answer)) => match answer {
            ChannelAnswer::Joined(joined) => {
                for (at, result) in joined {
                    out(match result {
                        Ok(status) => subscription("subscribed", at, *status),
                        Err(error) => failed(at.channel.as_str(), Of::Subscribe, error),
                    });
                }
            }
            ChannelAnswer::Left(at, status) => out(subscription("unsubscribed", at, *status)),
            ChannelAnswer::Handled(at, reply) => {
                // It was checked: what a handler says is JSON.
                if let Some(text) = reply.as_ref().and_then(|reply| std::str::from_utf8(&reply.0).ok()) {
                    out(said(at, text));
                }
            }
            ChannelAnswer::Published => {
                if let (Some(id), Some(channel)) = (&asked.id, &asked.channel) {
                    let channel = channel.as_str();
                    out(format!(r#"{{"id":{id},"name":"published","channel":"{channel}"}}"#).into_bytes());
                }
            }
        },
        Reply::Answer(Answer::Prompts(prompts)) => out(encode_prompts(prompts)),
        // Of somebody who has no channel.
        Reply::Answer(Answer::Granted { .. }) => {
            out(told(SYSTEM, r#""name":"logged in","code":200"#));
        }
        Reply::Answer(_) => {}
        Reply::Error(error) => {
            let channel = asked.channel.as_ref().map_or(SYSTEM, |channel| channel.as_str());
            out(failed(channel, asked.of, error));
        }
    }
}

fn failed(channel: &str, of: Of, error: &Error) -> Vec<u8> {
    let text = match (of, error) {
        (_, Error::BadRequest(_)) => "bad message",
        (_, Error::NoSuchKind) => "invalid auth kind",
        (Of::Auth, Error::Unauthorized) => "invalid credentials",
        (_, Error::Unauthorized) => "no credentials received",
        (Of::Subscribe, Error::Forbidden) => "subscribe permission denied",
        (Of::Subscribe, Error::TooMany) => "too many subscriptions",
        (Of::Publish, Error::Forbidden) => "publish permission denied",
        (Of::Publish | Of::Custom, Error::TooMany) => "too many messages",
        (Of::Custom, Error::Forbidden) => "cannot publish to channel",
        (Of::Custom, Error::NotFound) => "channel does not support onWS4RedisMessage",
        (_, Error::Forbidden) => "permission denied",
        (_, Error::TooMany) => "too many requests",
        (_, Error::TooLarge) => "message too large",
        (_, Error::TimedOut) => "request timeout",
        (_, Error::Unavailable) => "service unavailable",
        (_, Error::NotFound | Error::ReadsOnly | Error::Cancelled | Error::Fault) => "internal error",
    };
    problem(channel, text, error.code())
}

fn problem(channel: &str, text: &str, code: u16) -> Vec<u8> {
    told(channel, &format!(r#""error":"{text}","code":{code}"#))
}

/// The channel's name and the texts need no escapes.
fn told(channel: &str, members: &str) -> Vec<u8> {
    format!(r#"{{"channel":"{channel}","message":{{{members}}}}}"#).into_bytes()
}

fn subscription(name: &str, at: &Address, status: usize) -> Vec<u8> {
    let channel = at.channel.as_str();
    let mut out = format!(r#"{{"name":"{name}","channel":"{channel}","status":{status}"#).into_bytes();
    write_pk(&mut out, at);
    out.push(b'}');
    out
}

fn write_pk(out: &mut Vec<u8>, at: &Address) {
    if let Some(pk) = &at.pk {
        out.extend_from_slice(br#","pk":"#);
        write_string(out, pk.as_str());
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON and a Vec takes every write");
}

/// Writes what was said on a channel.
pub fn encode_delivery(delivery: &Delivery) -> Vec<u8> {
    said(&delivery.at, delivery.message.get())
}

fn said(at: &Address, message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + message.len());
    out.extend_from_slice(br#"{"channel":""#);
    out.extend_from_slice(at.channel.as_str().as_bytes());
    out.push(b'"');
    write_pk(&mut out, at);
    out.extend_from_slice(br#","message":"#);
    out.extend_from_slice(message.as_bytes());
    out.push(b'}');
    out
}

/// Writes that a subscription has ended without having been asked for.
pub fn encode_unsubscribed(at: &Address, status: usize) -> Vec<u8> {
    subscription("unsubscribed", at, status)
}

/// Writes what is told about deliveries; nothing, if it is not for clients.
pub fn encode_notice(notice: Notice) -> Option<Vec<u8>> {
    match notice {
        Notice::Interrupted => Some(problem(SYSTEM, "delivery interrupted", 503)),
        Notice::Resumed => Some(told(SYSTEM, r#""name":"delivery resumed","code":200"#)),
        Notice::LookAgain => None,
    }
}

/// Writes that the session has ended.
pub fn encode_ended(reason: EndReason) -> Vec<u8> {
    let text = match reason {
        EndReason::Idle | EndReason::Expired => "session expired",
        EndReason::Cleared | EndReason::Revoked => "session revoked",
    };
    problem(SYSTEM, text, 401)
}

/// Writes how much is left of the session's whole life.
pub fn encode_expiring(left: Duration) -> Vec<u8> {
    let seconds = left.as_millis().div_ceil(1_000);
    told(SYSTEM, &format!(r#""name":"session expiring","seconds":{seconds}"#))
}

/// Writes that nobody has logged in yet.
pub fn encode_no_credentials() -> Vec<u8> {
    problem("member", "no credentials received", 401)
}

/// Writes that the path names no facility of ours.
pub fn encode_facility_refused() -> Vec<u8> {
    problem("facility", "facility name not allowed", 403)
}

fn encode_prompts(prompts: &Prompts) -> Vec<u8> {
    let mut members = br#""name":"prompts","conversation":"#.to_vec();
    write_string(&mut members, &prompts.conversation);
    members.extend_from_slice(br#","prompts":["#);
    for (place, prompt) in prompts.prompts.iter().enumerate() {
        if place > 0 {
            members.push(b',');
        }
        let style = match prompt.style {
            Style::Hidden => "hidden",
            Style::Visible => "visible",
            Style::Info => "info",
            Style::Error => "error",
        };
        members.extend_from_slice(format!(r#"{{"style":"{style}","text":"#).as_bytes());
        write_string(&mut members, &prompt.text);
        members.push(b'}');
    }
    members.push(b']');
    told(SYSTEM, &String::from_utf8_lossy(&members))
}

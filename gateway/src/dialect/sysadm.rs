//! SysAdm envelopes: one JSON object in a message each way.

mod events;
mod keys;
mod logs;
mod sessions;
mod settings;
mod subsystem;

use std::{borrow::Cow, io::Write};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::value::RawValue;

use super::{
    Decoded, Envelope, Request,
    json::{self, NoMembers, members},
};
use crate::{
    call::{
        ANSWERS_MAX, Answer, Answers, AuthSsl, Call, Credentials, Error, KeyProof, Listen, PASSWORD_MAX,
        Reply, Right, Secret, Style, Token, username_is_well_formed,
    },
    namespace::{self, Handler, Target},
};

pub use self::events::{encode_ended, encode_event, encode_expiring};
pub use self::subsystem::encode_progress;

/// Reads one message. Nesting beyond `depth` is refused before it is parsed.
pub fn decode(text: &str, depth: usize) -> Decoded<Envelope<'_>> {
    if json::deeper_than(text, depth) {
        return Decoded { echo: Envelope::default(), request: bad("nested too deeply") };
    }
    let envelope = match members(text, &["namespace", "name", "id", "args"]) {
        Ok(envelope) => envelope,
        Err(NoMembers::NotJson) => {
            return Decoded { echo: Envelope::default(), request: bad("the message is not JSON") };
        }
        Err(NoMembers::NotObject) => {
            return Decoded { echo: Envelope::default(), request: bad("the message is not an object") };
        }
    };
    let [namespace, name, id, args] = envelope.values;
    let mut echo = Envelope::default();
    if let Some(id) = id {
        echo.id = Cow::Borrowed(id.get());
    }
    let namespace_text = namespace.and_then(json::string);
    if let (Some(namespace), Some(_)) = (namespace, &namespace_text) {
        echo.namespace = Cow::Borrowed(namespace.get());
    }
    let request = || -> Result<Request, Error> {
        if let Some(twice) = envelope.twice {
            return bad(format!("{twice} is given twice"));
        }
        let namespace = word("namespace", namespace.is_some(), namespace_text)?;
        let name = word("name", name.is_some(), name.and_then(json::string))?;
        let target = namespace::target(&namespace, &name);
        let args = args.map_or_else(|| args_of_whole(&target, text), |args| args.get().into());
        request_of(target, &args)
    };
    let request = request();
    Decoded { echo, request }
}

/// The args of a message without `args`: the whole object. Our own rows pick what they know; a subsystem gets what
/// is not of the envelope, because it may refuse what it does not know.
fn args_of_whole<'a>(target: &Target, text: &'a str) -> Cow<'a, str> {
    match target {
        // What cannot be read so is refused as it is.
        Target::Subsystem(_) => {
            json::without(text, &["namespace", "name", "id"]).map_or(text.into(), Cow::Owned)
        }
        Target::Row(_) | Target::Nothing => text.into(),
    }
}

/// What these args ask of this row or subsystem.
pub(super) fn request_of(target: Target, args: &str) -> Result<Request, Error> {
    let row = match target {
        Target::Row(row) => row,
        Target::Subsystem(name) => {
            return Ok(Request { subject: None, call: subsystem::decode(name, args) });
        }
        Target::Nothing => return Ok(Request { subject: None, call: Call::Absent }),
    };
    let call = match row.handler {
        Handler::Identify => Call::Identify,
        Handler::Query => Call::Query,
        Handler::Auth => Call::Auth(auth(args)?),
        Handler::AuthRespond => Call::AuthRespond(auth_respond(args)?),
        Handler::AuthToken => Call::AuthToken(auth_token(args)?),
        Handler::AuthSsl => Call::AuthSsl(auth_ssl(args)?),
        Handler::AuthClear => Call::AuthClear { reply: wants_reply(args) },
        Handler::Settings => {
            let (subject, call) = settings::decode(row, args);
            return Ok(Request { subject, call });
        }
        Handler::Sessions => {
            let (subject, call) = sessions::decode(row, args);
            return Ok(Request { subject, call });
        }
        Handler::Logs => {
            let (subject, call) = logs::decode(row, args);
            return Ok(Request { subject, call });
        }
        Handler::Describe => subsystem::decode_describe(args),
        Handler::Cancel => subsystem::decode_cancel(args),
        Handler::Subscribe => events::decode(Listen::Subscribe, args),
        Handler::Unsubscribe => events::decode(Listen::Unsubscribe, args),
    };
    Ok(Request { subject: row.plain(), call })
}

pub(super) fn bad<T>(what: impl Into<Cow<'static, str>>) -> Result<T, Error> {
    Err(Error::BadRequest(what.into()))
}

fn word<'a>(field: &str, given: bool, text: Option<Cow<'a, str>>) -> Result<Cow<'a, str>, Error> {
    match text {
        Some(text) if text.is_empty() => bad(format!("{field} is empty")),
        Some(text) => Ok(text),
        None if given => bad(format!("{field} must be a string")),
        None => bad(format!("{field} is missing")),
    }
}

/// The wanted members of args that must be an object.
fn object<'a, const N: usize>(
    args: &'a str,
    names: &[&'static str; N],
) -> Result<[Option<&'a RawValue>; N], Error> {
    match members(args, names) {
        Ok(members) => match members.twice {
            Some(twice) => bad(format!("{twice} is given twice")),
            None => Ok(members.values),
        },
        Err(_) => bad("args must be an object"),
    }
}

/// A member that is a string or absent.
fn text<'a>(field: &str, value: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Error> {
    match value.map(json::string) {
        None => Ok(None),
        Some(Some(text)) => Ok(Some(text)),
        Some(None) => bad(format!("{field} must be a string")),
    }
}

fn auth(args: &str) -> Result<Credentials, Error> {
    let [username, password] = object(args, &["username", "password"])?;
    let username = text("username", username)?.unwrap_or_default().into_owned();
    let password = Secret::new(text("password", password)?.unwrap_or_default().into_owned());
    Ok(Credentials { username, password })
}

fn auth_respond(args: &str) -> Result<Answers, Error> {
    let [conversation, answers] = object(args, &["conversation", "answers"])?;
    let Some(conversation) = text("conversation", conversation)? else {
        return bad("conversation is missing");
    };
    let Some(answers) = answers else { return bad("answers is missing") };
    let Some(items) = json::array(answers, ANSWERS_MAX) else {
        return bad("answers must be an array of strings");
    };
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let Some(answer) = json::string(item) else { return bad("answers must be an array of strings") };
        let answer = Secret::new(answer.into_owned());
        if answer.expose().len() > PASSWORD_MAX || answer.expose().contains('\0') {
            return bad("an answer is too long or holds NUL");
        }
        answers.push(answer);
    }
    Ok(Answers { conversation: conversation.into_owned(), answers })
}

fn auth_token(args: &str) -> Result<Option<Token>, Error> {
    let [token] = object(args, &["token"])?;
    Ok(text("token", token)?.and_then(|token| Token::parse(Secret::new(token.into_owned()))))
}

/// The second stage has a signature, the first has none. What is no text is a bad request; text that
/// cannot be a proof is one more login that fails.
fn auth_ssl(args: &str) -> Result<AuthSsl, Error> {
    if args == r#""""# {
        return Ok(AuthSsl::Challenge);
    }
    let [signature, username, fingerprint] = object(args, &["encrypted_string", "username", "fingerprint"])?;
    let signature = text("encrypted_string", signature)?;
    let username = text("username", username)?.unwrap_or_default();
    let fingerprint = text("fingerprint", fingerprint)?.unwrap_or_default();
    let Some(signature) = signature else { return Ok(AuthSsl::Challenge) };
    let proof = || {
        let signature = settings::base64(&signature).filter(|bytes| !bytes.is_empty())?;
        let fingerprint = match &*fingerprint {
            "" => None,
            given => Some(self::fingerprint(given)?),
        };
        let username_is_one = username.is_empty() || username_is_well_formed(&username);
        username_is_one.then(|| KeyProof { signature, username: username.into_owned(), fingerprint })
    };
    Ok(AuthSsl::Proof(proof()))
}

/// `SHA256:` and base64, with or without its padding, as ssh-keygen shows it.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("SHA256:")?;
    STANDARD_NO_PAD.decode(digits.strip_suffix('=').unwrap_or(digits)).ok()?.try_into().ok()
}

fn wants_reply(args: &str) -> bool {
    members(args, &["reply"]).is_ok_and(|members| {
        members.twice.is_none() && members.values.iter().flatten().any(|value| value.get() == "true")
    })
}

/// Writes a reply as one message.
pub fn encode(echo: &Envelope<'_>, reply: &Reply) -> Vec<u8> {
    let result = match reply {
        Reply::Answer(Answer::Result(result)) => result.get().len(),
        Reply::Answer(_) | Reply::Error(_) => 0,
    };
    let mut out = Vec::with_capacity(96 + echo.id.len() + echo.namespace.len() + result);
    out.extend_from_slice(br#"{"args":"#);
    write_args(&mut out, reply);
    let name = match reply {
        Reply::Answer(_) => "response",
        Reply::Error(_) => "error",
    };
    write_echo(&mut out, echo, name);
    out
}

/// What stands after the args.
fn write_echo(out: &mut Vec<u8>, echo: &Envelope<'_>, name: &str) {
    for part in [r#","id":"#, &echo.id, r#","name":""#, name, r#"","namespace":"#, &echo.namespace, "}"] {
        out.extend_from_slice(part.as_bytes());
    }
}

pub(super) fn write_args(out: &mut Vec<u8>, reply: &Reply) {
    match reply {
        Reply::Answer(answer) => write_answer(out, answer),
        Reply::Error(error) => write_error(out, error),
    }
}

fn write_error(out: &mut Vec<u8>, error: &Error) {
    put(out, format_args!(r#"{{"code":{},"message":"#, error.code()));
    match error {
        Error::BadRequest(what) => write_string(out, &format!("{}: {what}", error.title())),
        _ => write_string(out, error.title()),
    }
    out.push(b'}');
}

fn write_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Done => out.extend_from_slice(b"{}"),
        Answer::Server { hostname } => {
            out.extend_from_slice(br#"{"hostname":"#);
            write_string(out, hostname);
            out.extend_from_slice(br#","type":"server"}"#);
        }
        Answer::Granted { token, seconds } => {
            out.push(b'[');
            write_string(out, token.expose());
            put(out, format_args!(",{seconds}]"));
        }
        Answer::Prompts(prompts) => {
            out.extend_from_slice(br#"{"conversation":"#);
            write_string(out, &prompts.conversation);
            out.extend_from_slice(br#","prompts":["#);
            for (place, prompt) in prompts.prompts.iter().enumerate() {
                let comma = if place == 0 { "" } else { "," };
                let style = match prompt.style {
                    Style::Hidden => "hidden",
                    Style::Visible => "visible",
                    Style::Info => "info",
                    Style::Error => "error",
                };
                put(out, format_args!(r#"{comma}{{"style":"{style}","text":"#));
                write_string(out, &prompt.text);
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        }
        Answer::Challenge(challenge) => {
            out.extend_from_slice(br#"{"context":"#);
            write_string(out, &challenge.context);
            out.extend_from_slice(br#","test_string":"#);
            write_string(out, &challenge.test_string);
            out.push(b'}');
        }
        Answer::Keys(keys) => keys::write_list(out, keys),
        Answer::Checksums(keys) => keys::write_checksums(out, keys),
        Answer::Sessions(sessions) => sessions::write_list(out, sessions),
        Answer::Ended(count) => put(out, format_args!(r#"{{"ended":{count}}}"#)),
        Answer::Records(records) => logs::write_records(out, records),
        Answer::Listening(listen, names) => events::write_names(out, *listen, names),
        Answer::Rows(rows) => {
            out.push(b'{');
            for (place, (name, right)) in rows.iter().enumerate() {
                let comma = if place == 0 { "" } else { "," };
                put(out, format_args!(r#"{comma}"{name}":"{}""#, right_in_words(*right)));
            }
            out.push(b'}');
        }
        Answer::Described(described) => subsystem::write_described(out, described),
        Answer::Cancelled(count) => put(out, format_args!(r#"{{"cancelled":{count}}}"#)),
        Answer::Result(result) => out.extend_from_slice(result.get().as_bytes()),
        // Asked for in the dialect of channels alone.
        Answer::Channel(_) => out.extend_from_slice(b"{}"),
    }
}

fn right_in_words(right: Right) -> &'static str {
    match right {
        Right::Read => "read",
        Right::Write => "read/write",
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON and a Vec takes every write");
}

fn put(out: &mut Vec<u8>, parts: std::fmt::Arguments<'_>) {
    out.write_fmt(parts).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests;

//! Our vocabulary to and from authd's messages.

use std::{sync::Arc, time::Duration};

use doorward_proto::{
    authd::v1::{self as proto, begin_request, outcome},
    certd::v1 as certd,
};
use uuid::Uuid;

use super::Failure;
use crate::call::{
    Answers, Challenge, ChannelName, ClientCertificate, ConnectionId, Credentials, EndReason, Identity, Idle,
    Key, KeyCertificate, KeyProof, ListedSession, Origin, Prompt, Prompts, Purpose, Secret, ServerKey,
    SessionId, Style, Token, TokenWish, USER, Who,
};

pub(super) enum Outcome {
    Granted(Identity),
    Prompts(Prompts),
    Denied,
    Penalised(Duration),
    InvalidExpiration,
    NoSuchKind,
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// More than a year is a year: times are added to a clock, which must not overflow.
pub(super) fn duration(milliseconds: u64) -> Duration {
    const YEAR: u64 = 366 * 24 * 60 * 60 * 1_000;
    Duration::from_millis(milliseconds.min(YEAR))
}

pub(super) fn begin(
    connection: ConnectionId,
    origin: Origin,
    method: begin_request::Method,
) -> proto::BeginRequest {
    let text = |address: Option<std::net::IpAddr>| {
        address.map(|address| address.to_canonical().to_string()).unwrap_or_default()
    };
    let (address, forwarded) = (text(origin.address), text(origin.forwarded));
    proto::BeginRequest {
        connection: connection.to_string(),
        source: Some(proto::Source { address, local_uid: origin.uid, forwarded }),
        dialect: proto::Dialect::Sysadm.into(),
        wish: None,
        method: Some(method),
    }
}

/// A login of the token API.
pub(super) fn begin_token(connection: ConnectionId, origin: Origin, wish: &TokenWish) -> proto::BeginRequest {
    let asked = proto::TokenWish { backend: wish.backend.clone(), expiration_seconds: wish.expiration };
    proto::BeginRequest {
        dialect: proto::Dialect::Token.into(),
        wish: Some(asked),
        ..begin(connection, origin, password(&wish.credentials))
    }
}

/// A login by the dialect of channels.
pub(super) fn begin_channel(
    connection: ConnectionId,
    origin: Origin,
    method: begin_request::Method,
) -> proto::BeginRequest {
    proto::BeginRequest { dialect: proto::Dialect::Channel.into(), ..begin(connection, origin, method) }
}

pub(super) fn jwt(jwt: &Secret) -> begin_request::Method {
    begin_request::Method::Jwt(proto::Jwt { jwt: jwt.expose().to_owned() })
}

pub(super) fn model(kind: &ChannelName, credentials: &Secret) -> begin_request::Method {
    let credentials = credentials.expose().as_bytes().to_vec();
    begin_request::Method::Model(proto::Model { kind: kind.as_str().to_owned(), credentials })
}

pub(super) fn dialect(purpose: Purpose) -> proto::Dialect {
    match purpose {
        Purpose::Act => proto::Dialect::Sysadm,
        Purpose::Channel => proto::Dialect::Channel,
        Purpose::Tell => proto::Dialect::Token,
    }
}

pub(super) fn password(credentials: &Credentials) -> begin_request::Method {
    begin_request::Method::Password(proto::Password {
        username: credentials.username.clone(),
        password: credentials.password.expose().to_owned(),
    })
}

/// With what the client showed as well, if it did: authd takes it where the kernel's word does not do.
pub(super) fn local_peer(
    handle: Vec<u8>,
    username: String,
    shown: Option<ClientCertificate>,
) -> begin_request::Method {
    let (key, certificate) = shown.map(|shown| (shown.key, shown.certificate)).unwrap_or_default();
    begin_request::Method::LocalPeer(proto::LocalPeer { handle, username, key, certificate })
}

pub(super) fn token(token: &Token) -> begin_request::Method {
    begin_request::Method::Token(proto::Token { token: token.expose().to_owned() })
}

pub(super) fn certificate_proof(proof: KeyProof) -> begin_request::Method {
    begin_request::Method::CertificateProof(proto::CertificateProof {
        signature: proof.signature,
        username: proof.username,
        fingerprint: proof.fingerprint.map(Vec::from).unwrap_or_default(),
    })
}

pub(super) fn tls_certificate(username: String, shown: ClientCertificate) -> begin_request::Method {
    let ClientCertificate { key, certificate } = shown;
    begin_request::Method::TlsCertificate(proto::TlsCertificate { username, key, certificate })
}

pub(super) fn challenge_request(connection: ConnectionId, server_key: ServerKey) -> proto::ChallengeRequest {
    proto::ChallengeRequest {
        connection: connection.to_string(),
        server_key: server_key.map(Vec::from).unwrap_or_default(),
    }
}

pub(super) fn challenge(reply: proto::ChallengeReply) -> Result<Challenge, Failure> {
    checked(Challenge { test_string: reply.test_string, context: reply.context })
}

pub(super) fn challenge_of_certd(reply: certd::ChallengeReply) -> Result<Challenge, Failure> {
    checked(Challenge { test_string: reply.test_string, context: reply.context })
}

/// An empty string would be a signature for every purpose.
fn checked(challenge: Challenge) -> Result<Challenge, Failure> {
    if challenge.test_string.is_empty() || challenge.context.is_empty() {
        return Err(Failure::contract("no challenge"));
    }
    Ok(challenge)
}

pub(super) fn key_of(entry: certd::Entry) -> Result<Key, Failure> {
    let certificate = (!entry.certificate.is_empty()).then_some(KeyCertificate {
        der: entry.certificate,
        subject: entry.subject,
        not_before: entry.not_before,
        not_after: entry.not_after,
    });
    Ok(Key {
        user: entry.user,
        spki: entry.key,
        fingerprint: entry.fingerprint.try_into().map_err(|_| Failure::contract("a fingerprint"))?,
        nickname: entry.nickname,
        email: entry.email,
        registered: entry.registered,
        proven: entry.proven,
        last_used: entry.last_used.map(|when| (when, entry.last_source)),
        certificate,
    })
}

pub(super) fn respond(connection: ConnectionId, answers: &Answers) -> proto::RespondRequest {
    proto::RespondRequest {
        connection: connection.to_string(),
        conversation: answers.conversation.clone(),
        answers: answers.answers.iter().map(|answer| answer.expose().to_owned()).collect(),
    }
}

pub(super) fn denied() -> proto::Outcome {
    proto::Outcome { kind: Some(outcome::Kind::Denied(proto::Denied {})) }
}

pub(super) fn outcome(outcome: proto::Outcome) -> Result<Outcome, Failure> {
    match outcome.kind {
        Some(outcome::Kind::Granted(granted)) => {
            let token =
                Token::parse(Secret::new(granted.token)).ok_or_else(|| Failure::contract("no token"))?;
            let session = granted.session.ok_or_else(|| Failure::contract("no session"))?;
            Ok(Outcome::Granted(identity(token, session)?))
        }
        Some(outcome::Kind::Prompts(prompts)) => Ok(Outcome::Prompts(Prompts {
            conversation: prompts.conversation,
            prompts: prompts.prompts.into_iter().map(prompt).collect::<Result<_, _>>()?,
        })),
        Some(outcome::Kind::Denied(proto::Denied {})) => Ok(Outcome::Denied),
        Some(outcome::Kind::Penalised(penalised)) => Ok(Outcome::Penalised(duration(penalised.left_ms))),
        Some(outcome::Kind::InvalidExpiration(proto::InvalidExpiration {})) => Ok(Outcome::InvalidExpiration),
        Some(outcome::Kind::NoSuchKind(proto::NoSuchKind {})) => Ok(Outcome::NoSuchKind),
        None => Err(Failure::contract("an unknown outcome")),
    }
}

fn prompt(prompt: proto::Prompt) -> Result<Prompt, Failure> {
    let style = match prompt.style() {
        proto::Style::Unspecified => return Err(Failure::contract("a prompt without style")),
        proto::Style::Hidden => Style::Hidden,
        proto::Style::Visible => Style::Visible,
        proto::Style::Info => Style::Info,
        proto::Style::Error => Style::Error,
    };
    Ok(Prompt { style, text: prompt.text })
}

fn session_id(text: &str) -> Result<SessionId, Failure> {
    Uuid::try_parse(text).map(SessionId).map_err(|_| Failure::contract("a session's name"))
}

pub(super) fn identity(token: Token, session: proto::Session) -> Result<Identity, Failure> {
    let idle = (session.idle_seconds > 0).then(|| Idle {
        after: Duration::from_secs(session.idle_seconds.into()),
        left: duration(session.idle_left_ms),
    });
    Ok(Identity {
        has_access: session.access() != proto::Access::Unspecified,
        is_token: session.dialect() == proto::Dialect::Token,
        is_channel: session.dialect() == proto::Dialect::Channel,
        turn: session.only_one,
        session: session_id(&session.session)?,
        token,
        who: Arc::new(Who {
            kind: if session.kind.is_empty() { USER.into() } else { session.kind.into() },
            user: session.user.into(),
            auth_id: session.auth_id.into(),
        }),
        acl: session.acl,
        issued: session.issued,
        expires: session.expires,
        idle,
        absolute_left: duration(session.absolute_left_ms),
        rights: duration(session.rights_ms),
    })
}

pub(super) fn listed_session(entry: proto::SessionEntry) -> Result<ListedSession, Failure> {
    Ok(ListedSession {
        session: session_id(&entry.session)?,
        user: entry.user,
        method: entry.method,
        dialect: entry.dialect,
        source: entry.source,
        started: entry.started,
        last_used: entry.last_used,
        current: entry.current,
    })
}

/// The number is never 0, which would be one of any number of connections.
pub(super) fn taken_up(taken: &proto::TakenUp) -> Result<(SessionId, u64), Failure> {
    Ok((session_id(&taken.session)?, taken.only_one))
}

pub(super) fn ended(ended: &proto::Ended) -> Result<(SessionId, EndReason), Failure> {
    let reason = match ended.reason() {
        proto::EndReason::Idle => EndReason::Idle,
        proto::EndReason::Expired => EndReason::Expired,
        proto::EndReason::Cleared => EndReason::Cleared,
        // A reason of a later version: the session has ended all the same.
        proto::EndReason::Revoked | proto::EndReason::Unspecified => EndReason::Revoked,
    };
    Ok((session_id(&ended.session)?, reason))
}

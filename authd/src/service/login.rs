//! `doorward.authd.v1.Login`.

use std::pin::Pin;

use doorward_launch::grpc::Caller;
use doorward_proto::authd::v1::{self as wire, login_server::Login};
use futures_util::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::warn;

use super::{Shared, connection, session, source};
use crate::{
    certd::{Challenge, Proof},
    conversation::{SourceKey, Style},
    driver::{Asker, Outcome, Purpose},
    error::AuthError,
    method::{Claim, Wish},
    penalty::{Standing, Watch},
    secret::{Answer, Credentials, Jwt, Password, Token},
    session::{Dialect, Sessions},
};

/// The service.
#[derive(Debug, Clone)]
pub struct LoginService(pub Shared);

#[tonic::async_trait]
impl Login for LoginService {
    async fn begin(&self, request: Request<wire::BeginRequest>) -> Result<Response<wire::Outcome>, Status> {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.gone.clone());
        let gone = caller.ok_or(AuthError::Gone("the caller"))?;
        let request = request.into_inner();
        // Secrets are taken over before anything can fail, so that they are wiped in any case.
        let claim = claim_from_wire(request.method).ok_or(AuthError::BadRequest("method: none"));
        let purpose = purpose_from_wire(request.dialect, request.wish);
        let asker = asker_from_wire(&request.connection, request.source, purpose);
        let parts = asker.and_then(|asker| {
            let claim = claim?;
            fits(&asker.purpose, &claim)?;
            Ok((asker, claim))
        });
        let (asker, claim) = parts.inspect_err(|failure| {
            self.0.logins.not_understood(request.connection.clone(), failure);
            if let Some(unsaid) = failure.may_log() {
                warn!(connection = request.connection, cause = %failure, unsaid, "login refused unread");
            }
        })?;
        let outcome = self.0.logins.begin(asker, claim, gone).await?;
        let outcome = outcome.map_err(|failure| failure.to_wire())?;
        Ok(Response::new(outcome_to_wire(outcome, &self.0.holders.sessions)))
    }

    async fn respond(
        &self,
        request: Request<wire::RespondRequest>,
    ) -> Result<Response<wire::Outcome>, Status> {
        let wire::RespondRequest { connection: name, conversation, answers } = request.into_inner();
        // Taken over before anything can fail, so that they are wiped in any case.
        let answers = answers.into_iter().map(Answer::parse).collect();
        let name = connection(&name)?;
        let conversation = uuid::Uuid::try_parse(&conversation).map_err(|_| AuthError::NoConversation)?;
        let outcome = self.0.logins.respond(name, conversation, answers).await?;
        let outcome = outcome.map_err(|failure| failure.to_wire())?;
        Ok(Response::new(outcome_to_wire(outcome, &self.0.holders.sessions)))
    }

    async fn challenge(
        &self,
        request: Request<wire::ChallengeRequest>,
    ) -> Result<Response<wire::ChallengeReply>, Status> {
        let wire::ChallengeRequest { connection: name, server_key } = request.into_inner();
        let name = connection(&name)?;
        if !matches!(server_key.len(), 0 | 32) {
            return Err(AuthError::BadRequest("server_key: must be 32 bytes or empty").into());
        }
        let Challenge { test_string, context } = self.0.logins.challenge(name, server_key).await?;
        Ok(Response::new(wire::ChallengeReply { test_string, context }))
    }

    async fn abandon(
        &self,
        request: Request<wire::AbandonRequest>,
    ) -> Result<Response<wire::AbandonReply>, Status> {
        self.0.logins.abandon(connection(&request.into_inner().connection)?);
        Ok(Response::new(wire::AbandonReply {}))
    }

    async fn backends(
        &self,
        _: Request<wire::BackendsRequest>,
    ) -> Result<Response<wire::BackendsReply>, Status> {
        Ok(Response::new(wire::BackendsReply { names: self.0.logins.backends() }))
    }

    type WatchPenaltiesStream = Penalties;

    async fn watch_penalties(
        &self,
        _: Request<wire::WatchPenaltiesRequest>,
    ) -> Result<Response<Self::WatchPenaltiesStream>, Status> {
        let watch = self.0.logins.penalties().watch()?;
        Ok(Response::new(Box::pin(stream::unfold(Some((watch, self.0.stop.clone())), next_penalties))))
    }
}

type Penalties = Pin<Box<dyn Stream<Item = Result<wire::PenaltyEvent, Status>> + Send>>;

/// The next event; after an error the stream is over.
async fn next_penalties(
    state: Option<(Watch, CancellationToken)>,
) -> Option<(Result<wire::PenaltyEvent, Status>, Option<(Watch, CancellationToken)>)> {
    let (mut watch, stop) = state?;
    let next = tokio::select! {
        () = stop.cancelled() => None,
        next = watch.next() => next,
    };
    Some(match next {
        Some((told, ready)) => {
            let sources = told.into_iter().filter_map(standing_to_wire).collect();
            (Ok(wire::PenaltyEvent { sources, ready }), Some((watch, stop)))
        }
        None => (Err(AuthError::Gone("the stream of penalties").into()), None),
    })
}

fn standing_to_wire((source, standing): (SourceKey, Standing)) -> Option<wire::SourceStanding> {
    use wire::source_standing::Source;
    let source = match source {
        SourceKey::Address(address) => Source::Address(address.to_string()),
        SourceKey::Uid(uid) => Source::Uid(uid),
        // Nobody knows it by a name of its own.
        SourceKey::Local => return None,
    };
    let Standing { penalty_ms, known_ms } = standing;
    Some(wire::SourceStanding { source: Some(source), penalty_ms, known_ms })
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn asker_from_wire(
    name: &str,
    from: Option<wire::Source>,
    purpose: Result<Purpose, AuthError>,
) -> Result<Asker, AuthError> {
    let wire::Source { address, local_uid, forwarded } = from.unwrap_or_default();
    let connection = connection(name)?;
    let (source, forwarded) = (source(&address)?, source(&forwarded)?);
    Ok(Asker { connection, source, local_uid, forwarded, purpose: purpose? })
}

fn purpose_from_wire(dialect: i32, wish: Option<wire::TokenWish>) -> Result<Purpose, AuthError> {
    match (super::dialect(dialect)?, wish) {
        (Dialect::Sysadm, None) => Ok(Purpose::Sysadm),
        (Dialect::Channel, None) => Ok(Purpose::Channel),
        (Dialect::Token, Some(wire::TokenWish { backend, expiration_seconds })) => {
            Ok(Purpose::Token(Wish { backend, seconds: expiration_seconds }))
        }
        (Dialect::Sysadm | Dialect::Channel, Some(_)) => {
            Err(AuthError::BadRequest("wish: for the token API alone"))
        }
        (Dialect::Token, None) => Err(AuthError::BadRequest("wish: none")),
    }
}

/// The token API takes passwords and nothing else: what opens a session by the kernel's word, by a key or by
/// another session's token is for that connection and not to be handed on. Channels know no login by the
/// kernel's word or by a key: who has one logs in with the SysAdm dialect.
/// A new method is for no dialect until it has its line here.
fn fits(purpose: &Purpose, claim: &Claim) -> Result<(), AuthError> {
    use Claim::{CertificateChallenge, Jwt, LocalPeer, Model, Password, TlsCertificate, Token};
    let refused = match (purpose, claim) {
        (Purpose::Sysadm | Purpose::Channel, Password { .. } | Token(_))
        | (Purpose::Token(_), Password { .. })
        | (Purpose::Sysadm, LocalPeer { .. } | CertificateChallenge { .. } | TlsCertificate { .. })
        | (Purpose::Channel, Jwt(_) | Model { .. }) => return Ok(()),
        (Purpose::Sysadm, Jwt(_) | Model { .. }) => "method: for channels alone",
        (
            Purpose::Token(_),
            LocalPeer { .. }
            | CertificateChallenge { .. }
            | TlsCertificate { .. }
            | Token(_)
            | Jwt(_)
            | Model { .. },
        ) => "method: the token API takes passwords alone",
        (Purpose::Channel, LocalPeer { .. } | CertificateChallenge { .. } | TlsCertificate { .. }) => {
            "method: for the SysAdm dialect alone"
        }
    };
    Err(AuthError::BadRequest(refused))
}

fn claim_from_wire(method: Option<wire::begin_request::Method>) -> Option<Claim> {
    use wire::begin_request::Method;
    Some(match method? {
        Method::Password(wire::Password { username, password }) => {
            Claim::Password { username, password: Password::parse(password) }
        }
        Method::LocalPeer(wire::LocalPeer { handle, username, key, certificate }) => {
            let loaded = (!key.is_empty()).then_some(Proof::Loaded { key, certificate });
            Claim::LocalPeer { handle, username, loaded }
        }
        Method::Token(wire::Token { token }) => Claim::Token(Token::parse(token)),
        Method::CertificateProof(wire::CertificateProof { signature, username, fingerprint }) => {
            Claim::CertificateChallenge { username, proof: Proof::Challenge { signature, fingerprint } }
        }
        Method::TlsCertificate(wire::TlsCertificate { username, key, certificate }) => {
            Claim::TlsCertificate { username, proof: Proof::Loaded { key, certificate } }
        }
        Method::Jwt(wire::Jwt { jwt }) => Claim::Jwt(Jwt::parse(jwt)),
        Method::Model(wire::Model { kind, credentials }) => {
            Claim::Model { kind, credentials: Credentials::parse(credentials) }
        }
    })
}

fn outcome_to_wire(outcome: Outcome, sessions: &Sessions) -> wire::Outcome {
    use wire::outcome::Kind;
    let kind = match outcome {
        Outcome::Granted { token, seen } => {
            let session = Some(session(&seen, sessions));
            Kind::Granted(wire::Granted { token: token.expose().to_owned(), session })
        }
        Outcome::Prompts { conversation, prompts } => Kind::Prompts(wire::Prompts {
            conversation: conversation.hyphenated().to_string(),
            prompts: prompts
                .into_iter()
                .map(|message| wire::Prompt { style: style(message.style).into(), text: message.text })
                .collect(),
        }),
        Outcome::Denied => Kind::Denied(wire::Denied {}),
        Outcome::NoSuchKind => Kind::NoSuchKind(wire::NoSuchKind {}),
        Outcome::InvalidExpiration => Kind::InvalidExpiration(wire::InvalidExpiration {}),
        Outcome::Penalised { left } => Kind::Penalised(wire::Penalised { left_ms: milliseconds(left) }),
    };
    wire::Outcome { kind: Some(kind) }
}

fn style(style: Style) -> wire::Style {
    match style {
        Style::Hidden => wire::Style::Hidden,
        Style::Visible => wire::Style::Visible,
        Style::Info => wire::Style::Info,
        Style::Error => wire::Style::Error,
    }
}

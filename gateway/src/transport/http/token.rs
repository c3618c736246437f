//! The token API: others are told what a token that they were shown may do.
//!
//! A token that opens something is answered whatever its source has done: who sends wrong ones to a service
//! that asks here cannot stop it. What opens nothing is counted.

use std::{sync::Arc, time::SystemTime};

use doorward_proto::acl::{Holder, granted};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};

use super::{
    Answer, Answering, Front,
    answer::{empty, json, last},
    now,
};
use crate::{
    backend::{Failure, Known},
    call::{Credentials, Error, Purpose, Token, TokenAsked, username_is_well_formed},
    dialect::{
        rest::{self, Authorization},
        token::{self, Asked, DOCUMENT, Found},
    },
    session::{self, Hopeless},
    transport::asking,
};

/// What is spoken here, for audit records.
const DIALECT: &str = "token";
/// What pages of other sites may send (CORS).
const CORS_HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, authorization, x-auth-token");
/// For so many seconds a browser need not ask again.
const CORS_AGE: HeaderValue = HeaderValue::from_static("600");

/// Answers a request. What is known already is said at once.
pub(super) fn answer(front: &Arc<Front>, request: Request<Incoming>, found: Found, number: u32) -> Answering {
    let headers = request.headers();
    let shown = Shown {
        origin: front.shared.rules.shares_tokens_with(headers).cloned(),
        body: *request.method() != Method::HEAD,
    };
    let Some(asked) = found.asked(request.method()) else {
        return now(shown.finish(no_method(&found, request.method() == Method::OPTIONS)));
    };
    if asked == Asked::Document {
        return now(shown.finish(document()));
    }
    let ask = Ask { front: Arc::clone(front), number };
    if matches!(asked, Asked::Look | Asked::Check)
        && let Some(known) = found.token.as_ref().and_then(|token| ask.known(token))
    {
        let scope = token::scope(request.uri().query());
        return now(shown.finish(ask.tell(asked, &known, scope.as_deref())));
    }
    let front = Arc::clone(front);
    Answering::Later(Box::pin(async move {
        let answer = async { ask.answer(asked, found.token, request).await.unwrap_or_else(Refusal::answer) };
        let refused = || Refusal::of(503, "The service stops: try again later").answer();
        shown.finish(front.unless_overdue(answer, refused).await)
    }))
}

/// What is refused before it is known what is asked, or on a listener that has nothing but this API.
pub(super) fn refused(status: StatusCode, method: &Method) -> Answer {
    let reason = match status {
        StatusCode::NOT_FOUND => "There is nothing here",
        StatusCode::TOO_MANY_REQUESTS => "Too many connections: try again later",
        _ => "Requests from there are not taken",
    };
    let shown = Shown { origin: None, body: *method != Method::HEAD };
    shown.finish(Refusal::of(status.as_u16(), reason).answer())
}

/// How every answer of one request looks.
struct Shown {
    /// The page's, if it may read the answer.
    origin: Option<HeaderValue>,
    /// HEAD has none. What it says of the length is 0, and not what GET would have: a client that does not know
    /// HEAD, as `curl -X HEAD`, waits for what it was told of, or else for the end of the connection.
    body: bool,
}

impl Shown {
    fn finish(&self, mut answer: Answer) -> Answer {
        if !self.body {
            *answer.body_mut() = http_body_util::Full::default();
            if answer.status() != StatusCode::NO_CONTENT {
                answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        let headers = answer.headers_mut();
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            if let Some(allow) = headers.get(header::ALLOW).cloned() {
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS);
                headers.insert(header::ACCESS_CONTROL_MAX_AGE, CORS_AGE);
            }
        }
        answer
    }
}

fn no_method(found: &Found, only_asks: bool) -> Answer {
    let mut answer = match only_asks {
        true => empty(StatusCode::OK),
        false => Refusal::of(405, "This method is not allowed here").answer(),
    };
    if let Ok(allow) = HeaderValue::try_from(found.allow()) {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    answer
}

fn document() -> Answer {
    let mut answer = Answer::new(DOCUMENT.into());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-yaml"));
    answer
}

/// An answer that is none.
struct Refusal {
    status: u16,
    reason: String,
    /// In seconds.
    retry_after: Option<u64>,
    last: bool,
}

impl Refusal {
    fn of(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), retry_after: None, last: false }
    }

    fn no_such_token() -> Self {
        Self::of(404, "No such token")
    }

    fn failed() -> Self {
        Self::of(401, "Authentication Failed")
    }

    fn later(seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::of(429, "Too many failures: try again later") }
    }

    fn answer(self) -> Answer {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = json(status, token::error(self.status, &self.reason, SystemTime::now()));
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.last { last(answer) } else { answer }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::BadRequest(what) => Self::of(400, what),
            Error::Unauthorized | Error::Forbidden => Self::failed(),
            Error::NotFound => Self::no_such_token(),
            Error::TooLarge => Self { last: true, ..Self::of(413, "The body is too large") },
            Error::TooMany => Self::of(429, "Too many requests or sessions: try again later"),
            // Of these nothing is said of tokens.
            Error::NoSuchKind | Error::ReadsOnly | Error::Cancelled | Error::Fault => {
                Self::of(500, "An error of the server's; see its log")
            }
            Error::TimedOut | Error::Unavailable => {
                Self::of(503, "A back end does not answer: try again later")
            }
        }
    }
}

struct Ask {
    front: Arc<Front>,
    number: u32,
}

impl Ask {
    fn known(&self, token: &Token) -> Option<Arc<Known>> {
        self.front.shared.backend.known(token, Purpose::Tell)
    }

    fn told_of(&self, failure: Failure) -> Refusal {
        self.front.client.told_of(failure, self.number).into()
    }

    async fn answer(
        &self,
        asked: Asked,
        token: Option<Token>,
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let backend = &self.front.shared.backend;
        match asked {
            Asked::Issue => self.issue(request).await,
            Asked::Look | Asked::Check => {
                let known = self.look(token).await?;
                Ok(self.tell(asked, &known, token::scope(request.uri().query()).as_deref()))
            }
            Asked::Scopes => {
                let scopes = self.read(request).await?;
                let scopes = token::wished_scopes(&scopes, self.front.shared.limits.depth);
                let scopes = scopes.map_err(|what| Refusal::of(400, what))?;
                let known = self.look(token).await?;
                let answers = scopes.into_iter().map(|scope| {
                    let granted = grants(&known, &scope);
                    (scope, granted)
                });
                Ok(json(StatusCode::OK, token::scopes(answers.collect())))
            }
            Asked::Revoke => {
                let Some(token) = token else { return Err(self.miss(Refusal::no_such_token())) };
                let ended = backend.end(token).await.map_err(|failure| self.told_of(failure))?;
                if !ended {
                    // Not told apart; counted all the same.
                    self.count_miss();
                }
                Ok(json(StatusCode::OK, token::done()))
            }
            Asked::Backends => {
                let names = backend.backends().await.map_err(|failure| self.told_of(failure))?;
                Ok(json(StatusCode::OK, token::backends(&names)))
            }
            Asked::Status if backend.watch().is_some() => Ok(empty(StatusCode::OK)),
            Asked::Status => Err(Error::Unavailable.into()),
            Asked::Document => Ok(document()),
        }
    }

    async fn issue(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let front = &self.front;
        if request.headers().contains_key(header::ORIGIN) && !rest::is_json(request.headers()) {
            return Err(Refusal::of(400, "Content-Type must be application/json"));
        }
        let credentials = self.credentials(request.headers())?;
        let body = self.read(request).await?;
        let wish = token::wish(&body, front.shared.limits.depth, credentials);
        let wish = wish.map_err(|what| Refusal::of(400, what))?;
        let asked = front.logging_in(front.shared.backend.issue(front.caller(), &wish)).await;
        match asked.map_err(|failure| self.told_of(failure))? {
            TokenAsked::Issued(identity) => {
                let server = front.shared.server_uuid.as_deref();
                Ok(json(StatusCode::OK, token::token(&identity, server)))
            }
            TokenAsked::Denied => Err(Refusal::failed()),
            TokenAsked::InvalidExpiration => Err(Refusal::of(400, "Invalid expiration")),
            TokenAsked::Penalised(left) => Err(Refusal::later(asking::whole_seconds(left))),
        }
    }

    /// Those of a Basic header; everything else is refused as a wrong password is.
    fn credentials(&self, headers: &HeaderMap) -> Result<Credentials, Refusal> {
        let Authorization::Basic(found) = rest::authorization(headers)? else {
            return Err(Refusal::failed());
        };
        let name_is_one = !found.username.is_empty() && username_is_well_formed(&found.username);
        let why = match found.password.expose() {
            _ if !name_is_one => Hopeless::User,
            "" => Hopeless::NoPassword,
            _ if !found.well_formed() => Hopeless::Password,
            _ => return Ok(found),
        };
        let refusal = session::Refusal { why, method: "password", username: found.username };
        self.front.client.refused(&self.front.shared.audit, refusal, DIALECT);
        Err(Refusal::failed())
    }

    async fn read(&self, request: Request<Incoming>) -> Result<bytes::Bytes, Refusal> {
        let read = self.front.read(request, self.front.shared.limits.token_body).await;
        read.map_err(|error| match error {
            // It is the client that is late, no back end; what is left of the body is not waited for.
            Error::TimedOut => Refusal { last: true, ..Refusal::of(408, "The body did not come in time") },
            other => other.into(),
        })
    }

    /// The session of a token; without one, or where it opens nothing, it is a miss.
    async fn look(&self, token: Option<Token>) -> Result<Arc<Known>, Refusal> {
        let Some(token) = token else { return Err(self.miss(Refusal::no_such_token())) };
        let looked = self.front.shared.backend.look(&token, Purpose::Tell).await;
        let known = looked.map_err(|failure| self.told_of(failure))?;
        known.ok_or_else(|| self.miss(Refusal::no_such_token()))
    }

    /// Says it, or, where there were too many of them lately, that.
    fn miss(&self, refusal: Refusal) -> Refusal {
        self.count_miss().map_or(refusal, Refusal::later)
    }

    fn count_miss(&self) -> Option<u64> {
        let left = self.front.shared.misses.count(self.front.charged(), std::time::Instant::now());
        left.map(asking::whole_seconds)
    }

    fn tell(&self, asked: Asked, known: &Known, scope: Option<&str>) -> Answer {
        if let Some(scope) = scope
            && !grants(known, scope)
        {
            return Refusal::of(403, format!("Unauthorized for {scope}")).answer();
        }
        match asked {
            Asked::Check => empty(StatusCode::NO_CONTENT),
            _ => {
                let server = self.front.shared.server_uuid.as_deref();
                json(StatusCode::OK, token::token(&known.identity, server))
            }
        }
    }
}

fn grants(known: &Known, scope: &str) -> bool {
    let mut name = [0; uuid::fmt::Hyphenated::LENGTH];
    let session = known.identity.session.0.hyphenated().encode_lower(&mut name);
    granted(&known.identity.acl, scope, Holder { auth_id: &known.identity.who.auth_id, session })
}

//! SysAdm requests over plain HTTP. Each has a session machine of its own, the same that a WebSocket has.

mod exchange;

use std::sync::Arc;

use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
};

use self::exchange::Exchange;
use super::{
    Admitted, Front,
    answer::{Answer, empty, failure, json, last},
};
use crate::{
    call::{Call, Error, Reply},
    dialect::rest::{self, Authorization, Verb},
    namespace::{Needs, Row},
};

/// Answers a request.
pub(super) async fn answer(
    front: Arc<Front>,
    request: Request<Incoming>,
    admitted: Admitted,
    number: u32,
) -> Answer {
    let Some(target) = rest::target(request.uri().path()) else { return failure(StatusCode::NOT_FOUND) };
    let row = target.row();
    let headers = request.headers();
    let from_page = headers.contains_key(header::ORIGIN);
    let verb = match rest::verb(request.method()) {
        None => return only(rest::METHODS, failure(StatusCode::METHOD_NOT_ALLOWED)),
        Some(Verb::Options) => return only(rest::METHODS, empty(StatusCode::OK)),
        Some(Verb::Write) if from_page && !rest::is_json(headers) => {
            return failure(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        Some(verb) => verb,
    };
    if verb == Verb::Read && row.is_some_and(|row| row.actions.iter().all(|action| action.right.writes())) {
        return only(rest::WRITING, failure(StatusCode::METHOD_NOT_ALLOWED));
    }
    // No dialog of a browser, which would send what was typed into it with every request from then on.
    let dialog = !from_page && !headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"));
    let told = |reply: &Reply| {
        let (status, body) = rest::encode(reply);
        let mut answer =
            json(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body);
        if status == 401 && dialog {
            answer.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="doorward", charset="UTF-8""#),
            );
        }
        answer
    };
    let failed = |error: Error| told(&Reply::Error(error));

    let mut exchange = match begin(&front, headers, &admitted, row, number).await {
        Ok(exchange) => exchange,
        Err(Refused::Error(error)) => return failed(error),
        Err(Refused::Penalty(seconds)) => return penalised(failed(Error::Forbidden), seconds),
    };
    let most = match exchange.authenticated() {
        true => front.shared.limits.after_login,
        false => front.shared.limits.before_login,
    };
    let body = front.read(request, most).await;
    let reply = match body.and_then(|body| rest::decode(target, &body, front.shared.limits.depth)) {
        Ok(request) if verb == Verb::Read && request.subject.is_some_and(|s| s.action.right.writes()) => {
            exchange.close().await;
            return only(rest::WRITING, failure(StatusCode::METHOD_NOT_ALLOWED));
        }
        Ok(request) => exchange.ask(request.subject, as_asked(request.call, verb)).await,
        Err(error) => Reply::Error(error),
    };
    let penalty = exchange.penalty();
    exchange.close().await;
    let answer = told(&reply);
    match (penalty, reply) {
        (None, Reply::Error(Error::ReadsOnly)) => {
            only(rest::WRITING, failure(StatusCode::METHOD_NOT_ALLOWED))
        }
        (Some(seconds), _) => penalised(answer, seconds),
        // What is left of the body is not waited for.
        (None, Reply::Error(Error::TooLarge | Error::TimedOut)) => last(answer),
        (None, _) => answer,
    }
}

/// Here the answer is what ends a request, and the method says whether it may write.
fn as_asked(call: Call, verb: Verb) -> Call {
    match call {
        Call::AuthClear { .. } => Call::AuthClear { reply: true },
        Call::Subsystem(mut request) => {
            request.reads_only = verb == Verb::Read;
            Call::Subsystem(request)
        }
        other => other,
    }
}

/// Why there is no session to ask with.
enum Refused {
    Error(Error),
    /// The source is under a penalty, for so many seconds.
    Penalty(u64),
}

/// Who asks. A row that needs somebody is refused before the body is read.
async fn begin(
    front: &Arc<Front>,
    headers: &HeaderMap,
    admitted: &Admitted,
    row: Option<&'static Row>,
    number: u32,
) -> Result<Exchange, Refused> {
    let mut exchange = Exchange::new(Arc::clone(front), admitted.direct, number);
    let open = row.is_some_and(|row| row.needs == Needs::Nothing);
    match rest::authorization(headers).map_err(Refused::Error)? {
        Authorization::Nobody if open => {}
        Authorization::Nobody | Authorization::Unusable | Authorization::Bearer(None) => {
            return Err(Refused::Error(Error::Unauthorized));
        }
        Authorization::Bearer(Some(token)) => {
            exchange.take_up(&token).await.map_err(Refused::Error)?;
        }
        Authorization::Basic(credentials) => {
            if let Reply::Error(error) = exchange.log_in(credentials).await {
                return Err(exchange.penalty().map_or(Refused::Error(error), Refused::Penalty));
            }
        }
    }
    Ok(exchange)
}

/// An answer that tells which methods there are.
fn only(methods: &'static str, mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

fn penalised(mut answer: Answer, seconds: u64) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    last(answer)
}

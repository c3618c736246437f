//! Requests are received whole before anything is done about them: in time, and few at once.
//!
//! Every request is one message. A gateway that is taken over could open thousands and finish none;
//! what they hold would be authd's memory, and tonic waits for the rest of a request for ever.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

/// Compression flag and length, in front of every message.
const ENVELOPE: usize = 5;

/// Receives requests for the services behind it.
#[derive(Debug, Clone)]
pub struct Intake {
    places: Arc<Semaphore>,
    within: Duration,
    largest: usize,
}

impl Intake {
    /// At most so many requests at a time whose message is not there yet, each for so long; no message
    /// larger than `largest`.
    pub fn new(at_once: usize, within: Duration, largest: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(at_once)), within, largest }
    }

    async fn receive(&self, body: Body) -> Result<Body, Status> {
        // An honest message comes along with its head, so none waits for a place.
        let place = self.places.try_acquire();
        let _place =
            place.map_err(|_| refusal(Status::resource_exhausted("too many unfinished requests")))?;
        let whole = Limited::new(body, self.largest + ENVELOPE).collect();
        match tokio::time::timeout(self.within, whole).await {
            Ok(Ok(whole)) => Ok(Body::new(Full::new(whole.to_bytes()))),
            Ok(Err(failure)) if failure.is::<LengthLimitError>() => {
                Err(refusal(Status::out_of_range("the request is too long")))
            }
            // The caller took it back.
            Ok(Err(_)) => Err(Status::cancelled("the request did not arrive")),
            Err(_) => Err(refusal(Status::deadline_exceeded("the request did not arrive in time"))),
        }
    }
}

/// At debug level: who can send such requests can send as many as they like.
fn refusal(status: Status) -> Status {
    tracing::debug!(cause = status.message(), "refused a request unread");
    status
}

impl<S> Layer<S> for Intake {
    type Service = Receiving<S>;

    fn layer(&self, inner: S) -> Receiving<S> {
        Receiving { inner, intake: self.clone() }
    }
}

/// A service behind an [`Intake`].
#[derive(Debug, Clone)]
pub struct Receiving<S> {
    inner: S,
    intake: Intake,
}

impl<S, R> Service<Request<Body>> for Receiving<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready goes into the future; its copy becomes ready for the next call.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let intake = self.intake.clone();
        let (head, body) = request.into_parts();
        Box::pin(async move {
            match intake.receive(body).await {
                Ok(body) => inner.call(Request::from_parts(head, body)).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream::pending};
    use http_body_util::{BodyStream, StreamBody};
    use tonic::{Code, codegen::Bytes};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    fn whole(text: &'static [u8]) -> Body {
        Body::new(Full::new(Bytes::from_static(text)))
    }

    /// The text, and then neither more nor an end.
    fn unfinished(text: &'static [u8]) -> Body {
        Body::new(StreamBody::new(BodyStream::new(Full::new(Bytes::from_static(text))).chain(pending())))
    }

    #[tokio::test]
    async fn a_request_that_is_there_goes_on_unchanged() {
        let body = Intake::new(1, SOON, 5).receive(whole(b"0123456789")).await.expect("received");
        assert_eq!(body.collect().await.expect("whole").to_bytes(), &b"0123456789"[..]);
    }

    #[tokio::test]
    async fn one_that_does_not_come_to_its_end_is_given_up_in_time_and_leaves_its_place() {
        let intake = Intake::new(1, SOON, 100);
        for _ in 0..2 {
            let refused = intake.receive(unfinished(b"01")).await.expect_err("late");
            assert_eq!(refused.code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn one_that_is_too_long_is_refused_before_its_end() {
        let intake = Intake::new(1, Duration::from_secs(20), 5);
        let refused = intake.receive(unfinished(b"0123456789a")).await.expect_err("too long");
        assert_eq!(refused.code(), Code::OutOfRange);
    }

    #[tokio::test]
    async fn while_too_many_are_unfinished_the_next_is_refused_at_once() {
        let intake = Intake::new(1, Duration::from_secs(20), 100);
        let mut first = Box::pin(intake.receive(unfinished(b"0")));
        assert!(futures_util::poll!(&mut first).is_pending());
        let refused = intake.receive(whole(b"0")).await.expect_err("no place");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(first);
        intake.receive(whole(b"0")).await.expect("free again");
    }
}

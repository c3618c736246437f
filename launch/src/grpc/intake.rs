//! Requests are received whole before anything is done about them: in time, and few at once.
//!
//! Every request is one message, but those that [`Intake::streams`] names. A peer that is taken over
//! could open thousands and finish none; what they hold would be the daemon's memory, and tonic waits
//! for the rest of a request for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Caller;
use super::seats::Seats;

/// Compression flag and length, in front of every message.
const ENVELOPE: usize = 5;

/// Receives requests for the services behind it.
#[derive(Clone)]
pub struct Intake {
    unfinished: Seats,
    bounds: Unfinished,
    largest: usize,
    streams: &'static [&'static str],
}

/// Bounds of requests whose message is not there yet.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished {
    /// Of one uid at a time: what the gateway leaves unfinished takes no place of root's.
    pub per_uid: usize,
    /// Of all uids together.
    pub total: usize,
    /// How long each may take.
    pub within: Duration,
}

impl Default for Unfinished {
    fn default() -> Unfinished {
        Unfinished { per_uid: 256, total: 512, within: Duration::from_secs(10) }
    }
}

impl Intake {
    /// No message larger than `largest`.
    pub fn new(bounds: Unfinished, largest: usize) -> Intake {
        Intake { unfinished: Seats::default(), bounds, largest, streams: &[] }
    }

    /// Lets the requests of these methods through as they come: they are many messages, and their
    /// service has a deadline for each.
    pub fn streams(self, paths: &'static [&'static str]) -> Intake {
        Intake { streams: paths, ..self }
    }

    async fn receive(&self, uid: u32, body: Body) -> Result<Body, Status> {
        // An honest message comes along with its head, so none waits for a place.
        let place = self.unfinished.take(uid, self.bounds.per_uid, self.bounds.total);
        let _place =
            place.ok_or_else(|| refusal(Status::resource_exhausted("too many unfinished requests")))?;
        let whole = Limited::new(body, self.largest + ENVELOPE).collect();
        match tokio::time::timeout(self.bounds.within, whole).await {
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
#[derive(Clone)]
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
        if self.intake.streams.contains(&request.uri().path()) {
            return Box::pin(inner.call(request));
        }
        let intake = self.intake.clone();
        let uid = request.extensions().get::<Caller>().map_or(u32::MAX, |caller| caller.uid);
        let (head, body) = request.into_parts();
        Box::pin(async move {
            match intake.receive(uid, body).await {
                Ok(body) => inner.call(Request::from_parts(head, body)).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream::pending};
    use http_body_util::{BodyStream, StreamBody};
    use tonic::{Code, codegen::Bytes};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(20);
    const ONE: u32 = 1000;
    const OTHER: u32 = 0;

    fn intake(within: Duration, largest: usize) -> Intake {
        Intake::new(Unfinished { per_uid: 1, total: 2, within }, largest)
    }

    fn whole(text: &'static [u8]) -> Body {
        Body::new(Full::new(Bytes::from_static(text)))
    }

    /// The text, and then neither more nor an end.
    fn unfinished(text: &'static [u8]) -> Body {
        Body::new(StreamBody::new(BodyStream::new(Full::new(Bytes::from_static(text))).chain(pending())))
    }

    #[tokio::test]
    async fn a_request_that_is_there_goes_on_unchanged() {
        let body = intake(SOON, 5).receive(ONE, whole(b"0123456789")).await.expect("received");
        assert_eq!(body.collect().await.expect("whole").to_bytes(), &b"0123456789"[..]);
    }

    #[tokio::test]
    async fn one_that_does_not_come_to_its_end_is_given_up_in_time_and_leaves_its_place() {
        let intake = intake(SOON, 100);
        for _ in 0..2 {
            let refused = intake.receive(ONE, unfinished(b"01")).await.expect_err("late");
            assert_eq!(refused.code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn one_that_is_too_long_is_refused_before_its_end() {
        let refused = intake(LATE, 5).receive(ONE, unfinished(b"0123456789a")).await.expect_err("too long");
        assert_eq!(refused.code(), Code::OutOfRange);
    }

    #[tokio::test]
    async fn while_too_many_are_unfinished_the_next_is_refused_at_once_and_another_uids_is_not() {
        let intake = intake(LATE, 100);
        let mut first = Box::pin(intake.receive(ONE, unfinished(b"0")));
        assert!(futures_util::poll!(&mut first).is_pending());
        let refused = intake.receive(ONE, whole(b"0")).await.expect_err("no place");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        intake.receive(OTHER, whole(b"0")).await.expect("a place of its own");
        drop(first);
        intake.receive(ONE, whole(b"0")).await.expect("free again");
    }

    #[tokio::test]
    async fn only_what_is_a_stream_goes_on_before_its_end() {
        let asked = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let layer = intake(SOON, 100).streams(&["/test.Service/Stream"]);
        for (path, refused) in [("/test.Service/Stream", false), ("/test.Service/Streams", true)] {
            let request = Request::post(path).body(unfinished(b"0")).expect("a request");
            let response = layer.layer(asked).oneshot(request).await.expect("an answer");
            assert_eq!(response.headers().contains_key("grpc-status"), refused, "{path}");
        }
    }
}

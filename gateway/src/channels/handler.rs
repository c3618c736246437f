//! Services that decide about a channel, beside the table: asked for each subscription, publication and custom
//! message that the table leaves to them, with authd's word for who is asking.
//!
//! A handler that hangs, dies, or answers what it must not has refused. It is believed about its own channel, and about
//! the one client that asks.

mod answers;
mod comings;
mod word;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use doorward_launch::Current;
use doorward_proto::channel::v1::{self as proto, channel_handler_client::ChannelHandlerClient};
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status, transport::Channel};

use self::word::Word;
pub use self::{answers::Handled, comings::Presence, word::Asker};
use super::{HandlerPlace, Policies, Voices};
use crate::{
    backend::{Backend, Failure, failure::Faults, kept::Keeper, lane::Lane, line::Line, link::Link},
    call::{Address, ChannelName, Custom, Error, Payload, Secret},
    subsystem::{Place, Places},
};

/// Questions under way to one handler, and the most of them of one identity.
const QUESTIONS: usize = 64;
const OF_ONE: usize = 16;
/// Beside them, questions whether what was allowed is allowed still, and the most of them of one identity. These wait for
/// their turn: after a change all subscriptions are asked about at once.
const AGAIN: usize = 16;
const AGAIN_OF_ONE: usize = 4;
/// The largest answer: a reply, 16 publications, and what they are wrapped in.
const ANSWER_MAX: usize = 17 * (64 << 10) + (64 << 10);
/// What a question that nobody waits for any more is given to end by itself.
const GRACE: Duration = Duration::from_millis(250);

/// All of them, as far as they were asked. Clones are the same.
#[derive(Debug, Clone)]
pub struct Handlers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keeper: Keeper,
    policies: Arc<Current<Policies>>,
    known: Mutex<BTreeMap<ChannelName, Arc<Handler>>>,
    voices: Mutex<Voices>,
}

#[derive(Debug)]
struct Handler {
    place: Arc<HandlerPlace>,
    audience: String,
    line: Line,
    places: Arc<Places>,
    again: Arc<Lane>,
    comings: Arc<Lane>,
    faults: Faults,
    /// What it was not let say.
    floods: Faults,
}

/// Why something is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum No {
    /// The handler refuses, or its answer is wrong.
    Refused(Error),
    /// It was not asked, or has not answered.
    Unsaid(Error),
    /// It has not answered in time.
    Late,
}

type Client = ChannelHandlerClient<Channel>;

impl Handlers {
    /// None was asked yet. Only those are that the table has.
    pub fn new(backend: &Backend, policies: Arc<Current<Policies>>) -> Self {
        Self::kept_by(backend.keeper().clone(), policies)
    }

    fn kept_by(keeper: Keeper, policies: Arc<Current<Policies>>) -> Self {
        Self(Arc::new(Inner { keeper, policies, known: Mutex::default(), voices: Mutex::default() }))
    }

    /// The table has changed: connections to those that are in it no more are given up.
    pub fn renew(&self) {
        let policies = self.0.policies.get();
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, handler| policies.has(&handler.place));
        drop(known);
        self.voices().renew(&policies);
    }

    fn voices(&self) -> MutexGuard<'_, Voices> {
        self.0.voices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of this may be said now for a handler, whichever client's message it answers.
    ///
    /// # Errors
    /// When it is too much; then nothing of it is to be said. The log hears of it now and then.
    pub fn may_say(
        &self,
        place: &Arc<HandlerPlace>,
        publications: &[(Address, Payload)],
        publishes: u32,
    ) -> Result<(), Error> {
        let now = Instant::now().into_std();
        if publications.is_empty() || self.voices().say(place, publications, publishes, now) {
            return Ok(());
        }
        if let Ok(handler) = self.of(place)
            && let Some(unsaid) = handler.floods.now()
        {
            let channel = place.channel.as_str();
            tracing::warn!(channel, unsaid, "a handler publishes more than it may in a second");
        }
        Err(Error::TooMany)
    }

    /// One that the table has otherwise than before is another one; one that it has no more is asked nothing, whoever
    /// learnt of it while it was there.
    fn of(&self, place: &Arc<HandlerPlace>) -> Result<Arc<Handler>, No> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: what [`Handlers::renew`] has thrown out does not come back.
        if !self.0.policies.get().has(place) {
            return Err(No::Unsaid(Error::Forbidden));
        }
        Ok(match known.get(&place.channel).filter(|handler| handler.place == *place) {
            Some(handler) => Arc::clone(handler),
            None => {
                let handler = Arc::new(Handler::new(place));
                known.insert(place.channel.clone(), Arc::clone(&handler));
                handler
            }
        })
    }

    /// What of this the client is subscribed to. `due` is for the whole request, which may name many.
    ///
    /// # Errors
    /// When it is nothing.
    pub async fn may_subscribe(
        &self,
        place: &Arc<HandlerPlace>,
        asker: &Asker,
        at: &Address,
        due: Instant,
    ) -> Result<Vec<Address>, No> {
        let (handlers, place, asker, at) = (self.clone(), Arc::clone(place), asker.clone(), at.clone());
        self.by_itself(async move { handlers.subscribe(&place, &asker, &at, due).await }).await
    }

    /// Others wait for the place of a question, and whoever waits for the answer may be held up by a client that does not
    /// read.
    async fn by_itself<T: Send + 'static, E: From<No> + Send + 'static>(
        &self,
        asking: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let asking = async move { Ok::<_, Failure>(asking.await) };
        let asked = self.0.keeper.keep(Duration::ZERO, asking, drop).await;
        asked.unwrap_or_else(|_| Err(No::Unsaid(Error::Fault).into()))
    }

    async fn subscribe(
        &self,
        place: &Arc<HandlerPlace>,
        word: &impl Word,
        at: &Address,
        due: Instant,
    ) -> Result<Vec<Address>, No> {
        let handler = self.of(place)?;
        let held = handler.take(word);
        let due = due.min(handler.due());
        handler.subscriptions(&self.0.keeper, word, at, (held, due)).await
    }

    /// Whether the client may still hear what was allowed before. It waits for its turn until then, if need be.
    ///
    /// # Errors
    /// When it may not, or nothing is known of it.
    pub async fn may_still(
        &self,
        place: &Arc<HandlerPlace>,
        asker: &Asker,
        at: &Address,
        until: Instant,
    ) -> Result<(), No> {
        let (handlers, place, asker, at) = (self.clone(), Arc::clone(place), asker.clone(), at.clone());
        self.by_itself(async move { handlers.still(&place, &asker, &at, until).await }).await
    }

    async fn still(
        &self,
        place: &Arc<HandlerPlace>,
        word: &impl Word,
        at: &Address,
        until: Instant,
    ) -> Result<(), No> {
        let handler = self.of(place)?;
        let Ok(turn) = timeout_at(until, handler.again.turn(word.who())).await else {
            return Err(No::Unsaid(Error::TooMany));
        };
        // It may be another's by now.
        let handler = self.of(place)?;
        let held = turn.ok_or_else(no_place);
        let due = until.min(handler.due());
        let allowed = handler.subscriptions(&self.0.keeper, word, at, (held, due)).await?;
        if allowed.contains(at) { Ok(()) } else { Err(No::Refused(Error::Forbidden)) }
    }

    /// Whether the client may say this there.
    ///
    /// # Errors
    /// When it may not.
    pub async fn may_publish(
        &self,
        place: &Arc<HandlerPlace>,
        asker: &Asker,
        at: &Address,
        message: &Payload,
    ) -> Result<(), Error> {
        let (handlers, place, asker, at) = (self.clone(), Arc::clone(place), asker.clone(), at.clone());
        let message = message.clone();
        self.by_itself(async move { handlers.publish(&place, &asker, &at, &message).await }).await
    }

    async fn publish(
        &self,
        place: &Arc<HandlerPlace>,
        word: &impl Word,
        at: &Address,
        message: &Payload,
    ) -> Result<(), Error> {
        let handler = self.of(place)?;
        let held = (handler.take(word), handler.due());
        let reply = handler.ask(&self.0.keeper, word, at, held, |mut client: Client, asked| {
            let request = proto::CanPublishRequest { asked: Some(asked), message: message.0.to_vec() };
            async move { client.can_publish(request).await }
        });
        Ok(handler.said(reply.await, answers::permission)?)
    }

    /// What is to be done about a custom message. `own` says whose another channel is now.
    ///
    /// # Errors
    /// When it is nothing: it has no such action, or the client may not.
    pub async fn on_message(
        &self,
        place: &Arc<HandlerPlace>,
        asker: &Asker,
        custom: &Custom,
        request_id: String,
        own: impl Fn(&ChannelName) -> Option<Arc<HandlerPlace>> + Send + Sync + 'static,
    ) -> Result<Handled, Error> {
        let (handlers, place, asker, custom) =
            (self.clone(), Arc::clone(place), asker.clone(), custom.clone());
        let handled = async move { handlers.message(&place, &asker, &custom, &request_id, own).await };
        // What is to be done can be much: its place was its identity's own until here.
        self.by_itself(handled).await.map(|(handled, _place)| handled)
    }

    async fn message(
        &self,
        place: &Arc<HandlerPlace>,
        word: &impl Word,
        custom: &Custom,
        request_id: &str,
        own: impl Fn(&ChannelName) -> Option<Arc<HandlerPlace>>,
    ) -> Result<(Handled, Option<Arc<Place>>), Error> {
        let own = |channel: &ChannelName| own(channel).is_some_and(|other| other.is_same_service(place));
        let handler = self.of(place)?;
        let place = handler.take(word).map(Arc::new);
        let kept = place.as_ref().ok().map(Arc::clone);
        let held = (place, handler.due());
        let reply = handler.ask(&self.0.keeper, word, &custom.at, held, |mut client: Client, asked| {
            let request = proto::MessageRequest {
                asked: Some(asked),
                action: custom.action.as_str().to_owned(),
                message: custom.message.0.to_vec(),
                request_id: request_id.to_owned(),
            };
            async move { client.on_message(request).await }
        });
        let handled = handler.said(reply.await, |reply| answers::handled(&custom.at, own, reply))?;
        if let Some(place) = &kept {
            place.over();
        }
        Ok((handled, kept))
    }
}

impl Handler {
    fn new(place: &Arc<HandlerPlace>) -> Self {
        let audience = format!("channel/{}", place.channel.as_str());
        let link = Link { path: place.socket.clone(), uid: place.uid };
        Self {
            line: Line::shared(&audience, link),
            places: Arc::new(Places::new(QUESTIONS, OF_ONE)),
            again: Arc::new(Lane::new(AGAIN, AGAIN_OF_ONE)),
            comings: Arc::new(comings::lane()),
            faults: Faults::default(),
            floods: Faults::default(),
            place: Arc::clone(place),
            audience,
        }
    }

    async fn client(&self) -> Result<Client, Failure> {
        let channel = self.line.channel().await?;
        Ok(Client::new(channel).max_decoding_message_size(ANSWER_MAX).max_encoding_message_size(usize::MAX))
    }

    /// When the answer to a question that is asked now is late.
    fn due(&self) -> Instant {
        Instant::now() + self.place.deadline
    }

    /// A place for a question of a client that waits for nothing.
    fn take(&self, word: &impl Word) -> Result<Place, Failure> {
        self.places.take(word.who()).ok_or_else(no_place)
    }

    async fn subscriptions(
        &self,
        keeper: &Keeper,
        word: &impl Word,
        at: &Address,
        held: (Result<impl Send + Sync + 'static, Failure>, Instant),
    ) -> Result<Vec<Address>, No> {
        let reply = self.ask(keeper, word, at, held, |mut client: Client, asked| async move {
            client.can_subscribe(proto::CanSubscribeRequest { asked: Some(asked) }).await
        });
        self.said(reply.await, |reply| answers::subscriptions(at, reply))
    }

    /// Asks until it is due, with a place that it has until it is over.
    async fn ask<R, Calling>(
        &self,
        keeper: &Keeper,
        word: &impl Word,
        at: &Address,
        (place, due): (Result<impl Send + Sync + 'static, Failure>, Instant),
        call: impl Fn(Client, proto::Asked) -> Calling,
    ) -> Result<R, Failure>
    where
        R: Send + 'static,
        Calling: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let place = Arc::new(place?);
        if due <= Instant::now() {
            return Err(Failure::late("the request"));
        }
        let once = async |assertion: Secret| {
            let client = self.client().await?;
            let left = due.saturating_duration_since(Instant::now());
            let call = call(
                client,
                proto::Asked {
                    assertion: assertion.expose().to_owned(),
                    channel: at.channel.as_str().to_owned(),
                    pk: at.pk.as_ref().map(|pk| pk.as_str().to_owned()),
                    facility: at.facility.as_str().to_owned(),
                    deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
                },
            );
            // It has its place until it is over, whether or not anybody waits.
            let held = Arc::clone(&place);
            let call = async move {
                let _held = held;
                call.await
            };
            Ok::<_, Failure>(keeper.keep(GRACE, call, drop).await?.into_inner())
        };
        let asking = async {
            if let Some(kept) = word.kept(&self.audience) {
                match once(kept).await {
                    // authd's key may have changed since.
                    Err(Failure { error: Error::Unauthorized, .. }) => {}
                    answered => return answered,
                }
            }
            once(word.anew(&self.audience).await?).await
        };
        timeout_at(due, asking).await.map_err(|_| Failure::late("the handler"))?
    }

    /// What it says. A fault is no permission; the log hears of it now and then.
    fn said<R, T>(
        &self,
        reply: Result<R, Failure>,
        read: impl FnOnce(R) -> Result<T, Failure>,
    ) -> Result<T, No> {
        let (no, failure) = match reply.map(read) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) if answers::is_answer(&failure) => return Err(No::Refused(failure.error)),
            Ok(Err(failure)) => (No::Refused(Error::Forbidden), failure),
            Err(failure) => (No::of(&failure.error), failure),
        };
        if let Some(unsaid) = self.faults.now() {
            let error = failure.detail.as_str();
            tracing::warn!(
                channel = self.place.channel.as_str(),
                error,
                unsaid,
                "a handler does not do its part"
            );
        }
        Err(no)
    }
}

fn no_place() -> Failure {
    Failure::new(Error::TooMany, "too many questions under way")
}

impl No {
    /// No answer came: a service can refuse in the words of the protocol below, too.
    fn of(error: &Error) -> Self {
        match error {
            Error::TimedOut => Self::Late,
            Error::TooMany => Self::Unsaid(Error::TooMany),
            Error::Unavailable | Error::Fault => Self::Unsaid(Error::Forbidden),
            _ => Self::Refused(Error::Forbidden),
        }
    }
}

/// What the client is told.
impl From<No> for Error {
    fn from(no: No) -> Self {
        match no {
            No::Refused(error) | No::Unsaid(error) => error,
            No::Late => Self::Forbidden,
        }
    }
}

#[cfg(test)]
mod tests;

//! What a session hears and what it says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Timers;
use crate::{
    call::{
        Address, Answer, Answers, Call, Challenge, ChannelAuth, Credentials, Custom, EndReason, Error,
        EventNames, Identity, KeyProof, KeyRequest, Listen, LogsRequest, Payload, Prompts, Purpose, Reply,
        SessionId, SessionsRequest, Token,
    },
    channels::{Decision, HandlerPlace},
    namespace::Subject,
    subsystem::Asked,
};

/// Names a request of this connection.
pub type Ticket = u32;

/// What does not change during a connection.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Durations.
    pub timers: Timers,
    /// The most requests waiting and under way.
    pub in_flight: usize,
    /// A login without a password may be asked of the kernel.
    pub local: bool,
    /// The client showed a certificate in the TLS handshake.
    pub certificate: bool,
    /// Who does not log in is warned before the connection is closed.
    pub warns: bool,
    /// Messages that may be published in a second.
    pub publishes: u32,
}

/// The stream of ended sessions, as it is at the moment of an event: `None` while it is down, else a
/// number that changes whenever it was down in between.
pub type Watch = Option<u64>;

/// A session, as authd told of it.
#[derive(Debug)]
pub struct Known {
    /// Who it is.
    pub identity: Identity,
    /// How the stream of ended sessions stood when authd was asked.
    pub watch: Watch,
    /// When that was.
    pub asked: Instant,
    /// Its last use since then.
    pub used: Option<Instant>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A request came.
    Request {
        /// Its name.
        ticket: Ticket,
        /// The row and the action that it means.
        subject: Option<Subject>,
        /// What it asks.
        call: Call,
    },
    /// Something else was heard from the client: a ping, a pong, a message that is no request.
    Heard,
    /// The login or the answers of [`Action::Login`] have an outcome.
    LoggedIn(Result<Outcome, Error>, Watch),
    /// authd answered [`Action::Check`]. [`Error::Unauthorized`]: there is no such session any more.
    Checked(Result<Identity, Error>, Watch),
    /// authd answered [`Action::Clear`].
    Cleared(Result<(), Error>),
    /// authd answered [`Action::Challenge`].
    Challenged(Result<Challenge, Error>),
    /// [`Action::Retire`] is done, as far as it can be.
    Retired,
    /// Somebody answered [`Action::Settings`], [`Action::Sessions`], [`Action::Listen`] or [`Action::Subsystem`].
    Answered(Ticket, Result<Answer, Error>),
    /// These are the requests that [`Action::Cancel`] means, as far as they have no reply yet.
    Cancel(Ticket, Vec<Ticket>),
    /// The session held here has ended.
    Ended(EndReason),
    /// Events or reports of progress wait, and [`super::Session::takes_events`].
    Published,
    /// What authd was asked for last was not done: the source of this connection is under a penalty, for so
    /// many seconds.
    Penalised(u64),
    /// Time passed.
    Tick,
}

/// How a login went on.
#[derive(Debug)]
pub enum Outcome {
    /// There is a session.
    Granted(Identity),
    /// More is asked.
    Prompts(Prompts),
    /// Refused.
    Denied,
    /// There is no such kind of login.
    NoSuchKind,
}

/// What the table leaves to handlers.
#[derive(Debug)]
pub enum Question {
    /// What of this it may hear; the rest the table has decided.
    Join(Vec<(Address, Decision)>),
    /// Whether it may say this there.
    Publish(Arc<HandlerPlace>, Address, Payload),
    /// What becomes of this message.
    Custom(Arc<HandlerPlace>, Box<Custom>),
}

/// Which subscriptions may be allowed no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// Those to events.
    pub events: bool,
    /// Those to channels.
    pub channels: bool,
}

impl Again {
    /// It is another session, or one with other rights.
    pub const ALL: Self = Self { events: true, channels: true };
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Send the reply to a request.
    Reply(Ticket, Reply),
    /// Forget a request: it gets no reply.
    NoReply(Ticket),
    /// Ask authd to log somebody in; answer with [`Event::LoggedIn`].
    Login(Login),
    /// Record a login that is refused without asking authd, which records all others.
    Refused(Refusal),
    /// Ask authd for a string to be signed; answer with [`Event::Challenged`].
    Challenge,
    /// Have this answered with the session held now; answer with [`Event::Answered`]. Other requests
    /// go on meanwhile.
    Settings(Ticket, KeyRequest),
    /// Have this answered with the session held now; answer with [`Event::Answered`].
    Sessions(Ticket, SessionsRequest),
    /// Have this answered with the session held now; answer with [`Event::Answered`].
    Logs(Ticket, LogsRequest),
    /// Do this for the session held now; answer with [`Event::Answered`].
    Listen(Ticket, Listen, EventNames),
    /// Subscribe to what is said there, where this is true, if what was decided for (a session, or nobody) is held still;
    /// answer with [`Event::Answered`].
    Join(Ticket, Option<SessionId>, Vec<(Address, bool)>),
    /// Ask handlers about this, then do as they say; answer with [`Event::Answered`].
    Ask(Ticket, Box<Question>),
    /// End the subscription there; answer with [`Event::Answered`].
    Part(Ticket, Address),
    /// Say this there; answer with [`Event::Answered`].
    Publish(Ticket, Address, Payload),
    /// Call this with the session held now; answer with [`Event::Answered`].
    Subsystem(Ticket, Box<Asked>),
    /// Drop what [`Action::Subsystem`] began for this request: nobody waits for it any more.
    Stop(Ticket),
    /// Find the requests that had this id, a JSON text; answer with [`Event::Cancel`].
    Cancel(Ticket, String),
    /// End subscriptions that are not allowed any more.
    HearAgain(Again),
    /// Send events that wait.
    Deliver,
    /// Send reports of progress that wait, because they came when the session was not [`super::Session::relied_upon`].
    Report,
    /// Ask authd for the session of this token; answer with [`Event::Checked`].
    Check(Token, Purpose),
    /// Ask authd to end the session of this token; answer with [`Event::Cleared`].
    Clear(Token),
    /// The session held until now was replaced: end it unless another connection holds it; answer with
    /// [`Event::Retired`].
    Retire(Token),
    /// The session was used successfully.
    Used,
    /// Tell the client that nobody has logged in yet.
    TellNoCredentials,
    /// Tell the client how much is left of its session's whole life.
    TellExpiring(Duration),
    /// Tell the client that its session has ended.
    TellEnded(EndReason),
    /// Close the connection normally, giving this reason.
    Close(&'static str),
    /// Close the connection for what the client did (1008), giving this reason.
    SendAway(&'static str),
    /// The same because of a penalty, which lasts for so many seconds.
    Penalty(u64),
}

/// A login, as authd is asked for it.
#[derive(Debug)]
pub enum Login {
    /// By user name and password.
    Password(Credentials),
    /// As the owner of the connection's other end. Empty: whoever that is.
    LocalPeer {
        /// The user that the client says it is.
        username: String,
    },
    /// By a registered key, which answered a challenge of this connection.
    CertificateProof(KeyProof),
    /// By the certificate of the TLS handshake.
    TlsCertificate {
        /// The user that the client says it is.
        username: String,
    },
    /// By a live session's token.
    Token(Token),
    /// By the dialect of channels.
    Channel(ChannelAuth),
    /// Answers to prompts.
    Answers(Answers),
}

/// A login that cannot succeed, whatever authd would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Hopeless,
    /// By which method, as authd names it.
    pub method: &'static str,
    /// Who the client says it is, if it says so.
    pub username: String,
}

/// Why not even authd is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hopeless {
    /// The user name cannot be one, or there is none where one is needed.
    User,
    /// The password cannot be one.
    Password,
    /// There is none, and nothing that could stand in its place.
    NoPassword,
    /// The token cannot be one.
    Token,
    /// The proof cannot be one.
    Proof,
}

impl Hopeless {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::User, Self::Password, Self::NoPassword, Self::Token, Self::Proof];

    /// Its word in audit records; authd's for what authd would refuse for the same cause.
    pub fn code(self) -> &'static str {
        match self {
            Self::User => "malformed-user",
            Self::Password => "malformed-password",
            Self::NoPassword => "no-password",
            Self::Token => "no-such-token",
            Self::Proof => "malformed-proof",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Hopeless;

    #[test]
    fn the_page_of_records_lists_every_refusal_and_no_other() {
        let page = include_str!("../../../docs/audit.md");
        let (_, rest) =
            page.split_once("### Reasons of login_refused in the gateway's file\n").expect("there");
        let section = rest.split("\n#").next().unwrap_or_default();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<BTreeSet<_>>(), Hopeless::ALL.map(Hopeless::code).into());
    }
}

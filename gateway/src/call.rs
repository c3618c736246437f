//! The vocabulary between the client dialects and everything behind them.
//!
//! A dialect turns text into a [`Call`] and a [`Reply`] into text; nothing deeper sees either text.

mod channel;
mod error;
mod event;
mod identity;
mod key;
mod logs;
mod session;
mod subsystem;
mod token;

use std::{fmt, sync::Arc};

use serde_json::value::RawValue;
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) use self::channel::as_word;
pub use self::channel::{
    ActionName, Address, CHANNELS_MAX, ChannelAnswer, ChannelAuth, ChannelCall, ChannelName, Custom,
    Facility, Payload, Pk, Verb,
};
pub use self::error::Error;
pub use self::event::{EVENTS_MAX, EventName, EventNames, Listen};
pub use self::identity::{Identity, Idle, USER, Who};
pub use self::key::{
    AuthSsl, Challenge, ClientCertificate, Key, KeyCertificate, KeyProof, KeyRequest, Registration, ServerKey,
};
pub use self::logs::{Cursor, LogsRequest, Place, RECORDS, Records, Service, When};
pub use self::session::{ListedSession, SessionsRequest};
pub use self::subsystem::{Described, DescribedAction, SubsystemName, SubsystemRequest};
pub use self::token::{Purpose, SCOPES_MAX, TokenAsked, TokenWish};

/// The longest password that is passed on, in bytes.
pub const PASSWORD_MAX: usize = 512;
/// The longest user name that is passed on, in bytes.
pub const USERNAME_MAX: usize = 256;
/// The most answers of one `auth_respond`.
pub const ANSWERS_MAX: usize = 32;

/// What a client asks for.
#[derive(Debug)]
pub enum Call {
    /// Who are you?
    Identify,
    /// What is there for me?
    Query,
    /// A login by password or, without one, as the local peer or by the TLS client certificate.
    Auth(Credentials),
    /// The answers to the prompts of an open conversation.
    AuthRespond(Answers),
    /// Taking up a live session; nothing where the text given cannot be a token.
    AuthToken(Option<Token>),
    /// A login by a registered key.
    AuthSsl(AuthSsl),
    /// The end of the connection's session.
    AuthClear {
        /// The client wants to hear when it is done.
        reply: bool,
    },
    /// Registered keys, seen or changed.
    Settings(KeyRequest),
    /// Sessions, seen or ended.
    Sessions(SessionsRequest),
    /// Audit records.
    Logs(LogsRequest),
    /// Subscriptions to events.
    Listen(Listen, EventNames),
    /// An action of a subsystem.
    Subsystem(Box<SubsystemRequest>),
    /// What there is to call of something; nothing where the text given cannot be a name.
    Describe(Option<SubsystemName>),
    /// The end of calls to subsystems: of those whose requests had this id, a JSON text.
    Cancel(String),
    /// A login by the dialect of channels.
    ChannelAuth(ChannelAuth),
    /// Something about channels.
    Channel(ChannelCall),
    /// There is such a row, but its args are wrong, which only those are told who may call it.
    Malformed(Error),
    /// Nothing here answers this: no such row, or nothing behind it yet.
    Absent,
}

impl Call {
    /// Authentication requests are handled in their order, before any later request.
    pub fn authenticates(&self) -> bool {
        match self {
            Self::Auth(_)
            | Self::AuthRespond(_)
            | Self::AuthToken(_)
            | Self::AuthSsl(_)
            | Self::ChannelAuth(_)
            | Self::AuthClear { .. } => true,
            Self::Identify
            | Self::Query
            | Self::Settings(_)
            | Self::Sessions(_)
            | Self::Logs(_)
            | Self::Listen(..)
            | Self::Subsystem(_)
            | Self::Describe(_)
            | Self::Cancel(_)
            | Self::Channel(_)
            | Self::Malformed(_)
            | Self::Absent => false,
        }
    }

    /// It ends what is under way, or says what there is: it must not wait for what hangs.
    pub fn makes_room(&self) -> bool {
        match self {
            Self::AuthClear { .. } | Self::Query | Self::Cancel(_) => true,
            Self::Auth(_)
            | Self::AuthRespond(_)
            | Self::AuthToken(_)
            | Self::AuthSsl(_)
            | Self::Identify
            | Self::Settings(_)
            | Self::Sessions(_)
            | Self::Logs(_)
            | Self::Listen(..)
            | Self::Subsystem(_)
            | Self::Describe(_)
            | Self::ChannelAuth(_)
            | Self::Channel(_)
            | Self::Malformed(_)
            | Self::Absent => false,
        }
    }
}

/// Text that is wiped when it is dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The args of `rpc/auth`. An absent member and an empty one mean the same.
#[derive(Debug)]
pub struct Credentials {
    /// Empty: whoever the local peer is.
    pub username: String,
    /// Empty: no password, which a local peer may leave out, and who has loaded a certificate.
    pub password: Secret,
}

impl Credentials {
    /// Within the limits that every password and user name has.
    pub fn well_formed(&self) -> bool {
        let password = self.password.expose();
        (self.username.is_empty() || username_is_well_formed(&self.username))
            && password.len() <= PASSWORD_MAX
            && !password.contains('\0')
    }
}

/// The rules of every user name that is not empty.
pub fn username_is_well_formed(name: &str) -> bool {
    name.len() <= USERNAME_MAX
        && !name.starts_with('-')
        && !name.contains(|c: char| c.is_control() || c == '/')
}

/// The args of `rpc/auth_respond`.
#[derive(Debug)]
pub struct Answers {
    /// As authd named it.
    pub conversation: String,
    /// One for each hidden or visible prompt.
    pub answers: Vec<Secret>,
}

/// Where a connection comes from, as authd is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// None on the Unix socket.
    pub address: Option<std::net::IpAddr>,
    /// The uid at the other end, where it is on this host and the kernel said who it is.
    pub uid: Option<u32>,
    /// The client for whom a trusted proxy asks.
    pub forwarded: Option<std::net::IpAddr>,
}

/// A session's token, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    /// A token has the form of a UUID in small letters; any other text is no token, and authd is not asked about it.
    pub fn parse(text: Secret) -> Option<Self> {
        let fits = |(place, byte): (usize, u8)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        let form = text.expose();
        (form.len() == 36 && form.bytes().enumerate().all(fits)).then_some(Self(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// The name of a session; not a key to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub Uuid);

/// The name of a client's connection, made by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub Uuid);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Idle too long.
    Idle,
    /// The end of its whole life.
    Expired,
    /// Ended by a holder of its token.
    Cleared,
    /// Ended by somebody else.
    Revoked,
}

/// What comes back.
#[derive(Debug)]
pub enum Reply {
    /// Done.
    Answer(Answer),
    /// Not done.
    Error(Error),
}

/// The content of a success.
#[derive(Debug)]
pub enum Answer {
    /// Nothing to say: `{}`.
    Done,
    /// To `rpc/identify`.
    Server {
        /// This host's name.
        hostname: Arc<str>,
    },
    /// A login succeeded.
    Granted {
        /// The session's token.
        token: Token,
        /// Its idle time in seconds.
        seconds: u64,
    },
    /// A login asks more.
    Prompts(Prompts),
    /// A string to be signed.
    Challenge(Challenge),
    /// Registered keys.
    Keys(Vec<Key>),
    /// Registered keys of which checksums are wanted.
    Checksums(Vec<Key>),
    /// Sessions.
    Sessions(Vec<ListedSession>),
    /// So many sessions were ended.
    Ended(u32),
    /// Audit records.
    Records(Records),
    /// Subscriptions that there are now, or are no longer.
    Listening(Listen, EventNames),
    /// To `rpc/query`: canonical names of rows, and what this session may do there.
    Rows(Arc<[(Arc<str>, Right)]>),
    /// To `rpc/describe`.
    Described(Box<Described>),
    /// To `rpc/cancel`: so many calls were ended.
    Cancelled(usize),
    /// About channels.
    Channel(ChannelAnswer),
    /// What a subsystem said.
    Result(Box<RawValue>),
}

/// What a row lets a session do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

impl Right {
    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        self == Self::Write
    }
}

/// Questions of an open conversation.
#[derive(Debug)]
pub struct Prompts {
    /// Its name, to be given back with the answers.
    pub conversation: String,
    /// In the order in which PAM said them.
    pub prompts: Vec<Prompt>,
}

/// One question or text.
#[derive(Debug)]
pub struct Prompt {
    /// How to show it, and whether it asks.
    pub style: Style,
    /// For people.
    pub text: String,
}

/// How a prompt is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Asks; the answer is not shown.
    Hidden,
    /// Asks; the answer is shown.
    Visible,
    /// Tells.
    Info,
    /// Tells of a problem.
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(username: &str, password: &str, expected: bool) {
        let credentials = Credentials { username: username.into(), password: Secret::new(password.into()) };
        assert_eq!(credentials.well_formed(), expected, "{username:?}");
    }

    #[test]
    fn credentials_have_limits() {
        check("alice", "secret", true);
        check("", "", true);
        check(&"a".repeat(255), "x", true);
        check(&"a".repeat(256), "x", true);
        check(&"a".repeat(257), "x", false);
        check("a", &"x".repeat(511), true);
        check("a", &"x".repeat(512), true);
        check("a", &"x".repeat(513), false);
        check("a", "x\0", false);
        check("-a", "x", false);
        check("a-", "x", true);
        check("a/b", "x", false);
        check("a\n", "x", false);
        check("a\u{85}", "x", false);
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = Token::parse(Secret::new("0af6c1a8-9c4d-4f0a-9a53-0123456789ab".into()));
        assert!(!format!("{token:?}").contains("0af6"));
        let call = Call::Auth(Credentials { username: "u".into(), password: Secret::new("hunter2".into()) });
        assert!(!format!("{call:?}").contains("hunter2"));
    }

    #[test]
    fn only_the_form_of_a_uuid_is_a_token() {
        let parse = |text: &str| Token::parse(Secret::new(text.into())).is_some();
        assert!(parse("0af6c1a8-9c4d-4f0a-9a53-0123456789ab"));
        assert!(!parse(""));
        assert!(!parse("0af6c1a8-9c4d-4f0a-9a53-0123456789a"));
        assert!(!parse("0af6c1a8-9c4d-4f0a-9a53-0123456789abc"));
        assert!(!parse("0af6c1a8-9c4d-4f0a-9a53-0123456789a\n"));
    }
}

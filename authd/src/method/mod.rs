//! The ways to log in: one file, one line of the table and one [`Claim`] each (CONTRIBUTING.md says where else).
//!
//! A method says what a login begins with and which accounts it lets in; the course of a login is the
//! same for all of them.

mod certificate_challenge;
mod jwt;
mod local_peer;
mod model;
mod password;
mod tls_certificate;
mod token;
mod wish;

use std::fmt;

pub use self::wish::{TokenRules, Wish};
use crate::{
    account::{Account, Username},
    certd::Proof,
    secret::{Credentials, Jwt, Malformed, Password, Token},
    session::Dialect,
};

/// Every method. A claim that no line takes cannot be made.
pub const METHODS: &[Method] = &[
    password::METHOD,
    local_peer::METHOD,
    token::METHOD,
    certificate_challenge::METHOD,
    tls_certificate::METHOD,
    jwt::METHOD,
    model::METHOD,
];

/// One way to log in.
#[derive(Debug)]
pub struct Method {
    /// Its name, in sessions and in the log.
    pub name: &'static str,
    /// What penalties mean to it.
    pub tries: Tries,
    /// What the login begins with, if this is the method for such a claim.
    begin: fn(Claim) -> Result<Result<Opening, Cause>, Claim>,
    /// Whether an account may come in this way, now.
    pub admits: fn(&Account, &Policy) -> Result<(), Cause>,
}

/// What a login of a method is to the penalties of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Could be a guess: refused under a penalty, and counted when it is refused. With `account` the account
    /// is slowed, too.
    Guess {
        /// Whether what is guessed is the account's own.
        account: bool,
    },
    /// Is none, but opens something new: refused under a penalty, never counted.
    Certain,
    /// Is none and opens nothing new: made in any case, never counted.
    Free,
}

/// What somebody presents, unchecked.
#[derive(Debug)]
pub enum Claim {
    /// A name and a password.
    Password {
        /// The name as typed.
        username: String,
        /// The password as typed; an error if it cannot be one.
        password: Result<Password, Malformed>,
    },
    /// What the kernel said about the far end of the connection.
    LocalPeer {
        /// Stands for it.
        handle: Vec<u8>,
        /// Whom they say to be; empty: whoever the kernel says.
        username: String,
        /// What the gateway says of the TLS handshake, for where the kernel's word does not do.
        loaded: Option<Proof>,
    },
    /// An answer to the connection's challenge.
    CertificateChallenge {
        /// Whom they say to be; empty: the owner of the key.
        username: String,
        /// The answer.
        proof: Proof,
    },
    /// What the gateway says of the TLS handshake.
    TlsCertificate {
        /// Whom they say to be.
        username: String,
        /// The key that was proven there.
        proof: Proof,
    },
    /// A token.
    Token(Result<Token, Malformed>),
    /// An issuer's token.
    Jwt(Result<Jwt, Malformed>),
    /// Credentials for a plug-in authenticator.
    Model {
        /// Which.
        kind: String,
        /// Them.
        credentials: Result<Credentials, Malformed>,
    },
}

impl Claim {
    /// Whom they say to be, as they say it, cut to what a user name may be: for the log.
    pub fn username(&self) -> String {
        match self {
            Self::Password { username, .. }
            | Self::LocalPeer { username, .. }
            | Self::CertificateChallenge { username, .. }
            | Self::TlsCertificate { username, .. } => username.chars().take(256).collect(),
            Self::Model { kind, .. } => kind.chars().take(64).chain(['/']).collect(),
            Self::Token(_) | Self::Jwt(_) => String::new(),
        }
    }
}

/// What a login begins with.
#[derive(Debug)]
pub enum Opening {
    /// A PAM conversation about this user.
    Converse {
        /// Whom they say to be.
        user: Username,
        /// Answers the first hidden prompt.
        password: Password,
    },
    /// Finding out what the kernel said.
    Identify {
        /// Stands for it.
        handle: Vec<u8>,
        /// Whom they say to be.
        user: Option<Username>,
        /// In its place, where it is another user or one who may not come in by it.
        otherwise: Option<Otherwise>,
    },
    /// Asking certd whose key it is.
    Prove {
        /// What is shown of it.
        proof: Proof,
        /// Whom they say to be.
        user: Option<Username>,
    },
    /// Taking up a live session.
    TakeUp(Token),
    /// Finding out whom an issuer speaks for.
    Verify(Jwt),
    /// Asking a plug-in authenticator.
    Ask {
        /// Which.
        kind: String,
        /// Whose are these?
        credentials: Credentials,
    },
}

/// Another way in, for a login whose first one did not do.
#[derive(Debug)]
pub struct Otherwise {
    /// The method.
    pub method: &'static Method,
    /// What is shown of the key.
    pub proof: Proof,
}

impl Opening {
    fn prove(proof: Proof, user: Option<Username>) -> Result<Self, Cause> {
        if proof.fits() { Ok(Self::Prove { proof, user }) } else { Err(Cause::MalformedProof) }
    }
}

/// What decides, beside the account itself.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// What the client speaks: who may log in depends on it, and whether anybody can be asked anything.
    pub dialect: Dialect,
    /// Whether anybody may log in without a password.
    pub local_login: bool,
    /// The lowest uid of a person.
    pub uid_min: u32,
    /// The uids of authd and of the gateway.
    pub own_uids: Vec<u32>,
}

/// Why a login was refused. For the log alone: outside, all causes look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The user name cannot be one.
    MalformedUser,
    /// The password cannot be one.
    MalformedPassword,
    /// No such user, whatever PAM says.
    UnknownUser,
    /// In no access group.
    NoAccessGroup,
    /// PAM refused.
    PamDenied,
    /// The password is expired and was not changed.
    PasswordExpired,
    /// PAM's user name is not the requested one.
    UserChanged,
    /// A module or PAM itself failed.
    PamFault,
    /// The worker ended without a verdict.
    WorkerDied,
    /// The worker and authd did not understand each other.
    Protocol,
    /// The handle stands for nothing.
    NoSuchHandle,
    /// Local login is switched off.
    LocalLoginOff,
    /// The kernel says somebody else.
    OtherUser,
    /// root never logs in by the kernel's word, a TLS client certificate, a JWT or a token.
    Root,
    /// A uid below those of people.
    SystemUid,
    /// A uid that root gave to another user as well: the kernel's word is not about one person.
    SubordinateUid,
    /// The uid of authd or of the gateway.
    OwnUid,
    /// The shell is not one of /etc/shells.
    Shell,
    /// The token opens nothing.
    NoSuchToken,
    /// The signature, key or certificate cannot be one.
    MalformedProof,
    /// certd says that no registered key was proven, or none of this user's.
    NotProven,
    /// Members of full-access groups may not log in this way.
    FullAccess,
    /// The user's name is another account's now: not that of the key, or not the one that logged in.
    OtherAccount,
    /// The key was revoked while the login was under way.
    KeyRevoked,
    /// There is no certd.
    NoCertd,
    /// Its source is under a penalty; it was not tried.
    Penalty,
    /// No back end of the token API has that name.
    NoSuchBackend,
    /// PAM asks more than the password, and nobody can be asked.
    AskedMore,
    /// The credentials are right, and the wished life of the token is none or too long.
    InvalidExpiration,
    /// The text is no JWT, or too long, or has a header that is not understood.
    MalformedJwt,
    /// No issuer of the configuration, or no key of it, can have signed the JWT.
    NoSuchIssuer,
    /// The signature is not the issuer's.
    ForgedJwt,
    /// The JWT is over, has no end, or is not valid yet.
    JwtTime,
    /// The JWT is for somebody else, or for something else, or names nobody.
    JwtClaims,
    /// No plug-in authenticator knows that kind of identity.
    NoSuchKind,
    /// What is to be passed on to a plug-in authenticator is no JSON object, or too long.
    MalformedCredentials,
    /// The plug-in authenticator refused.
    AuthenticatorDenied,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 37] = [
        Self::MalformedUser,
        Self::MalformedPassword,
        Self::UnknownUser,
        Self::NoAccessGroup,
        Self::PamDenied,
        Self::PasswordExpired,
        Self::UserChanged,
        Self::PamFault,
        Self::WorkerDied,
        Self::Protocol,
        Self::NoSuchHandle,
        Self::LocalLoginOff,
        Self::OtherUser,
        Self::Root,
        Self::SystemUid,
        Self::SubordinateUid,
        Self::OwnUid,
        Self::Shell,
        Self::NoSuchToken,
        Self::MalformedProof,
        Self::NotProven,
        Self::FullAccess,
        Self::OtherAccount,
        Self::KeyRevoked,
        Self::NoCertd,
        Self::Penalty,
        Self::NoSuchBackend,
        Self::AskedMore,
        Self::InvalidExpiration,
        Self::MalformedJwt,
        Self::NoSuchIssuer,
        Self::ForgedJwt,
        Self::JwtTime,
        Self::JwtClaims,
        Self::NoSuchKind,
        Self::MalformedCredentials,
        Self::AuthenticatorDenied,
    ];

    /// Its word in audit records and in the log. Stable: programs look for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::MalformedUser => "malformed-user",
            Self::MalformedPassword => "malformed-password",
            Self::UnknownUser => "unknown-user",
            Self::NoAccessGroup => "no-access-group",
            Self::PamDenied => "pam-denied",
            Self::PasswordExpired => "password-expired",
            Self::UserChanged => "user-changed",
            Self::PamFault => "pam-fault",
            Self::WorkerDied => "worker-died",
            Self::Protocol => "protocol",
            Self::NoSuchHandle => "no-such-handle",
            Self::LocalLoginOff => "local-login-off",
            Self::OtherUser => "other-user",
            Self::Root => "root",
            Self::SystemUid => "system-uid",
            Self::SubordinateUid => "subordinate-uid",
            Self::OwnUid => "own-uid",
            Self::Shell => "shell",
            Self::NoSuchToken => "no-such-token",
            Self::MalformedProof => "malformed-proof",
            Self::NotProven => "not-proven",
            Self::FullAccess => "full-access",
            Self::OtherAccount => "other-account",
            Self::KeyRevoked => "key-revoked",
            Self::NoCertd => "no-certd",
            Self::Penalty => "penalty",
            Self::NoSuchBackend => "no-such-backend",
            Self::AskedMore => "asked-more",
            Self::InvalidExpiration => "invalid-expiration",
            Self::MalformedJwt => "malformed-jwt",
            Self::NoSuchIssuer => "no-such-issuer",
            Self::ForgedJwt => "forged-jwt",
            Self::JwtTime => "jwt-time",
            Self::JwtClaims => "jwt-claims",
            Self::NoSuchKind => "no-such-kind",
            Self::MalformedCredentials => "malformed-credentials",
            Self::AuthenticatorDenied => "authenticator-denied",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The method for a claim, and what the login begins with.
pub fn begin(mut claim: Claim) -> Option<(&'static Method, Result<Opening, Cause>)> {
    for method in METHODS {
        match (method.begin)(claim) {
            Ok(opening) => return Some((method, opening)),
            Err(not_mine) => claim = not_mine,
        }
    }
    None
}

/// People with access and a shell come in without a password, and nobody else.
fn person(account: &Account, policy: &Policy) -> Result<(), Cause> {
    let uid = account.uid.as_u32();
    if account.uid.is_root() {
        return Err(Cause::Root);
    }
    if policy.own_uids.contains(&uid) {
        return Err(Cause::OwnUid);
    }
    if uid < policy.uid_min {
        return Err(Cause::SystemUid);
    }
    if !account.shell_listed {
        return Err(Cause::Shell);
    }
    in_an_access_group(account)
}

/// Who is in no access group stays out.
fn in_an_access_group(account: &Account) -> Result<(), Cause> {
    account.access.map(|_| ()).ok_or(Cause::NoAccessGroup)
}

/// Whom somebody says to be; empty: nobody in particular.
fn hint(username: String) -> Result<Option<Username>, Cause> {
    if username.is_empty() {
        return Ok(None);
    }
    Username::parse(username).map(Some).ok_or(Cause::MalformedUser)
}

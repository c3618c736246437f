//! authd over its sockets in a temporary directory, with a fake guard and a fake user database.

mod access;
mod audit;
mod bench;
mod channels;
mod events;
mod examples;
mod fakes {
    //! What stands in for the world around authd.

    use doorward_authd::account::{Directory, Group, User};

    pub(crate) mod authenticator;
    pub(crate) mod certd;
    pub(crate) mod directory;
    pub(crate) mod pam;
}
#[path = "../../../launch/tests/raw/mod.rs"]
mod http2;
mod jwt;
mod keys;
mod logins;
mod logs;
mod others;
mod peers;
mod penalties;
mod plugins;
mod raw;
mod refusals;
mod sessions;
mod subsystems;
mod tokens;

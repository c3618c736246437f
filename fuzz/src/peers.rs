//! What other processes and the kernel send, and what root writes.

use std::str;

use doorward_proto::{authd, authenticator, certd, channel, pam, subsystem};
use prost::Message;
use serde::de::DeserializeOwned;

pub(crate) const MESSAGES: &[&[u8]] = &[
    b"\x0a\x05alice\x12\x06secret",
    b"\x0a\x24 0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11\x1a\x0b\x0a\x09127.0.0.1\x20\x01\x32\x0e\x0a\x05alice\x12\x05wrong",
    b"\x08\x01\x12\x02\x08\x01\x1a\x00\xf8\xff\xff\xff\x0f\x7f",
];

/// Every message that crosses a process boundary, as the other end might write it. What is read is read again.
pub(crate) fn messages(input: &[u8]) -> bool {
    [
        read::<pam::v1::ToWorker>(input),
        read::<pam::v1::FromWorker>(input),
        read::<authd::v1::BeginRequest>(input),
        read::<authd::v1::Outcome>(input),
        read::<authd::v1::PeerQuery>(input),
        read::<authd::v1::PeerAnswer>(input),
        read::<authd::v1::ActivityReport>(input),
        read::<authd::v1::SessionEntry>(input),
        read::<certd::v1::RegisterRequest>(input),
        read::<certd::v1::VerifyRequest>(input),
        read::<certd::v1::RevokedEvent>(input),
        read::<subsystem::v1::Description>(input),
        read::<subsystem::v1::CallRequest>(input),
        read::<subsystem::v1::CallPart>(input),
        read::<channel::v1::MessageReply>(input),
        read::<authenticator::v1::AuthenticateReply>(input),
    ]
    .contains(&true)
}

fn read<M: Message + Default>(input: &[u8]) -> bool {
    let Ok(message) = M::decode(input) else { return false };
    M::decode(&*message.encode_to_vec()).expect("what was written");
    true
}

pub(crate) const NETLINK: &[&[u8]] = &[
    // An answer about a Unix socket with its file, and one about TCP, both cut from what a kernel said.
    b"\x2c\0\0\0\x14\0\0\0\x01\0\0\0\0\0\0\0\x01\x01\x01\0\x07\0\0\0\x02\0\0\0\x01\0\0\0\x0c\0\x01\0\x09\0\0\0\x08\0\0\0",
    b"\x58\0\0\0\x14\0\0\0\x01\0\0\0\0\0\0\0\x02\x01\0\0\x9c\x40\x2f\x76\x7f\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\x7f\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xe8\x03\0\0\x0b\0\0\0",
    b"\x14\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\xfe\xff\xff\xff",
];

/// The kernel's answer about a socket.
pub(crate) fn netlink(input: &[u8]) -> bool {
    doorward_peercred::read_any_answer(input)
}

pub(crate) const REDIS: &[&[u8]] = &[
    b"+OK\r\n:7\r\n-ERR no\r\n$-1\r\n$5\r\nhello\r\n",
    b"*3\r\n$7\r\nmessage\r\n$9\r\nws:news:1\r\n$2\r\n{}\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    b"$100\r\n",
];

/// What Redis answers, in pieces: however it is cut, it is the same.
pub(crate) fn redis(input: &[u8]) -> bool {
    let whole = doorward_gateway::redis::frames(&[input]);
    let middle = input.len() / 2;
    let (first, second) = input.split_at_checked(middle).unwrap_or_default();
    let halves = doorward_gateway::redis::frames(&[first, second]);
    assert_eq!(whole, halves);
    whole.is_ok_and(|frames| frames > 0)
}

pub(crate) const CONFIGS: &[&[u8]] = &[
    include_bytes!("../../packaging/etc/gateway.toml"),
    include_bytes!("../../packaging/etc/authd.toml"),
    include_bytes!("../../packaging/etc/certd.toml"),
    b"[listen]\ntls = [\"127.0.0.1:0\"]\n[limits]\nin_flight = 32\n[redis]\nurl = \"rediss://192.0.2.7:6379\"\n",
    b"[[jwt]]\nkind = \"user\"\nalgorithm = \"EdDSA\"\nkey_file = \"/k\"\nacl_max = [\"ws.#\"]\n[penalty]\nfailures = 3\n",
];

/// The configuration of each service: what root writes by mistake.
pub(crate) fn config(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let gateway =
        parsed::<doorward_gateway::config::Config>(text).is_some_and(|config| config.check().is_ok());
    let authd = parsed::<doorward_authd::config::Config>(text).is_some_and(|config| config.check().is_ok());
    let certd = parsed::<doorward_certd::config::Config>(text).is_some_and(|config| config.check().is_ok());
    gateway || authd || certd
}

fn parsed<C: DeserializeOwned>(text: &str) -> Option<C> {
    toml::from_str(text).ok()
}

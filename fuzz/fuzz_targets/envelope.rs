//! A message as a client sends it. Whatever it is, it is decoded to a request or an error reply, and the
//! reply is JSON.
#![no_main]

use doorward_gateway::{call::Reply, dialect::sysadm};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let decoded = sysadm::decode(text, 32);
    if let Err(error) = decoded.request {
        let reply = sysadm::encode(&decoded.echo, &Reply::Error(error));
        assert!(std::str::from_utf8(&reply).is_ok_and(|reply| reply.starts_with('{') && reply.ends_with('}')));
    }
});

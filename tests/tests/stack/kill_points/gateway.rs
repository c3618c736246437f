//! The gateway, killed.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use doorward_tests::{Program, Received, Role};
use nix::sys::signal::Signal;
use serde_json::json;

use super::authd::hang;
use crate::bed::{ANSWERED, Bed, answers};
use crate::support::bytes_until_closed;

pub(super) async fn starting(bed: &mut Bed) {
    bed.stack.kill(Program::Gateway);
    let bound = bed.anew("run/gateway.sock");
    bed.stack.kill_in_start(Program::Gateway, "socket", bound);
    bed.again(Program::Gateway).await;
}

pub(super) async fn full(bed: &mut Bed) {
    let (first, token) = bed.enter(Role::Limited).await;
    let mut held = vec![first];
    for _ in 1..20 {
        let mut client = bed.stranger().await;
        client.ask("rpc/auth_token", json!({"token": token})).await.expect("taken up");
        held.push(client);
    }
    let (door, address) = (bed.stack.path("run/gateway.sock"), bed.stack.tls_address().to_owned());
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for number in 0..40 {
        let half = [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET / HTTP/1.1\r\nHost: local", b""][number % 3];
        // Those beyond the bound of one source are closed already.
        if number % 2 == 0 {
            let mut stream = TcpStream::connect(&address).expect("a connection");
            let _ = stream.write_all(half);
            sockets.push(stream.into());
        } else {
            let mut stream = UnixStream::connect(&door).expect("a connection");
            let _ = stream.write_all(half);
            sockets.push(stream.into());
        }
    }
    bed.stack.kill(Program::Gateway);
    for client in &mut held {
        assert_eq!(client.receive().await, Received::Closed(None));
    }
    for socket in sockets {
        bytes_until_closed(&socket).expect("closed");
    }
    bed.again(Program::Gateway).await;
}

pub(super) async fn replying(bed: &mut Bed) {
    let (mut client, _) = bed.enter(Role::Limited).await;
    let mut open = BTreeSet::new();
    for _ in 0..24 {
        open.insert(client.request("rpc/query", json!({})).await);
    }
    let first = client.json().await;
    assert!(open.remove(first["id"].as_str().expect("an id")), "{first}");
    bed.stack.kill(Program::Gateway);
    // The client itself refuses what is no whole JSON.
    answers(&mut client, open).await;
    bed.again(Program::Gateway).await;
}

pub(super) async fn asking(bed: &mut Bed) {
    let mut client = hang(bed).await;
    let mut other = bed.stranger().await;
    other.login_prompts(bed.stack.person(Role::Code)).await;
    bed.stack.kill(Program::Gateway);
    for client in [&mut client, &mut other] {
        assert_eq!(client.receive().await, Received::Closed(None));
    }
    // authd sees that nobody waits any more; the guard ends what is left.
    bed.stack.await_no_conversations(ANSWERED);
    bed.again(Program::Gateway).await;
}

pub(super) async fn stopping(bed: &mut Bed) {
    let (mut idle, _) = bed.enter(Role::Limited).await;
    let mut waiting = hang(bed).await;
    bed.stack.signal(Program::Gateway, Signal::SIGTERM);
    assert_eq!(idle.receive().await, Received::Closed(Some(1001)));
    bed.stack.kill(Program::Gateway);
    while let Received::Json(reply) = waiting.receive().await {
        assert_eq!(reply["name"], "error", "{reply}");
    }
    bed.stack.await_no_conversations(ANSWERED);
    bed.again(Program::Gateway).await;
}

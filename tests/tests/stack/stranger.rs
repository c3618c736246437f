//! Any uid but the one that a socket is for gets not one byte from it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use doorward_tests::door::{Kind, connect_as};
use doorward_tests::{Client, Options, Pam, Role, Stack};
use rustix::net::SendFlags;

use crate::support::{bytes_until_closed, inner_sockets, stranger};

/// How HTTP/2 begins, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_no_byte_under_libpam_wrapper() {
    a_stranger_gets_no_byte(Pam::Wrapper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_no_byte_from_the_installed_services() {
    a_stranger_gets_no_byte(Pam::Real).await;
}

async fn a_stranger_gets_no_byte(pam: Pam) {
    let Some(mut stack) = Stack::start(&Options::new(pam)) else { return };
    let Some(uid) = stranger(&stack) else { return };
    for (kind, path) in inner_sockets(&stack) {
        // First the file's mode stands in the way.
        let error = connect_as(uid, kind, &path).expect_err("a stranger cannot even connect").to_string();
        assert!(error.contains("Permission denied"), "{}: {error}", path.display());
        let mode = fs::metadata(&path).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{} is open to all: {mode:o}", path.display());
        // Without it, the service still asks the kernel who it is.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod of the socket");
        let socket = connect_as(uid, kind, &path).expect("the mode lets everybody in now");
        assert_eq!(bytes_until_closed(&socket).expect("closed"), 0, "{}", path.display());
        // And nothing of a preface makes it talk.
        if kind == Kind::Stream {
            let socket = connect_as(uid, kind, &path).expect("the mode lets everybody in now");
            // It may have hung up already.
            let _ = rustix::net::send(&socket, PREFACE, SendFlags::NOSIGNAL);
            assert_eq!(bytes_until_closed(&socket).expect("closed"), 0, "{}", path.display());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o777)).expect("chmod of the socket");
    }
    assert!(
        stack.conversations().is_empty(),
        "a stranger started a conversation: {:?}",
        stack.conversations()
    );
    let mut client = Client::unix_as(&stack, uid).await;
    client.login(stack.person(Role::Full)).await.expect("those who may still can");
    client.close().await;
    assert!(stack.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_service_has_a_way_to_a_socket_of_anothers() {
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let [login, peer, guard, registry, proofs] = inner_sockets(&stack);
    let (gateway, authd, certd) = (stack.gateway_uid(), stack.authd_uid(), stack.certd_uid());
    let closed = [
        // The gateway starts no conversation with PAM, and asks for no verdict on a proof.
        (gateway, vec![&guard, &proofs]),
        (authd, vec![&registry]),
        (certd, vec![&login, &peer, &guard]),
    ];
    for (uid, sockets) in closed {
        for (kind, path) in sockets {
            let mode = fs::metadata(path).expect("the socket").permissions().mode();
            assert!(connect_as(uid, *kind, path).is_err(), "{uid} can connect to {}", path.display());
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("chmod of the socket");
            let socket = connect_as(uid, *kind, path).expect("the mode lets everybody in now");
            assert_eq!(bytes_until_closed(&socket).expect("closed"), 0, "{uid}: {}", path.display());
            fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777)).expect("chmod of the socket");
        }
    }
}

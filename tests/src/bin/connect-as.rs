//! Connects to a socket under its own uid and hands the connection over on its stdin.
//!
//! `connect-as stream|seqpacket|listen PATH COUNT`, `connect-as tcp|tcp-listen|tcp-hidden=SOURCE ADDRESS:PORT COUNT`
//! (hidden: bound to the device `lo`, so that the kernel finds nobody at that end). The kernel fixes who a peer is when it connects, or calls
//! listen(), so a test can go on with the descriptor as if it were that user.

use std::io::{IoSlice, stdin};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, connect, listen, sendmsg, socket_with,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("connect-as {arguments:?}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [kind, path, count] = arguments else {
        return Err("usage: connect-as stream|seqpacket|listen PATH COUNT".into());
    };
    for _ in 0..count.parse()? {
        make(kind, path)?;
    }
    Ok(())
}

fn make(kind: &str, path: &str) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(kind) = kind.strip_prefix("tcp") {
        let address: SocketAddr = path.parse()?;
        if let Some(source) = kind.strip_prefix("-hidden=") {
            return give(connect_hidden(source.parse()?, address)?.as_fd());
        }
        return match kind {
            "" => give(std::net::TcpStream::connect(address)?.as_fd()),
            _ => give(std::net::TcpListener::bind(address)?.as_fd()),
        };
    }
    let (kind, listens) = match kind {
        "stream" => (SocketType::STREAM, false),
        "seqpacket" => (SocketType::SEQPACKET, false),
        "listen" => (SocketType::STREAM, true),
        _ => return Err("stream, seqpacket or listen".into()),
    };
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(path)?;
    if listens {
        bind(&socket, &address)?;
        listen(&socket, 4)?;
    } else {
        connect(&socket, &address)?;
    }
    give(socket.as_fd())
}

fn connect_hidden(source: Ipv4Addr, to: SocketAddr) -> Result<OwnedFd, Box<dyn std::error::Error>> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    setsockopt(&socket, BindToDevice, &"lo".into())?;
    bind(&socket, &SocketAddr::from((source, 0)))?;
    connect(&socket, &to)?;
    Ok(socket)
}

fn give(descriptor: BorrowedFd<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err("no room for a descriptor".into());
    }
    sendmsg(stdin(), &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(())
}

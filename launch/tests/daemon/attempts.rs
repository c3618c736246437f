//! What somebody who runs code in a daemon would try.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;

/// One attempt, `verb object`; `ok`, or the number of the error.
pub(crate) fn attempt(what: &str) -> String {
    let (verb, object) = what.split_once(' ').unwrap_or((what, ""));
    let done = match verb {
        "read" => File::open(object).map(drop),
        "list" => std::fs::read_dir(object).map(drop),
        "write" => OpenOptions::new().write(true).create(true).truncate(false).open(object).map(drop),
        "remove" => std::fs::remove_file(object),
        "connect" => TcpStream::connect(object).map(drop),
        "bind" => TcpListener::bind(object).map(drop),
        "udp" => UdpSocket::bind(object).map(drop),
        "unix" => UnixStream::connect(object).map(drop),
        "abstract" => SocketAddr::from_abstract_name(object)
            .and_then(|address| UnixStream::connect_addr(&address))
            .map(drop),
        "netlink" => socket(AddressFamily::NETLINK),
        // Relatives of TCP, and what else the families have: a number each for family, kind and protocol.
        "socket" => any_socket(object),
        "packet" => socket(AddressFamily::PACKET),
        "signal" => rustix::process::test_kill_process(pid(object)).map_err(Into::into),
        "execute" => execute(object),
        _ => panic!("no such attempt: {what}"),
    };
    match done {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), |number| number.to_string()),
    }
}

fn socket(family: AddressFamily) -> io::Result<()> {
    rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    Ok(())
}

fn any_socket(numbers: &str) -> io::Result<()> {
    let numbers: Vec<u32> = numbers.split(' ').map(|text| text.parse().expect("a number")).collect();
    let [family, kind, protocol] = numbers[..] else { panic!("three numbers") };
    let family = AddressFamily::from_raw(family.try_into().expect("a family"));
    let protocol = std::num::NonZeroU32::new(protocol).map(rustix::net::Protocol::from_raw);
    rustix::net::socket_with(family, SocketType::from_raw(kind), SocketFlags::CLOEXEC, protocol)?;
    Ok(())
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a number")).expect("a pid")
}

fn execute(program: &str) -> io::Result<()> {
    let null = || Stdio::from(OpenOptions::new().read(true).write(true).open("/dev/null").expect("there"));
    let mut child = Command::new(program).stdin(null()).stdout(null()).stderr(null()).spawn()?;
    child.wait()?;
    Ok(())
}

//! Bytes that mean nothing, names that want to be log lines: nothing stops, everything is answered.

use std::time::Duration;

use doorward_proto::authd::v1::{BeginRequest, Dialect, Password, Source, begin_request::Method};
use doorward_tests::door::{Kind, connect_as};
use doorward_tests::grpc::{Authd, exchange};
use doorward_tests::{Client, Options, Pam, Program, Received, Role, Stack, logs, skip};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::inner_sockets;

/// A small generator whose seed is in the message of a test that fails.
pub(crate) struct Noise(u64);

impl Noise {
    /// One of several in a test.
    pub(crate) fn of(number: u64) -> Self {
        let mut noise = Self::new();
        noise.0 = noise.0.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        noise
    }

    fn new() -> Self {
        let seed = std::env::var("DOORWARD_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::from(since.expect("after 1970").subsec_nanos()) | 1
        });
        println!("DOORWARD_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64)).expect("below a usize")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most) + 1).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    /// A request with some of its bytes changed, left out or doubled.
    fn broken_request(&mut self) -> String {
        self.broken(r#"{"namespace":"rpc","name":"identify","id":"x","args":{"a":[1,2.5e3,null,"\u00e9"]}}"#)
    }

    /// The same of any request that asks PAM nothing.
    pub(crate) fn mutated(&mut self) -> String {
        let whole = [
            r#"{"namespace":"rpc","name":"identify","id":"x","args":{"a":[1,2.5e3,null,"\u00e9"]}}"#,
            r#"{"namespace":"rpc","name":"query","id":{"a":[[],{}]},"args":""}"#,
            r#"{"namespace":"rpc","name":"auth","id":"x","args":{"username":"../x","password":"y"}}"#,
            r#"{"namespace":"rpc","name":"auth_token","id":7,"args":{"token":"0f9d5f2c-1b7e-4c55-9a0e-2a6a4f0c9b11"}}"#,
            r#"{"namespace":"rpc","name":"auth_respond","id":"x","args":{"conversation":"c","answers":["a"]}}"#,
            r#"{"namespace":"rpc","name":"auth_ssl","id":"x","args":{"encrypted_string":"YWJj","username":"u"}}"#,
            r#"{"namespace":"rpc","name":"settings","id":"x","args":{"action":"list_ssl_certs"}}"#,
            r#"{"namespace":"rpc","name":"settings","id":"x","args":{"action":"revoke_ssl_cert","pub_key":"YWJj"}}"#,
            r#"{"namespace":"rpc","name":"sessions","id":"x","args":{"action":"end","session":"x"}}"#,
            r#"{"namespace":"events","name":"subscribe","id":"x","args":["auth","other"]}"#,
        ];
        let whole = whole[self.below(whole.len())];
        self.broken(whole)
    }

    fn broken(&mut self, whole: &str) -> String {
        let mut bytes = whole.as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] = self.next().to_be_bytes()[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn rounds() -> usize {
    if skip::long() { 20_000 } else { 300 }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_message_is_answered() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut noise = Noise::new();
    let mut client = Client::unix(&stack).await;
    for round in 0..rounds() {
        let text = match round % 3 {
            0 => noise.broken_request(),
            1 => String::from_utf8_lossy(&noise.bytes(400)).into_owned(),
            _ => {
                ["[", "{\"a\":", "[[{", "\"", "{\"namespace\":"][noise.below(5)].repeat(noise.below(900) + 1)
            }
        };
        let sent = if round % 2 == 0 {
            client.try_send(&text).await
        } else {
            client.try_send_binary(&noise.bytes(300)).await
        };
        let answered = sent.is_ok() && matches!(client.receive().await, Received::Json(_));
        if !answered {
            // Closed is an answer too, as long as the next connection is served.
            client = Client::unix(&stack).await;
        }
    }
    still_serves(&mut stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_protocol_stop_nothing() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut noise = Noise::new();
    for round in 0..rounds() / 3 {
        let mut bytes = noise.bytes(2000);
        if round % 2 == 0 {
            // As far as the head of a TLS record, or a request line.
            let start: &[u8] = if round % 4 == 0 { &[22, 3, 1, 2, 0, 1] } else { b"GET / HTTP/1.1\r\n" };
            bytes.splice(..0, start.iter().copied());
        }
        let mut tcp = tokio::net::TcpStream::connect(stack.tls_address()).await.expect("the port is open");
        drop(tcp.write_all(&bytes).await);
        drain(&mut tcp).await;
        let mut unix = tokio::net::UnixStream::connect(stack.path("run/gateway.sock")).await.expect("open");
        drop(unix.write_all(&bytes).await);
        drain(&mut unix).await;
    }
    still_serves(&mut stack).await;
}

/// Shuts down its side and reads until the other one is closed.
async fn drain(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    drop(stream.shutdown().await);
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    drop(tokio::time::timeout(doorward_tests::client::PATIENCE, read).await.expect("closed in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_from_those_who_may_connect_stops_nothing() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut noise = Noise::new();
    let [(_, authd), (_, peer), (_, guard), (_, registry), (_, proofs)] = inner_sockets(&stack);
    for round in 0..rounds() / 6 {
        let mut bytes = noise.bytes(2000);
        if round % 2 == 0 {
            bytes.splice(..0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied());
        }
        let peers =
            [(stack.gateway_uid(), &authd), (stack.gateway_uid(), &registry), (stack.authd_uid(), &proofs)];
        for (uid, path) in peers {
            let socket = connect_as(uid, Kind::Stream, path).expect("the service may connect");
            let stream = std::os::unix::net::UnixStream::from(socket);
            stream.set_nonblocking(true).expect("a socket");
            let mut stream = tokio::net::UnixStream::from_std(stream).expect("a socket");
            drop(stream.write_all(&bytes).await);
            drain(&mut stream).await;
        }
        for (uid, path) in [(stack.gateway_uid(), &peer), (stack.authd_uid(), &guard)] {
            let socket = connect_as(uid, Kind::Packets, path).expect("the service may connect");
            let answer = exchange(&socket, &noise.bytes(5000), &[]).expect("answered or closed in time");
            drop(answer);
        }
    }
    stack.await_no_conversations(Duration::from_secs(20));
    still_serves(&mut stack).await;
}

async fn still_serves(stack: &mut Stack) {
    assert!(stack.runs(), "a service ended");
    let mut client = Client::tls(stack).await;
    client.login(stack.person(Role::Full)).await.expect("a login after the noise");
    assert!(client.logged_in().await);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_log_line_whatever_it_holds() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let mut authd = Authd::as_gateway(&stack).await;
    let password = doorward_tests::secrets::register("not the password").to_owned();
    for (number, name) in [
        "eve\nline",
        "eve\r\n2026-11-23T10:11:12.123Z info doorward-authd: login granted user=root",
        "eve\0nul",
        "eve\u{1b}[2Jescape",
        "eve\u{2028}separator\u{202e}turned",
        "eve \"quoted\" user=root",
        "ev\u{e9}",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        // A name of the connection that finds the line again.
        let connection = format!("7a0b1f04-6b1c-4c54-9d5e-{number:012x}");
        let method = Method::Password(Password { username: name.to_owned(), password: password.clone() });
        let request = BeginRequest {
            connection: connection.clone(),
            source: Some(Source {
                address: "192.0.2.1\nx".to_owned(),
                local_uid: None,
                forwarded: String::new(),
            }),
            dialect: Dialect::Sysadm.into(),
            wish: None,
            method: Some(method),
        };
        drop(authd.login.begin(request).await);
        stack.await_log(Program::Authd, &[&connection]);
        let log = stack.log(Program::Authd);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&connection)).collect();
        assert_eq!(lines.len(), 1, "{name:?}: {lines:?}");
        assert_eq!(logs::complaints("doorward-authd", &format!("{}\n", lines[0])), Vec::<String>::new());
    }
    // The same through the gateway, which may answer by itself: no line is broken there either, which
    // the stack checks of every log when it is dropped.
    let mut client = Client::tls(&stack).await;
    for name in ["eve\nline", "eve\0nul", "eve\u{1b}[2J", "eve\" user=\"root", "ev\u{e9}"] {
        assert_eq!(client.ask("rpc/auth", json!({"username": name, "password": password})).await, Err(401));
        client.request(&format!("rp{name}c/iden{name}tify"), json!({})).await;
        client.json().await;
    }
    client.close().await;
}

//! Every limit: one less, exactly, one more.

use doorward_proto::authd::v1::EndReason;
use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{Client, Gateway, auth, code, until, until_async};

/// A request of exactly this many bytes.
fn padded(name: &str, length: usize) -> String {
    let (head, tail) = (format!(r#"{{"namespace":"rpc","name":"{name}","args":""#), r#""}"#);
    let pad = "x".repeat(length - head.len() - tail.len());
    format!("{head}{pad}{tail}")
}

async fn too_large(mut client: Client, what: &str) {
    let reply = client.reply().await;
    assert_eq!(reply["args"], serde_json::json!({"code": 413, "message": "Payload Too Large"}), "{what}");
    assert_eq!(client.closed().await.0, 1009, "{what}");
}

#[tokio::test]
async fn messages_are_small_before_login() {
    let gateway = Gateway::start().await;
    for mut client in [gateway.unix().await, gateway.tls().await] {
        for length in [8191, 8192] {
            assert_eq!(client.call(padded("identify", length)).await["args"]["type"], "server");
        }
        client.send(padded("identify", 8193)).await;
        too_large(client, "8193").await;
    }
}

#[tokio::test]
async fn messages_are_larger_after_login() {
    let gateway = Gateway::start().await;
    for mut client in [gateway.unix().await, gateway.tls().await] {
        client.log_in("alice", "wonderland").await;
        for length in [131_071, 131_072] {
            assert_eq!(client.call(padded("query", length)).await["name"], "response");
        }
        client.send(padded("query", 131_073)).await;
        too_large(client, "131073").await;
    }
}

#[tokio::test]
async fn who_logs_out_is_held_to_the_small_limit_again() {
    let gateway = Gateway::start().await;
    let (mut client, _) = gateway.alice().await;
    assert_eq!(client.code("rpc", "auth_clear", r#"{"reply":true}"#).await, 0);
    client.send(padded("identify", 8193)).await;
    too_large(client, "after logout").await;
}

#[tokio::test]
async fn who_logs_out_takes_a_place_of_those_who_are_not_logged_in_again() {
    let gateway = Gateway::start_with(|config| config.limits.per_source = 2).await;
    let mut clients = Vec::new();
    // One after the other: who is logged in takes no place.
    for _ in 0..4 {
        clients.push(gateway.alice().await);
    }
    for (client, _) in &mut clients[..3] {
        assert_eq!(
            client.code("rpc", "auth_clear", r#"{"reply":true}"#).await,
            0,
            "it is answered in any case"
        );
    }
    let full = (1008, "too many are not logged in".to_owned());
    assert_eq!(clients[2].0.closed().await, full);
    // A session that goes idle first is no other thing, once its holder says so.
    let (last, token) = &mut clients[3];
    gateway.authd.end(token, EndReason::Idle);
    until_async(async || last.query().await == 401).await;
    last.log_in("alice", "wonderland").await;
    assert_eq!(last.code("rpc", "auth_clear", r#"{"reply":true}"#).await, 0);
    assert_eq!(last.closed().await, full);
    // Those who found room go on, and give it back with their next login.
    clients.truncate(2);
    for (client, _) in &mut clients {
        assert_eq!(client.code("rpc", "identify", "{}").await, 0);
        client.log_in("alice", "wonderland").await;
    }
    let _newcomers = [gateway.unix().await, gateway.unix().await];
}

#[tokio::test]
async fn whose_sessions_went_idle_keep_nobody_of_their_source_out() {
    let gateway = Gateway::start_with(|config| {
        config.limits.per_source = 2;
        config.limits.connections_before_login = 8;
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let (mut client, token) = gateway.alice().await;
        gateway.authd.end(&token, EndReason::Idle);
        until_async(async || client.query().await == 401).await;
        idle.push(client);
    }
    // All of the source's places are free still, and whoever is back takes none with the login.
    let newcomers = [gateway.unix().await, gateway.unix().await];
    assert!(websocket(&gateway).await.is_none());
    for client in &mut idle {
        assert_eq!(client.code("rpc", "identify", "{}").await, 0);
        client.log_in("alice", "wonderland").await;
    }
    drop(newcomers);
}

#[tokio::test]
async fn fragments_count_together() {
    let gateway = Gateway::start().await;
    for (last, fits) in [(4096, true), (4097, false)] {
        let mut client = gateway.unix().await;
        let text = padded("identify", 4096 + last);
        let frame = |part: &str, code, end| {
            Message::Frame(Frame::message(part.as_bytes().to_vec(), OpCode::Data(code), end))
        };
        client.0.send(frame(&text[..4096], Data::Text, false)).await.expect("sent");
        client.0.send(frame(&text[4096..], Data::Continue, true)).await.expect("sent");
        if fits {
            assert_eq!(client.reply().await["args"]["type"], "server");
        } else {
            too_large(client, "fragments").await;
        }
    }
}

#[tokio::test]
async fn a_header_that_promises_too_much_is_enough() {
    use tokio::io::AsyncWriteExt;
    let gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    // A text frame, masked, of 2^62 bytes, of which none come.
    let header = [0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    client.0.get_mut().write_all(&header).await.expect("sent");
    too_large(client, "a promise").await;
}

#[tokio::test]
async fn nesting_has_a_limit() {
    let gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    for (depth, expected) in [(30, 0), (31, 0), (32, 400), (4_000, 400)] {
        let args = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text = format!(r#"{{"namespace":"rpc","name":"identify","args":{args}}}"#);
        assert_eq!(crate::support::code(&client.call(text).await), expected, "{depth}");
    }
}

#[tokio::test]
async fn credentials_over_their_limits_are_not_passed_on() {
    let gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    for (username, password, asked) in [
        ("u".repeat(255), "p".into(), true),
        ("u".repeat(256), "p".into(), true),
        ("u".repeat(257), "p".into(), false),
        ("u".into(), "p".repeat(511), true),
        ("u".into(), "p".repeat(512), true),
        ("u".into(), "p".repeat(513), false),
        ("u/".into(), "p".into(), false),
        ("-u".into(), "p".into(), false),
        ("u\n".into(), "p".into(), false),
        ("u".into(), "p\0".into(), false),
    ] {
        let before = gateway.authd.received("begin").len();
        let args = serde_json::json!({"username": username, "password": password}).to_string();
        assert_eq!(client.code("rpc", "auth", &args).await, 401);
        assert_eq!(gateway.authd.received("begin").len() - before, usize::from(asked), "{username:?}");
    }
}

async fn websocket(gateway: &Gateway) -> Option<Client> {
    let stream = tokio::net::UnixStream::connect(&gateway.unix).await.expect("connect");
    Client::over(Box::new(stream), "ws://localhost/").await.ok()
}

#[tokio::test]
async fn one_source_has_its_share_of_newcomers() {
    let gateway = Gateway::start_with(|config| config.limits.per_source = 3).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(websocket(&gateway).await.expect("room"));
    }
    assert!(websocket(&gateway).await.is_none());
    // On loopback the user is the source, whatever the address.
    assert!(gateway.tls_stream_with(&[&rustls::version::TLS13]).await.is_err());
    inside[0].log_in("alice", "wonderland").await;
    let mut next = websocket(&gateway).await.expect("who is logged in is no newcomer");
    assert!(websocket(&gateway).await.is_none());
    assert_eq!(next.code("rpc", "identify", "{}").await, 0);
    drop(inside.pop());
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while websocket(&gateway).await.is_none() {
        assert!(std::time::Instant::now() < deadline, "a place that was given back is free");
    }
}

#[tokio::test]
async fn there_are_so_many_newcomers_in_all() {
    let gateway = Gateway::start_with(|config| config.limits.connections_before_login = 2).await;
    let _first = websocket(&gateway).await.expect("room");
    // An unfinished handshake counts.
    let _second = tokio::net::TcpStream::connect(gateway.tls).await.expect("connect");
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while websocket(&gateway).await.is_some() {
        assert!(std::time::Instant::now() < deadline, "the third is refused");
    }
    assert!(gateway.tls_stream_with(&[&rustls::version::TLS13]).await.is_err());
}

#[tokio::test]
async fn root_is_not_counted() {
    let own = doorward_launch::Identity::current().uid;
    let gateway = Gateway::start_with(|config| {
        config.limits.connections_before_login = 1;
        config.exempt = Some(own);
    })
    .await;
    let first = websocket(&gateway).await.expect("room");
    let second = websocket(&gateway).await.expect("room");
    let third = gateway.tls().await;
    drop((first, second, third));
}

#[tokio::test]
async fn there_are_so_many_connections_in_all() {
    let gateway = Gateway::start_with(|config| config.limits.connections = 2).await;
    let (first, _) = gateway.alice().await;
    let (_second, _) = gateway.alice().await;
    assert!(websocket(&gateway).await.is_none());
    drop(first);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while websocket(&gateway).await.is_none() {
        assert!(std::time::Instant::now() < deadline, "a place that was given back is free");
    }
    until(|| Some(())).await;
}

#[tokio::test]
async fn one_source_has_its_share_of_all_connections() {
    let gateway = Gateway::start_with(|config| config.limits.connections_per_source = Some(2)).await;
    let (_first, _) = gateway.alice().await;
    let (_second, _) = gateway.alice().await;
    assert!(websocket(&gateway).await.is_none());
    assert!(gateway.tls_stream_with(&[&rustls::version::TLS13]).await.is_err());
}

#[tokio::test]
async fn root_finds_room_when_others_have_taken_theirs() {
    let own = doorward_launch::Identity::current().uid;
    for (exempt, room) in [(None, false), (Some(own), true)] {
        let gateway = Gateway::start_with(|config| {
            // One of four is root's.
            config.limits.connections = 4;
            config.exempt = exempt;
        })
        .await;
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(gateway.tls().await);
        }
        assert!(gateway.tls_stream_with(&[&rustls::version::TLS13]).await.is_err());
        assert_eq!(websocket(&gateway).await.is_some(), room);
    }
}

#[tokio::test]
async fn one_source_has_its_share_of_logins() {
    let gateway = Gateway::start().await;
    let mut waiting = Vec::new();
    for count in 1..=8 {
        let mut client = gateway.unix().await;
        client.send(auth("slow", "x")).await;
        gateway.authd.received_at_least("begin", count).await;
        waiting.push(client);
    }
    // On loopback it is the same user, whatever the connection.
    for mut client in [gateway.unix().await, gateway.tls().await] {
        assert_eq!(code(&client.call(auth("alice", "wonderland")).await), 429);
        assert_eq!(client.code("rpc", "auth_ssl", r#"{"action":"request"}"#).await, 429);
    }
    // Who has gone is counted until authd has answered.
    waiting.truncate(4);
    gateway.authd.received_at_least("abandon", 4).await;
    assert_eq!(code(&gateway.unix().await.call(auth("alice", "wonderland")).await), 429);
    gateway.authd.let_go();
    for mut client in waiting {
        assert_eq!(client.reply().await["args"][1], 300);
    }
    gateway.authd.received_at_least("end", 4).await;
    gateway.unix().await.log_in("alice", "wonderland").await;
}

#[tokio::test]
async fn random_frames_end_a_connection_and_nothing_else() {
    use tokio::io::AsyncWriteExt;
    let gateway = Gateway::start().await;
    let (mut witness, _) = gateway.alice().await;
    for round in 0..200_u32 {
        let mut client = gateway.unix().await;
        let mut noise = [0; 64];
        getrandom::fill(&mut noise).expect("random bytes");
        // Some rounds look like a frame at first.
        if round % 2 == 0 {
            noise[..2].copy_from_slice(&[0x81, 0x80 | 58]);
        }
        // The gateway may have closed already.
        let _ = client.0.get_mut().write_all(&noise).await;
        drop(client);
    }
    assert_eq!(witness.query().await, 0);
}

//! Order, overtaking, and one connection not waiting for another.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{Client, Gateway, PATIENCE, auth, code, until_async};

fn request(name: &str, id: usize) -> String {
    format!(r#"{{"namespace":"rpc","name":"{name}","id":{id}}}"#)
}

#[tokio::test]
async fn pipelined_requests_see_the_login_before_them() {
    let gateway = Gateway::start().await;
    for mut client in [gateway.unix().await, gateway.tls().await] {
        client.send(request("query", 1)).await;
        client.send(auth("alice", "wonderland")).await;
        client.send(request("query", 2)).await;
        client.send(r#"{"namespace":"rpc","name":"auth_clear","id":"none"}"#).await;
        client.send(request("query", 3)).await;
        client.send(auth("alice", "wrong")).await;
        client.send(auth("alice", "wonderland")).await;
        client.send(request("query", 4)).await;
        let mut replies = Vec::new();
        for _ in 0..7 {
            let reply = client.reply().await;
            replies.push((reply["id"].clone(), code(&reply)));
        }
        let expected = [
            (1.into(), 401),
            ("auth".into(), 0),
            (2.into(), 0),
            (3.into(), 401),
            ("auth".into(), 401),
            ("auth".into(), 0),
            (4.into(), 0),
        ];
        assert_eq!(replies, expected);
    }
}

#[tokio::test]
async fn a_slow_login_stops_nobody_else() {
    let gateway = Gateway::start().await;
    let mut slow = gateway.unix().await;
    slow.send(auth("slow", "x")).await;
    slow.send(request("query", 1)).await;
    gateway.authd.received_at_least("begin", 1).await;
    for mut client in [gateway.unix().await, gateway.tls().await] {
        client.log_in("alice", "wonderland").await;
        assert_eq!(client.query().await, 0);
    }
    gateway.authd.let_go();
    assert_eq!(slow.reply().await["id"], "auth");
    assert_eq!(code(&slow.reply().await), 0);
}

#[tokio::test]
async fn so_many_requests_are_in_flight_and_no_more() {
    let gateway = Gateway::start().await;
    let mut client = gateway.unix().await;
    client.send(auth("slow", "x")).await;
    gateway.authd.received_at_least("begin", 1).await;
    for id in 1..=32 {
        client.send(request("query", id)).await;
    }
    let refused = client.reply().await;
    assert_eq!((&refused["id"], code(&refused)), (&32.into(), 429), "31 wait behind the login, no more");
    gateway.authd.let_go();
    assert_eq!(client.reply().await["id"], "auth");
    for id in 1..=31 {
        let reply = client.reply().await;
        assert_eq!((&reply["id"], code(&reply)), (&id.into(), 0));
    }
    assert_eq!(client.query().await, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_nothing_when_it_does() {
    let gateway = Gateway::start().await;
    let (client, _) = gateway.alice().await;
    // Each reply repeats its id: far more than the socket's buffers hold.
    let id = "i".repeat(100_000);
    let text = format!(r#"{{"namespace":"rpc","name":"query","id":"{id}"}}"#);
    let (mut write, mut read) = futures_util::StreamExt::split(client.0);
    let writer = tokio::spawn(async move {
        for _ in 0..64 {
            futures_util::SinkExt::send(
                &mut write,
                tokio_tungstenite::tungstenite::Message::text(text.clone()),
            )
            .await
            .expect("sent");
        }
    });
    for _ in 0..64 {
        let message = futures_util::StreamExt::next(&mut read).await.expect("a reply").expect("a reply");
        assert!(message.len() > 100_000);
    }
    writer.await.expect("all sent");
}

#[tokio::test]
async fn who_pings_and_does_not_read_is_sent_away_early() {
    use tokio::io::AsyncWriteExt;
    let gateway = Gateway::start_with(|config| config.timers.write_seconds = 1).await;
    let urls = [(gateway.unix_stream().await, "ws://localhost/".to_owned())];
    let over_tls = (gateway.tls_stream().await, format!("ws://{}/", gateway.tls));
    for (stream, url) in urls.into_iter().chain([over_tls]) {
        let mut client = Client::over(stream, &url).await.expect("a WebSocket");
        // The longest ping, with a mask of zeros.
        let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[0; 125][..]].concat();
        let pings = ping.repeat(100);
        let mut sent = 0;
        let pinging = async {
            while client.0.get_mut().write_all(&pings).await.is_ok() {
                sent += pings.len();
            }
        };
        tokio::time::timeout(PATIENCE, pinging).await.expect("the connection is closed");
        // What the sockets of this host buffer, both ways, and little more.
        assert!(sent < 16 << 20, "{sent}");
    }
}

#[tokio::test]
async fn who_hangs_up_ends_nobody_elses_login() {
    let gateway = Gateway::start().await;
    let mut slow = gateway.unix().await;
    slow.send(auth("slow", "x")).await;
    gateway.authd.received_at_least("begin", 1).await;
    for count in 1..=7 {
        let mut leaving = gateway.unix().await;
        leaving.send(auth("slow", "x")).await;
        gateway.authd.received_at_least("begin", 1 + count).await;
        drop(leaving);
        gateway.authd.received_at_least("abandon", count).await;
    }
    assert!(gateway.authd.received("dropped").is_empty(), "a call was dropped");
    gateway.authd.let_go();
    assert_eq!(slow.reply().await["args"][1], 300);
    // Nobody was told of the sessions of those who had gone.
    gateway.authd.received_at_least("end", 7).await;
    assert_eq!(gateway.authd.received("answered").len(), 8);
    assert_eq!(slow.query().await, 0);
}

/// A text frame with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u64::try_from(text.len()).expect("short").to_be_bytes();
    [&[0x81, 0x80 | 127][..], &length, &[0; 4], text.as_bytes()].concat()
}

/// Whether a token is good, by the token API.
async fn status_of(gateway: &Gateway, token: &str) -> String {
    let mut stream = gateway.unix_stream().await;
    let head = format!("HEAD /0.1/token/{token} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer").expect("read");
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[tokio::test]
async fn whoever_does_not_read_has_nobody_else_wait_for_back_ends() {
    let gateway = Gateway::start().await;
    let mut other = gateway.unix().await;
    let token = other.log_in("dora", "explorer").await;
    gateway.authd.set_acl(&token, &["sysadm.rpc.sessions.#"]);
    gateway.authd.hold_lists(true);
    let list = r#"{"namespace":"rpc","name":"sessions","id":1,"args":{"action":"list"}}"#;
    // Each is answered at once, and its reply repeats the id.
    let long = format!(r#"{{"namespace":"rpc","name":"identify","id":"{}"}}"#, "i".repeat(100_000));
    let mut slow = Vec::new();
    for _ in 0..3 {
        let (mut client, _) = gateway.alice().await;
        client.0.get_mut().write_all(&frame(list).repeat(31)).await.expect("sent");
        gateway.authd.received_at_least("list", 16).await;
        client.fill_with(&frame(&long)).await;
        slow.push(client);
    }
    // While authd works on his lists, which are more than a user's share.
    assert_eq!(status_of(&gateway, &token).await, "204");
    // And when it has answered them, but he has not read that.
    gateway.authd.hold_lists(false);
    let mut again = gateway.unix().await;
    let take = json!({"namespace": "rpc", "name": "auth_token", "args": {"token": token}}).to_string();
    assert_eq!(code(&again.call(take).await), 0);
    for _ in 0..3 {
        assert_eq!(code(&again.call(list).await), 0);
    }
    // Not even his own other connections wait, but for long lists.
    let (mut own, _) = gateway.alice().await;
    let end = r#"{"action":"end","session":"00000000-0000-4000-8000-000000000000"}"#;
    assert_eq!(own.code("rpc", "sessions", end).await, 404);
    let unknown = again.log_in("dora", "explorer").await;
    assert_eq!(status_of(&gateway, &unknown).await, "204");
    drop(slow);
}

/// As many logins as one source may have under way, of clients that read nothing after this.
async fn who_do_not_read(gateway: &Gateway, login: &str) -> Vec<Client> {
    let slow = (0..8).map(|_| async {
        let mut client = gateway.unix().await;
        client.send(login).await;
        client.stops_reading().await;
        client
    });
    futures_util::future::join_all(slow).await
}

#[tokio::test]
async fn whoever_does_not_read_holds_no_place_for_logins() {
    let gateway = Gateway::start().await;
    let slow = who_do_not_read(&gateway, &auth("slow", "x")).await;
    gateway.authd.received_at_least("begin", 8).await;
    assert_eq!(code(&gateway.unix().await.call(auth("alice", "secret")).await), 429);
    gateway.authd.let_go();
    gateway.authd.received_at_least("answered", 8).await;
    // The last of their places is free a moment after authd has answered.
    let mut other = gateway.unix().await;
    until_async(async || code(&other.call(auth("dora", "explorer")).await) == 0).await;
    // Whose session he has not heard of when he leaves, it ends.
    drop(slow);
    gateway.authd.received_at_least("end", 8).await;
}

#[tokio::test]
async fn whoever_does_not_read_holds_no_place_for_logins_when_it_is_known_whose_the_connection_is() {
    let gateway = Gateway::start().await;
    gateway.authd.hold_peers(true);
    let slow = who_do_not_read(&gateway, &auth("", "")).await;
    assert_eq!(code(&gateway.unix().await.call(auth("dora", "explorer")).await), 429);
    gateway.authd.hold_peers(false);
    gateway.authd.received_at_least("peer", 8).await;
    let mut other = gateway.unix().await;
    until_async(async || code(&other.call(auth("dora", "explorer")).await) == 0).await;
    drop(slow);
}

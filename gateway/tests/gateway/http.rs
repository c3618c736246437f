//! Plain HTTP, and requests that are refused before they are looked at.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite;

use crate::support::{Client, Gateway, Io, PATIENCE, until_async};

/// Sends a head and reads until a response with its body is complete.
async fn exchange(stream: &mut Io, head: &str) -> String {
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut read = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                })
                .map_or(0, |length| length.parse::<usize>().expect("a length"));
            if body.len() >= length {
                return text.into_owned();
            }
        }
        assert!(Instant::now() < deadline, "no response: {text}");
        let mut part = [0; 1024];
        let length = timeout(PATIENCE, stream.read(&mut part)).await.expect("a response").expect("read");
        assert!(length > 0, "closed after: {text}");
        read.extend_from_slice(&part[..length]);
    }
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn status(response: &str) -> &str {
    &response[9..12]
}

#[tokio::test]
async fn plain_requests_find_nothing_and_keep_the_connection() {
    let gateway = Gateway::start().await;
    for mut stream in [gateway.unix_stream().await, gateway.tls_stream().await] {
        for _ in 0..3 {
            let response = exchange(&mut stream, &get("/nothing", "")).await;
            assert_eq!(status(&response), "404");
            assert!(
                response.to_ascii_lowercase().contains("content-type: application/json\r\n"),
                "{response}"
            );
            assert!(response.ends_with(r#"{"args":{"code":404,"message":"Not Found"}}"#), "{response}");
        }
        assert_eq!(status(&exchange(&mut stream, &get("/", UPGRADE)).await), "101");
    }
}

#[tokio::test]
async fn the_answer_to_an_upgrade_is_that_of_the_standard() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.unix_stream().await;
    let headers =
        format!("{UPGRADE}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
    let response = exchange(&mut stream, &get("/any/path?x", &headers)).await.to_ascii_lowercase();
    assert_eq!(status(&response), "101");
    assert!(response.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{response}");
    assert!(!response.contains("sec-websocket-protocol") && !response.contains("sec-websocket-extensions"));
}

#[tokio::test]
async fn a_frame_may_come_with_the_upgrade() {
    let gateway = Gateway::start().await;
    for mut stream in [gateway.unix_stream().await, gateway.tls_stream().await] {
        let text = br#"{"namespace":"rpc","name":"identify"}"#;
        let mut both = get("/", UPGRADE).into_bytes();
        both.extend_from_slice(&[0x81, 0x80 | u8::try_from(text.len()).expect("short"), 0, 0, 0, 0]);
        both.extend_from_slice(text);
        stream.write_all(&both).await.expect("sent");
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(r#""type":"server""#) {
            let mut part = [0; 512];
            let length = timeout(PATIENCE, stream.read(&mut part)).await.expect("an answer").expect("read");
            assert!(length > 0, "closed after {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&part[..length]);
        }
    }
}

#[tokio::test]
async fn what_is_no_proper_upgrade_is_refused() {
    let gateway = Gateway::start().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let basic = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (request, expected) in [
        (get("/ws/x", UPGRADE), "101"),
        (get("/", &format!("{basic}Sec-WebSocket-Version: 12\r\n{key}")), "426"),
        (get("/", &format!("{basic}{key}")), "426"),
        (get("/", &format!("{basic}Sec-WebSocket-Version: 13\r\n")), "400"),
        (get("/", &format!("{basic}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n")), "400"),
        (get("/", &format!("{basic}Sec-WebSocket-Version: 13\r\n{key}{key}")), "400"),
        (get("/", &format!("{UPGRADE}Content-Length: 1\r\n")), "400"),
        (get("/", &format!("{UPGRADE}Transfer-Encoding: chunked\r\n")), "400"),
        (get("/", UPGRADE).replace("GET", "POST"), "400"),
        (get("/", "Upgrade: websocket\r\n"), "404"),
        (get("/", "Connection: Upgrade\r\nUpgrade: h2c\r\n"), "404"),
    ] {
        let mut stream = gateway.unix_stream().await;
        assert_eq!(status(&exchange(&mut stream, &request).await), expected, "{request}");
    }
}

#[tokio::test]
async fn foreign_pages_are_refused_before_anything_else() {
    let gateway = Gateway::start_with(|config| {
        config.http.origins = vec!["https://console.example".to_owned()];
        config.http.hosts = vec!["box.example".to_owned()];
    })
    .await;
    for (url, headers, expected) in [
        ("ws://localhost/", vec![("Origin", "https://evil.example")], Some(403)),
        ("ws://localhost/", vec![("Origin", "null")], Some(403)),
        ("ws://localhost/", vec![("Origin", "sysadm-client"), ("Sec-Fetch-Site", "cross-site")], Some(403)),
        ("ws://localhost/", vec![("Origin", "sysadm-client"), ("Origin", "sysadm-client")], Some(403)),
        ("ws://evil.example/", vec![], Some(403)),
        ("ws://evil.example/ws/x", vec![], Some(403)),
        ("ws://box.example/", vec![], None),
        ("ws://localhost/", vec![("Origin", "https://console.example")], None),
        ("ws://localhost/", vec![("Origin", "sysadm-client")], None),
    ] {
        for stream in [gateway.unix_stream().await, gateway.tls_stream().await] {
            let found = match Client::with_headers(stream, url, &headers).await {
                Ok(_) => None,
                Err(tungstenite::Error::Http(response)) => Some(response.status().as_u16()),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "{url} {headers:?}");
        }
    }
}

#[tokio::test]
async fn heads_have_a_limit() {
    let gateway = Gateway::start().await;
    let head = |length: usize| {
        let empty = get("/", "X: \r\n").len();
        get("/", &format!("X: {}\r\n", "x".repeat(length - empty)))
    };
    assert_eq!(status(&exchange(&mut gateway.unix_stream().await, &head(8_000)).await), "404");
    assert_eq!(status(&exchange(&mut gateway.unix_stream().await, &head(8_300)).await), "431");
}

#[tokio::test]
async fn who_is_refused_is_not_kept() {
    let gateway = Gateway::start().await;
    for request in [get("/", &format!("{UPGRADE}Origin: null\r\n")), get("/", "Origin: null\r\n")] {
        for mut stream in [gateway.unix_stream().await, gateway.tls_stream().await] {
            assert_eq!(status(&exchange(&mut stream, &request).await), "403");
            closes(stream).await;
        }
    }
}

#[tokio::test]
async fn a_body_is_not_waited_for() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.unix_stream().await;
    let request = get("/rpc/query", "Content-Length: 1000000000\r\n").replace("GET", "POST");
    assert_eq!(status(&exchange(&mut stream, &request).await), "401");
    closes(stream).await;
}

/// Reads until the server closes.
async fn closes(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut part = [0; 512];
    loop {
        match timeout(PATIENCE, stream.read(&mut part)).await.expect("it closes") {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn who_says_nothing_or_half_of_it_is_closed() {
    let gateway = Gateway::start_with(|config| {
        config.timers.handshake_seconds = 3;
        config.timers.keep_alive_seconds = 3;
    })
    .await;
    let tcp = tokio::net::TcpStream::connect(gateway.tls).await.expect("connect");
    let mut half = gateway.unix_stream().await;
    half.write_all(b"GET / HT").await.expect("sent");
    let mut kept = gateway.unix_stream().await;
    exchange(&mut kept, &get("/", "")).await;
    let (silent, tls) = (gateway.unix_stream().await, gateway.tls_stream().await);
    tokio::join!(closes(tcp), closes(silent), closes(half), closes(tls), closes(kept));
}

#[tokio::test]
async fn plain_connections_have_a_limit_of_their_own() {
    let gateway = Gateway::start_with(|config| {
        // A source has a sixteenth.
        config.limits.plain_http = 32;
        config.limits.connections_before_login = 1;
    })
    .await;
    let mut first = gateway.unix_stream().await;
    assert_eq!(status(&exchange(&mut first, &get("/", "")).await), "404");
    let mut second = gateway.unix_stream().await;
    assert_eq!(status(&exchange(&mut second, &get("/", "")).await), "404");
    let mut third = gateway.unix_stream().await;
    assert_eq!(status(&exchange(&mut third, &get("/", "")).await), "429");
    closes(third).await;
    let newcomer = gateway.unix().await;
    assert_eq!(
        status(&exchange(&mut second, &get("/", UPGRADE)).await),
        "429",
        "no room for another newcomer"
    );
    drop(newcomer);
    assert_eq!(status(&exchange(&mut first, &get("/", "")).await), "404");
}

#[tokio::test]
async fn whoever_goes_on_sending_what_is_not_wanted_is_counted_until_the_end_of_it() {
    let gateway = Gateway::start_with(|config| config.limits.plain_http = 32).await;
    let request = get("/rpc/query", "Content-Length: 1000000000\r\n").replace("GET", "POST");
    let mut sending = Vec::new();
    for _ in 0..2 {
        let mut stream = gateway.unix_stream().await;
        assert_eq!(status(&exchange(&mut stream, &request).await), "401");
        sending.push(stream);
    }
    let another = async || {
        let mut stream = gateway.unix_stream().await;
        status(&exchange(&mut stream, &get("/", "")).await).to_owned()
    };
    assert_eq!(another().await, "429", "a source has two");
    sending.clear();
    until_async(async || another().await == "404").await;
}

#[tokio::test]
async fn whoever_asks_without_end_and_does_not_read_is_answered_a_little_and_no_more() {
    let gateway = Gateway::start().await;
    let plain = tokio::net::TcpStream::connect(gateway.token_plain).await.expect("connect");
    for (mut stream, what) in [
        (gateway.unix_stream().await, "OPTIONS /a/b"),
        (gateway.tls_stream().await, "OPTIONS /a/b"),
        (Box::new(plain) as Io, "HEAD /0.1/status"),
    ] {
        let one =
            format!("{what} HTTP/1.1\r\nHost: localhost\r\nExpect:100-continue\r\nContent-Length:1\r\n\r\nx");
        let many = one.repeat(1_000);
        let mut sent = 0;
        while sent < 16 << 20 {
            match timeout(std::time::Duration::from_secs(1), stream.write_all(many.as_bytes())).await {
                Ok(Ok(())) => sent += many.len(),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        assert!(sent < 16 << 20, "{what}: all was taken");
        // It may be cut off, because not all that was sent was read.
        let mut answers = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answers)).await.expect("an end");
        let answers = String::from_utf8(answers).expect("text").to_ascii_lowercase();
        let whole = answers.is_empty() || answers.ends_with("\r\n\r\n");
        assert!(whole && answers.matches("http/1.1 200").count() <= 1, "{answers}");
        assert_eq!(answers.contains("connection: close\r\n"), !answers.is_empty(), "{answers}");
    }
}

#[tokio::test]
async fn a_body_that_was_asked_for_and_read_leaves_the_connection() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.unix_stream().await;
    let body = r#"{"args":{}}"#;
    let headers = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len());
    let head = get("/rpc/identify", &headers).replacen("GET", "POST", 1);
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut proceed = [0; 25];
        timeout(PATIENCE, stream.read_exact(&mut proceed)).await.expect("an answer").expect("read");
        assert_eq!(&proceed, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(status(&exchange(&mut stream, body).await), "200");
    }
}

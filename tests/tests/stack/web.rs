//! What a browser, or anybody with HTTP alone, gets at the door.

use doorward_tests::client::{PATIENCE, raw_tls};
use doorward_tests::{Options, Pam, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Sends a request and reads until the end; the status and the whole answer.
async fn http(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> (u16, String) {
    let exchange = async {
        stream.write_all(request.as_bytes()).await.expect("the request is read");
        let mut answer = Vec::new();
        // A TLS connection that ends without its close message is an end as well.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(PATIENCE, exchange).await.expect("an answer in time");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no HTTP answer: {answer:?}")), answer)
}

async fn over_tls(stack: &Stack, request: &str) -> (u16, String) {
    let mut stream = raw_tls(stack, rustls::ALL_VERSIONS, None).await.expect("TLS");
    http(&mut stream, request).await
}

async fn over_unix(stack: &Stack, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(stack.path("run/gateway.sock")).await.expect("the socket");
    http(&mut stream, request).await
}

fn plain(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")
}

fn upgrade(headers: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\n{headers}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn http_without_an_upgrade_finds_nothing_where_there_is_no_row() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    for path in ["/", "/rpc", "/ws/channel/x", "/../etc/passwd", "/?token=x"] {
        for (status, answer) in [
            over_tls(&stack, &plain(path, "Host: localhost\r\n")).await,
            over_unix(&stack, &plain(path, "Host: localhost\r\n")).await,
        ] {
            assert_eq!(status, 404, "{path}: {answer}");
            assert!(answer.contains(r#""code":404"#), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("content-type: application/json"), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_and_other_names_are_refused() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let port = stack.tls_address().rsplit(':').next().expect("a port").to_owned();
    for headers in [
        "Host: localhost\r\nOrigin: https://evil.example\r\n".to_owned(),
        "Host: localhost\r\nOrigin: null\r\n".to_owned(),
        "Host: localhost\r\nOrigin: sysadm-client.evil.example\r\n".to_owned(),
        "Host: localhost\r\nOrigin: sysadm-client\r\nOrigin: https://evil.example\r\n".to_owned(),
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
        // A name that was made to point at loopback.
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: evil.example:{port}\r\nOrigin: https://evil.example:{port}\r\n"),
        format!("Host: localhost:{port}\r\nOrigin: https://localhost:{port}1\r\n"),
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"),
    ] {
        let (status, answer) = over_tls(&stack, &upgrade(&headers)).await;
        assert_eq!(status, 403, "{headers}: {answer}");
        let (status, answer) = over_tls(&stack, &plain("/rpc/identify", &headers)).await;
        assert_eq!(status, 403, "{headers}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_pages_and_known_clients_are_let_in() {
    let options =
        Options::new(Pam::Wrapper).gateway("http.origins", vec!["https://panel.example".to_owned()]);
    let Some(stack) = Stack::start(&options) else { return };
    let port = stack.tls_address().rsplit(':').next().expect("a port").to_owned();
    for headers in [
        "Host: localhost\r\n".to_owned(),
        "Host: localhost\r\nOrigin: sysadm-client\r\n".to_owned(),
        "Host: localhost\r\nOrigin: https://panel.example\r\n".to_owned(),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: https://127.0.0.1:{port}\r\n"),
        format!(
            "Host: localhost:{port}\r\nOrigin: https://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n"
        ),
    ] {
        let mut stream = raw_tls(&stack, rustls::ALL_VERSIONS, None).await.expect("TLS");
        stream.write_all(upgrade(&headers).as_bytes()).await.expect("the request is read");
        let mut answer = [0_u8; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101", "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_8_kib_at_most() {
    let Some(mut stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    let fits = plain("/", &format!("Host: localhost\r\nX-Fill: {}\r\n", "x".repeat(7000)));
    assert_eq!(over_tls(&stack, &fits).await.0, 404);
    let beyond = plain("/", &format!("Host: localhost\r\nX-Fill: {}\r\n", "x".repeat(9000)));
    let (status, answer) = over_tls(&stack, &beyond).await;
    assert!(matches!(status, 400 | 413 | 431), "{answer}");
    assert!(stack.runs());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_tls_work() {
    let Some(stack) = Stack::start(&Options::new(Pam::Wrapper)) else { return };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = raw_tls(&stack, &[version], None).await.expect("TLS");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(http(&mut stream, &plain("/", "Host: localhost\r\n")).await.0, 404);
    }
}

//! The client of Redis against what only says that it is one.

use std::{path::PathBuf, time::Duration};

use doorward_gateway::redis::{Address, Login, NotSure, Settings, Unpublished};
use doorward_launch::Identity;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use crate::{
    redis::{End, QUICK, settings},
    support::PATIENCE,
};

/// Says this to everybody who has said something, and then this to every further word; tells of each connection.
struct Fake {
    _place: TempDir,
    path: PathBuf,
    connections: mpsc::UnboundedReceiver<Vec<u8>>,
    _task: AbortOnDropHandle<()>,
}

impl Fake {
    fn start(first: Vec<u8>, further: Vec<u8>) -> Self {
        let place = TempDir::new().expect("a directory");
        let path = place.path().join("fake.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let (tell, connections) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, first.clone(), further.clone(), tell.clone()));
            }
        });
        Self { _place: place, path, connections, _task: AbortOnDropHandle::new(task) }
    }

    fn settings(&self) -> Settings {
        let address = Address::Unix(self.path.clone(), Identity::current().uid);
        Settings { timing: QUICK, ..settings(address) }
    }

    /// What the next connection said before it ended.
    async fn ended(&mut self) -> Vec<u8> {
        timeout(PATIENCE, self.connections.recv()).await.expect("in time").expect("it runs")
    }
}

async fn speak(
    mut stream: UnixStream,
    first: Vec<u8>,
    further: Vec<u8>,
    tell: mpsc::UnboundedSender<Vec<u8>>,
) {
    let (mut said, mut next) = (Vec::new(), first);
    // Ends when the client goes.
    while let Ok(1..) = stream.read_buf(&mut said).await {
        if stream.write_all(&next).await.is_err() {
            break;
        }
        next.clone_from(&further);
    }
    let _ = tell.send(said);
}

#[tokio::test]
async fn who_is_no_redis_is_left_alone_and_tried_again() {
    let long = [b"+".as_slice(), &[b'x'; 100_000]].concat();
    for nonsense in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\0\0\0\0",
        b"$536870913\r\n",
        b"$-7\r\n",
        b"*1000000000\r\n",
        b"*1\r\n*1\r\n*1\r\n",
        b":1\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"+WRONG\r\n",
        &long,
    ] {
        let mut fake = Fake::start(nonsense.to_vec(), Vec::new());
        let end = End::start(fake.settings());
        for _ in 0..4 {
            fake.ended().await;
        }
        assert_eq!(end.enter("k").await, Err(NotSure::Interrupted));
        assert!(*end.handle.interrupted().borrow() && !*end.handle.publishes().borrow());
    }
}

/// Everything after the greeting.
#[tokio::test]
async fn who_greets_and_then_says_nonsense_is_left_too() {
    let message = b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n";
    for nonsense in [
        &b"*3\r\n$9\r\nsubscribe\r\n$5\r\nother\r\n:1\r\n"[..],
        b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nk\r\n:0\r\n",
        b"*3\r\n$8\r\npmessage\r\n$1\r\nk\r\n$1\r\ny\r\n",
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
        b"*1\r\n$-1\r\n",
        b"$3\r\nabc\r\n",
        b"nonsense\r\n",
        &[&message[..], b"*9\r\n"].concat(),
    ] {
        let mut fake = Fake::start(b"+PONG\r\n".to_vec(), nonsense.to_vec());
        let end = End::start(fake.settings());
        end.is(true).await;
        let entered = end.enter("k").await;
        assert_eq!(entered, Err(NotSure::Interrupted), "{:?}", String::from_utf8_lossy(nonsense));
        fake.ended().await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_found_out() {
    // From the beginning: that takes as long as connecting may.
    let mut mute = Fake::start(Vec::new(), Vec::new());
    let end = End::start(mute.settings());
    assert_eq!(mute.ended().await, b"*1\r\n$4\r\nPING\r\n");
    drop(end);

    // After the greeting: a subscription, a message, or nothing at all is what it owes.
    let mut hung = Fake::start(b"+PONG\r\n".to_vec(), Vec::new());
    let end = End::start(hung.settings());
    end.is(true).await;
    let publishing = end.handle.publish("k".into(), "x".into());
    assert_eq!(end.enter("k").await, Err(NotSure::Interrupted));
    assert_eq!(publishing.await, Err(Unpublished::Down));
    let mut said = [hung.ended().await, hung.ended().await];
    said.sort();
    let [subscriber, publisher] = said.map(|said| String::from_utf8(said).expect("text"));
    assert!(publisher.contains("PUBLISH") && !publisher.contains("SUBSCRIBE"), "{publisher}");
    assert!(subscriber.contains("SUBSCRIBE") && subscriber.ends_with("PING\r\n"), "{subscriber}");
}

#[tokio::test]
async fn half_a_message_is_no_sign_of_life() {
    let begun = b"*3\r\n$7\r\nmessage\r\n$1\r\nk\r\n$4000\r\nx".to_vec();
    let mut fake = Fake::start(b"+PONG\r\n".to_vec(), begun);
    let end = End::start(fake.settings());
    end.is(true).await;
    assert_eq!(end.enter("k").await, Err(NotSure::Interrupted));
    fake.ended().await;
}

#[tokio::test]
async fn nothing_is_said_to_whom_another_uid_listens_for() {
    let mut fake = Fake::start(b"+OK\r\n+PONG\r\n".to_vec(), Vec::new());
    let password = Some(std::sync::Arc::new(Zeroizing::new(b"secret".to_vec())));
    let other = Address::Unix(fake.path.clone(), Identity::current().uid + 1);
    let login = Login { user: None, password };
    assert!(!format!("{login:?}").contains("secret"));
    let end = End::start(Settings { address: other, login, ..fake.settings() });
    assert_eq!(fake.ended().await, b"", "not a byte");
    assert!(timeout(Duration::from_millis(100), end.is(true)).await.is_err());
}

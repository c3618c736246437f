//! A transcript played against a running stack.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use super::expect::matches;
use super::fill::Filler;
use super::{Deed, Line, Transcript, Transport};
use crate::client::{Client, PATIENCE, Received};
use crate::keys::Key;
use crate::python::PythonClient;
use crate::stack::Stack;

impl Transcript {
    /// Replays it.
    ///
    /// # Errors
    /// What differed, with the line's number.
    pub async fn replay(&self, stack: &mut Stack, over: &Transport) -> Result<(), String> {
        let mut connections: BTreeMap<&str, Peer> = BTreeMap::new();
        stack.forget_changed_passwords();
        // Those of the transcript before count until they are gone.
        stack.await_no_conversations(PATIENCE);
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut keys: BTreeMap<String, Key> = BTreeMap::new();
        let (mut on, mut own) = ("", None);
        for (number, line) in &self.lines {
            let at = |what: String| format!("{}.txt line {number} over {over:?}: {what}", self.name);
            match line {
                Line::On(name, with) => {
                    (on, own) = (name, with.as_ref());
                    continue;
                }
                Line::Key(name, kind) => {
                    keys.insert(name.clone(), Key::generate(*kind));
                    continue;
                }
                Line::Do(deed, program) => {
                    match deed {
                        Deed::Start => stack.start_again(*program),
                        Deed::Stop => stack.stop(*program),
                        Deed::Kill => stack.kill(*program),
                    }
                    continue;
                }
                _ => {}
            }
            if !connections.contains_key(on) {
                let key = own.map(|name| keys.get(name).ok_or_else(|| at(format!("no key {name}"))));
                connections.insert(on, Peer::open(stack, over, &self.path, key.transpose()?).await);
            }
            let filler = Filler { stack, local: over.is_local(), keys: &keys, known: &known };
            let client = connections.get_mut(on).expect("it was just opened");
            match line {
                Line::Send(text) => {
                    client.send(&filler.sent(text).map_err(&at)?).await.map_err(|e| at(e.to_string()))?;
                }
                Line::SendBinary(text) => {
                    let text = filler.sent(text).map_err(&at)?;
                    client.send_binary(&text).await.map_err(|e| at(e.to_string()))?;
                }
                Line::SendFilled(length, text) => {
                    let text = filler.sent(text).map_err(&at)?;
                    // A peer that closes early on what is too long is fine: what it says counts.
                    let blanks = " ".repeat(length.saturating_sub(text.len()));
                    let _ = client.send(&(text + &blanks)).await;
                }
                Line::Expect(text) => {
                    let Received::Json(seen) = client.receive().await else {
                        return Err(at(format!("closed, not {text}")));
                    };
                    let expected = filler.expected(text).map_err(&at)?;
                    let expected: Value = serde_json::from_str(&expected).map_err(|e| at(e.to_string()))?;
                    matches(&expected, &seen, &mut known).map_err(|e| at(format!("{e}\nin {seen}")))?;
                }
                Line::Close(code) => {
                    let seen = client.receive().await;
                    if seen != Received::Closed(*code) {
                        return Err(at(format!("{seen:?}, not the end")));
                    }
                    connections.remove(on);
                }
                Line::On(..) | Line::Key(..) | Line::Do(..) => {}
            }
        }
        for (_, client) in connections {
            client.close().await;
        }
        Ok(())
    }
}

/// Our own client, or one that is not ours.
enum Peer {
    Ours(Box<Client>),
    Python(Box<PythonClient>),
}

impl Peer {
    async fn open(stack: &Stack, over: &Transport, path: &str, own: Option<&Key>) -> Self {
        match over {
            Transport::Tls => Self::Ours(Box::new(match own {
                Some(key) => Client::tls_with(stack, key).await,
                None => Client::tls_at(stack, path).await,
            })),
            Transport::Unix => Self::Ours(Box::new(Client::unix_at(stack, path).await)),
            Transport::UnixAs(name) | Transport::TlsAs(name) => {
                let person = stack.cast().called(name).unwrap_or_else(|| panic!("nobody is called {name}"));
                Self::Ours(Box::new(if over.is_local() {
                    Client::unix_as(stack, person.uid).await
                } else {
                    Client::tls_as(stack, person.uid).await
                }))
            }
            Transport::Python { interpreter, unix } => {
                let socket = stack.path("run/gateway.sock");
                let address = if *unix { socket.to_str().expect("UTF-8") } else { stack.tls_address() };
                let client = PythonClient::connect(interpreter, address, path, own).expect("Python starts");
                Self::Python(Box::new(client))
            }
        }
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Ours(client) => client.try_send(text).await,
            Self::Python(client) => client.send("text", text).await,
        }
    }

    async fn send_binary(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Ours(client) => client.try_send_binary(text.as_bytes()).await,
            Self::Python(client) => client.send("binary", text).await,
        }
    }

    async fn receive(&mut self) -> Received {
        match self {
            Self::Ours(client) => client.receive().await,
            Self::Python(client) => client.receive().await,
        }
    }

    async fn close(self) {
        match self {
            Self::Ours(client) => client.close().await,
            Self::Python(client) => client.close().await,
        }
    }
}

//! A gateway for client authors: it speaks the envelopes of the login rows, knows three users, and
//! keeps what it was asked.
//!
//! | who | gets in by |
//! | --- | --- |
//! | the peer itself, no password | only if `local` is set |
//! | alice | password `right` |
//! | bob | password `right`, then a text, a hidden and a visible question: `new secret`, `4711` |
//! | hasty | nothing: failed too often |
//! | mallory | password `right`, then texts that try to command the terminal |
//! | whoever registered a key | a signature, or over TLS a certificate with it |

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use rustls::{ServerConfig, crypto::aws_lc_rs::default_provider};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::{
    fake_channels,
    fake_keys::{AnyCertificate, Keys, Peer},
    fake_subsystems::{self, Calls},
    listening::Listening,
};

/// A text that would retitle a terminal's window.
pub(crate) const HOSTILE: &str = "\u{1b}]0;gotcha\u{7}\u{9b}2J";

/// A running gateway; ends when dropped.
pub(crate) struct FakeGateway {
    /// `--socket` for it.
    pub(crate) socket: PathBuf,
    /// `--url` for it.
    pub(crate) url: String,
    /// `--fingerprint` for it.
    pub(crate) fingerprint: String,
    /// `--cacert` for it.
    pub(crate) certificate: PathBuf,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct State {
    local: bool,
    tokens: HashSet<String>,
    given: usize,
    requests: Vec<Value>,
    origins: usize,
    keys: Keys,
    idle: Option<u64>,
}

impl FakeGateway {
    /// Listens before it returns.
    pub(crate) fn start(directory: &Path) -> Self {
        let listening = Listening::start(directory.join("gateway.sock"));
        let Listening { runtime, socket, unix, url, tcp, key, .. } = listening;
        let state = Arc::new(Mutex::new(State::default()));
        let certificate = directory.join("gateway.pem");
        std::fs::write(&certificate, listening.pem).unwrap();
        let fingerprint = fingerprint(&listening.certificate);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyCertificate(Arc::new(default_provider()))))
            .with_single_cert(vec![listening.certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let shared = state.clone();
        runtime.spawn(async move {
            loop {
                let (stream, _) = unix.accept().await.unwrap();
                tokio::spawn(serve(stream, Peer::new("local", None), shared.clone()));
            }
        });
        let shared = state.clone();
        let server = fingerprint.trim_start_matches("SHA256:").to_owned();
        runtime.spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                let (acceptor, shared, server) = (acceptor.clone(), shared.clone(), server.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let chain = stream.get_ref().1.peer_certificates();
                        let shown = chain.and_then(|chain| chain.first()).map(|certificate| {
                            let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
                            parsed.public_key().raw.to_vec()
                        });
                        serve(stream, Peer::new(&server, shown), shared).await;
                    }
                });
            }
        });
        Self { socket, url, fingerprint, certificate, state, _runtime: runtime }
    }

    /// From now on the kernel's word is enough.
    pub(crate) fn allow_local(&self) {
        self.state.lock().unwrap().local = true;
    }

    /// From now on a session lasts so many seconds without a request.
    pub(crate) fn set_idle(&self, seconds: u64) {
        self.state.lock().unwrap().idle = Some(seconds);
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The sessions that are open.
    pub(crate) fn sessions(&self) -> usize {
        self.state.lock().unwrap().tokens.len()
    }

    /// Ends every session, as idling does.
    pub(crate) fn end_sessions(&self) {
        self.state.lock().unwrap().tokens.clear();
    }

    /// Every request so far, and none of them again.
    pub(crate) fn take_requests(&self) -> Vec<Value> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// From now on keys are registered without a proof.
    pub(crate) fn allow_unproven(&self) {
        self.state.lock().unwrap().keys.unproven = true;
    }

    /// From now on challenges are those of another server.
    pub(crate) fn relay(&self) {
        self.state.lock().unwrap().keys.relayed = Some(STANDARD.encode([7; 32]));
    }

    /// Gives all keys to `user`.
    pub(crate) fn give_keys(&self, user: &str) {
        for entry in self.state.lock().unwrap().keys.registered.values_mut() {
            entry.user = user.to_owned();
        }
    }

    /// Owner and certificate (as it was sent) of each registered key.
    pub(crate) fn keys(&self) -> Vec<(String, Option<String>)> {
        let state = self.state.lock().unwrap();
        state.keys.registered.values().map(|key| (key.user.clone(), key.certificate.clone())).collect()
    }

    /// How many upgrades carried an `Origin`.
    pub(crate) fn origins(&self) -> usize {
        self.state.lock().unwrap().origins
    }
}

/// SHA-256 of the certificate's SubjectPublicKeyInfo, as the gateway prints it.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.public_key().raw);
    format!("SHA256:{}", STANDARD.encode(sum))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, mut peer: Peer, state: Arc<Mutex<State>>) {
    let shared = state.clone();
    #[allow(clippy::result_large_err)]
    let upgrade = move |request: &Request, response: Response| {
        shared.lock().unwrap().origins += usize::from(request.headers().contains_key("origin"));
        Ok(response)
    };
    let Ok(mut websocket) = accept_hdr_async(stream, upgrade).await else { return };
    let (mut session, mut calls) = (None, Calls::default());
    loop {
        let message = tokio::select! {
            message = websocket.next() => message,
            () = std::future::ready(()), if calls.endless.is_some() => {
                if websocket.send(calls.more()).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(Ok(message)) = message else { return };
        let Ok(text) = message.to_text() else { return };
        let Ok(request) = serde_json::from_str::<Value>(text) else { continue };
        let told = fake_channels::answer(&request, session.is_some())
            .or_else(|| fake_subsystems::answer(&request, session.is_some(), &mut calls));
        let replies = match told {
            Some(replies) => {
                state.lock().unwrap().requests.push(request.clone());
                replies
            }
            None => reply(&request, &mut session, &mut peer, &mut state.lock().unwrap()),
        };
        for reply in replies {
            if websocket.send(Message::text(reply.to_string())).await.is_err() {
                return;
            }
        }
        if request["channel"] == "slow" {
            let frame = CloseFrame { code: CloseCode::from(4008), reason: "messages were not read".into() };
            let _ = websocket.close(Some(frame)).await;
            return;
        }
        let reason = match &request["args"] {
            args if args["username"] == "hasty" => {
                format!("too many failed logins, try again in 59 s{HOSTILE}")
            }
            args if args[0] == "unread" => format!("events were not read{HOSTILE}"),
            _ => continue,
        };
        let _ = websocket.close(Some(CloseFrame { code: CloseCode::Policy, reason: reason.into() })).await;
        return;
    }
}

fn reply(request: &Value, session: &mut Option<String>, peer: &mut Peer, state: &mut State) -> Vec<Value> {
    state.requests.push(request.clone());
    let args = &request["args"];
    let (namespace, name) = (request["namespace"].as_str().unwrap(), request["name"].as_str().unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let outcome = match (namespace, name) {
        ("rpc", "identify") => Ok(json!({"type": "server", "hostname": "fake"})),
        ("rpc", "auth") => match (&*text(&args["username"]), &*text(&args["password"])) {
            (_, "") if state.local => Ok(grant(session, state)),
            (user, "") if state.keys.shown_is_of(peer, user) => Ok(grant(session, state)),
            ("hasty", _) => Err((403, "Forbidden")),
            ("alice", "right") => Ok(grant(session, state)),
            ("bob", "right") => Ok(json!({"conversation": "c-1", "prompts": [
                {"style": "info", "text": "Your password has expired"},
                {"style": "hidden", "text": "New password:"},
                {"style": "visible", "text": "Code:"},
            ]})),
            ("mallory", "right") => Ok(json!({"conversation": "c-2", "prompts": [
                {"style": "info", "text": HOSTILE},
                {"style": "error", "text": HOSTILE},
            ]})),
            _ => Err((401, "Unauthorized")),
        },
        ("rpc", "auth_respond") => match (&*text(&args["conversation"]), &args["answers"]) {
            ("c-1", answers) if *answers == json!(["new secret", "4711"]) => Ok(grant(session, state)),
            ("c-2", answers) if *answers == json!([]) => Ok(grant(session, state)),
            _ => Err((401, "Unauthorized")),
        },
        ("rpc", "auth_ssl") => match state.keys.auth_ssl(peer, args) {
            Ok(_) if peer.user.is_some() => Ok(grant(session, state)),
            other => other,
        },
        ("rpc", "auth_token") if state.tokens.contains(&text(&args["token"])) => {
            *session = Some(text(&args["token"]));
            Ok(json!([args["token"], state.idle.unwrap_or(300)]))
        }
        ("rpc", "auth_token") => Err((401, "Unauthorized")),
        ("rpc", "auth_clear") => {
            if let Some(token) = session.take() {
                state.tokens.remove(&token);
            }
            if args["reply"] != true {
                return Vec::new();
            }
            Ok(json!({}))
        }
        _ if session.is_none() => Err((401, "Unauthorized")),
        ("rpc", "settings") => {
            // Sessions have no owner here: everybody who got in is alice.
            peer.user.get_or_insert_with(|| "alice".to_owned());
            state.keys.settings(peer, args)
        }
        ("rpc", "sessions") => match &*text(&args["action"]) {
            "list" => Ok(json!([
                {"session": "s-1", "user": "alice", "method": "password", "dialect": "sysadm",
                    "source": "192.0.2.1", "started": 0, "last_used": 60, "current": true},
                {"session": "s-2", "user": HOSTILE, "method": "local_peer", "dialect": "sysadm",
                    "source": "", "started": 61, "last_used": 62, "current": false},
                {"session": "s-3", "user": "alice", "method": "password", "dialect": "token",
                    "source": "192.0.2.2", "started": 63, "last_used": 63, "current": false},
            ])),
            "end" if args["session"] == "s-2" => Ok(json!({"ended": 1})),
            "end_others" => Ok(json!({"ended": 3})),
            _ => Err((404, "Not Found")),
        },
        ("rpc", "query") => Ok(json!({"rpc/settings": "read/write"})),
        ("test", "echo") => Ok(args.clone()),
        ("test", "away") => Err((503, "Service Unavailable")),
        ("test", "hostile") => Err((403, HOSTILE)),
        _ => Err((404, "Not Found")),
    };
    let reply = match outcome {
        Ok(args) => json!({"namespace": namespace, "name": "response", "id": request["id"], "args": args}),
        Err((code, message)) => json!({"namespace": namespace, "name": "error", "id": request["id"],
            "args": {"code": code, "message": message}}),
    };
    // Events may come at any time, also between a request and its reply.
    let event = json!({"namespace": "events", "name": "auth", "id": "", "args": {"reason": "expiring", "seconds": 9}});
    vec![event, reply]
}

fn grant(session: &mut Option<String>, state: &mut State) -> Value {
    state.given += 1;
    let token = format!("0000aaaa-0000-4000-8000-{:012}", state.given);
    state.tokens.insert(token.clone());
    *session = Some(token.clone());
    json!([token, state.idle.unwrap_or(300)])
}

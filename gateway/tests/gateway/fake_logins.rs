//! The fake authd's logins: what it says to whom, as `fake_authd.rs` lists it.

use doorward_proto::{
    Reason,
    authd::v1::{self as proto, begin_request, login_server, outcome},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::fake_authd::{Service, State, denied, failure, hex, random};

/// Notes how a call ended.
struct Call<'a> {
    state: &'a State,
    connection: &'a str,
    end: &'static str,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.state.note(self.end, self.connection, "");
    }
}

#[tonic::async_trait]
impl login_server::Login for Service {
    async fn begin(&self, request: Request<proto::BeginRequest>) -> Result<Response<proto::Outcome>, Status> {
        let request = request.into_inner();
        let connection = request.connection;
        let source = request.source.expect("a source");
        self.0.note("forwarded", &connection, source.forwarded);
        self.0.note("source", &connection, format!("{} {:?}", source.address, source.local_uid));
        let outcome = match request.method.expect("a method") {
            begin_request::Method::Password(proto::Password { username, password }) => {
                self.0.note("begin", &connection, username.as_str());
                if let Some(reason) = username.strip_prefix("reason-") {
                    return Err(failure(reason));
                }
                if let Some(wish) = request.wish.as_ref().filter(|_| username == "alice") {
                    assert_eq!(request.dialect, i32::from(proto::Dialect::Token));
                    return Ok(Response::new(self.0.issue(&username, &password, wish)));
                }
                let channel = request.dialect == i32::from(proto::Dialect::Channel);
                match (username.as_str(), password.as_str()) {
                    ("alice", "wonderland") if channel => self.0.grant_of("user", "alice", &["#"], true),
                    ("alice", "wonderland") => self.0.grant("alice", &["#"]),
                    (name, "everything") => self.0.grant(name, &["#"]),
                    ("penalised", _) => {
                        let penalised = proto::Penalised { left_ms: 59_001 };
                        proto::Outcome { kind: Some(outcome::Kind::Penalised(penalised)) }
                    }
                    ("dora", "explorer") => self
                        .0
                        .grant("dora", &["sysadm.rpc.query._", "sysadm.events.#", "sysadm.example.a.echo"]),
                    ("bob", "builder") => self.0.grant("bob", &["sysadm.rpc.settings.list_*"]),
                    ("carol", "first") => {
                        let conversation = random().to_string();
                        self.0
                            .conversations
                            .lock()
                            .expect("not poisoned")
                            .insert(conversation.clone(), connection);
                        let prompts =
                            [(proto::Style::Info, "Welcome"), (proto::Style::Hidden, "Code: ")].map(
                                |(style, text)| proto::Prompt { style: style.into(), text: text.to_owned() },
                            );
                        let prompts = proto::Prompts { conversation, prompts: prompts.into() };
                        proto::Outcome { kind: Some(outcome::Kind::Prompts(prompts)) }
                    }
                    ("slow", _) => {
                        let mut call = Call { state: &self.0, connection: &connection, end: "dropped" };
                        let mut gate = self.0.gate.subscribe();
                        gate.wait_for(|open| *open).await.expect("the state outlives this");
                        call.end = "answered";
                        self.0.grant("slow", &["#"])
                    }
                    _ => denied(),
                }
            }
            begin_request::Method::Jwt(proto::Jwt { jwt }) => {
                assert_eq!(request.dialect, i32::from(proto::Dialect::Channel));
                self.0.note("begin", &connection, jwt.as_str());
                match jwt.split('.').collect::<Vec<_>>().as_slice() {
                    ["user", name, "signed"] => self.0.grant_of("user", name, &["ws.group.7.#"], true),
                    _ => denied(),
                }
            }
            begin_request::Method::Model(proto::Model { kind, credentials }) => {
                assert_eq!(request.dialect, i32::from(proto::Dialect::Channel));
                let credentials = String::from_utf8(credentials).expect("UTF-8");
                self.0.note("begin", &connection, format!("{kind} {credentials}"));
                let credentials: serde_json::Value = serde_json::from_str(&credentials).expect("JSON");
                match (kind.as_str(), credentials["token"].as_str()) {
                    ("terminal", Some(name)) if name.starts_with("t-") => {
                        self.0.grant_of("terminal", name, &["ws.group.me.#"], true)
                    }
                    ("terminal", _) => denied(),
                    _ => proto::Outcome { kind: Some(outcome::Kind::NoSuchKind(proto::NoSuchKind {})) },
                }
            }
            begin_request::Method::LocalPeer(proto::LocalPeer { handle, username, key, certificate }) => {
                let shown =
                    if certificate.is_empty() { String::new() } else { format!(" {}", hex(&certificate)) };
                self.0.note("begin", &connection, format!("{username}{shown}"));
                let known = self.0.registered.lock().expect("not poisoned").contains(&key);
                let handle = self.0.handles.lock().expect("not poisoned").remove(&handle);
                match handle {
                    Some((owner, uid)) if owner == connection => {
                        let user = format!("uid-{uid}");
                        if username.is_empty() || username == user {
                            self.0.grant(&user, &["#"])
                        } else if known && username == "alice" {
                            self.0.grant("alice", &["#"])
                        } else {
                            denied()
                        }
                    }
                    _ => denied(),
                }
            }
            begin_request::Method::CertificateProof(proof) => {
                let open = self.0.challenges.lock().expect("not poisoned").remove(&connection);
                let hint = format!("{} {}", proof.username, hex(&proof.fingerprint));
                self.0.note("begin", &connection, hint);
                match proof.signature.strip_prefix(b"by ") {
                    Some(user) if open => self.0.grant(std::str::from_utf8(user).expect("UTF-8"), &["#"]),
                    Some(_) | None => denied(),
                }
            }
            begin_request::Method::TlsCertificate(shown) => {
                self.0.note("begin", &connection, format!("{} {}", shown.username, hex(&shown.certificate)));
                let known = self.0.registered.lock().expect("not poisoned").contains(&shown.key);
                if known && shown.username == "alice" { self.0.grant("alice", &["#"]) } else { denied() }
            }
            begin_request::Method::Token(proto::Token { token }) => {
                self.0.note("begin", &connection, token.as_str());
                self.0.take_up(&token, &connection, true);
                self.0.granted(&token).unwrap_or_else(denied)
            }
        };
        Ok(Response::new(outcome))
    }

    async fn respond(
        &self,
        request: Request<proto::RespondRequest>,
    ) -> Result<Response<proto::Outcome>, Status> {
        let request = request.into_inner();
        self.0.note("respond", &request.connection, request.answers.join(","));
        let mut conversations = self.0.conversations.lock().expect("not poisoned");
        if conversations.get(&request.conversation) != Some(&request.connection) {
            return Err(failure("Unauthenticated"));
        }
        if request.answers.len() != 1 {
            return Err(Reason::BadRequest.to_wire("answers: one is wanted"));
        }
        conversations.remove(&request.conversation);
        let right = request.answers == ["424242"];
        Ok(Response::new(if right { self.0.grant("carol", &["#"]) } else { denied() }))
    }

    async fn challenge(
        &self,
        request: Request<proto::ChallengeRequest>,
    ) -> Result<Response<proto::ChallengeReply>, Status> {
        let request = request.into_inner();
        self.0.note("challenge", &request.connection, hex(&request.server_key));
        self.0.challenges.lock().expect("not poisoned").insert(request.connection);
        let test_string = "s".repeat(128);
        Ok(Response::new(proto::ChallengeReply { test_string, context: "a context".to_owned() }))
    }

    async fn abandon(
        &self,
        request: Request<proto::AbandonRequest>,
    ) -> Result<Response<proto::AbandonReply>, Status> {
        self.0.note("abandon", &request.into_inner().connection, "");
        Ok(Response::new(proto::AbandonReply {}))
    }

    async fn backends(
        &self,
        _: Request<proto::BackendsRequest>,
    ) -> Result<Response<proto::BackendsReply>, Status> {
        Ok(Response::new(proto::BackendsReply { names: vec!["pam".to_owned(), "other".to_owned()] }))
    }

    type WatchPenaltiesStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<proto::PenaltyEvent, Status>> + Send>>;

    async fn watch_penalties(
        &self,
        _: Request<proto::WatchPenaltiesRequest>,
    ) -> Result<Response<Self::WatchPenaltiesStream>, Status> {
        let mut standings = self.0.standings.subscribe();
        standings.mark_changed();
        let told = futures_util::stream::unfold(standings, |mut standings| async move {
            standings.changed().await.ok()?;
            let sources = standings.borrow_and_update().clone();
            Some((Ok(proto::PenaltyEvent { sources, ready: true }), standings))
        });
        Ok(Response::new(Box::pin(told)))
    }
}

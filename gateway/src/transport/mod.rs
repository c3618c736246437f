//! From an accepted connection to messages: TLS, HTTP/1.1, WebSocket.

mod asking;
pub mod certificate;
mod http;
mod origin;
mod phase;
mod rare;
mod stream;
mod tls;
mod websocket;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use doorward_launch::audit::{self, Audit, Record};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{http::Next, stream::Stream, tls::Shown};
pub use self::{origin::Rules, tls::Tls};
use crate::{
    backend::Backend,
    call::{ChannelAuth, ConnectionId, Facility, Origin},
    channels::{Engine, Handlers, Speakers},
    gate::{Gate, Past, Permit, Source},
    hub::Hub,
    misses::Misses,
    proxy::Proxies,
    router::Router,
    session::{self, Refusal},
};

/// How long what is under way when the gateway stops may take to be answered; then it is refused.
pub const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What every connection shares.
#[derive(Debug)]
pub struct Shared {
    /// authd.
    pub backend: Arc<Backend>,
    /// What answers allowed calls.
    pub router: Router,
    /// Takes what authd does not hear of.
    pub audit: Audit,
    /// Events, and what is said on channels.
    pub hub: Hub,
    /// What carries that.
    pub engine: Engine,
    /// Who decides about some of them.
    pub handlers: Handlers,
    /// Who said something there of late.
    pub speakers: Arc<Mutex<Speakers>>,
    /// How channels are reached.
    pub channels: Channels,
    /// Which pages may connect.
    pub rules: Rules,
    /// Who may say for whom they ask.
    pub proxies: Proxies,
    /// Sizes.
    pub limits: Limits,
    /// Durations.
    pub timers: Timers,
    /// Where those are counted who come for everything.
    pub door: Gates,
    /// And those who come for the token API alone: services that ask about tokens are not kept out by
    /// whoever fills the door.
    pub token_door: Gates,
    /// Tokens that were asked about and open nothing.
    pub misses: Arc<Misses>,
    /// This server's UUID, as tokens name it.
    pub server_uuid: Option<String>,
    /// Every connection's task.
    pub tasks: TaskTracker,
    /// Cancelled when the gateway stops.
    pub stop: CancellationToken,
}

/// Sizes of what clients send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest message before login.
    pub before_login: usize,
    /// The largest message after login.
    pub after_login: usize,
    /// The largest body that the token API takes.
    pub token_body: usize,
    /// Nesting of JSON.
    pub depth: usize,
    /// Requests of one connection under way.
    pub in_flight: usize,
    /// Subscriptions of one connection to channels.
    pub subscriptions: usize,
    /// Messages that it may publish in a second.
    pub publishes: u32,
}

/// How channels are reached.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Of connections whose path names none.
    pub facility: Facility,
    /// Those that a path may name; `*`: any.
    pub facilities: Vec<String>,
    /// A message that is sent back as it is; empty: none.
    pub heartbeat: String,
    /// Which parameters of a path bring credentials, and of which kind.
    pub url_credentials: BTreeMap<String, String>,
}

/// What the path of a WebSocket says.
#[derive(Debug)]
pub enum Way {
    /// Nothing.
    Envelopes,
    /// It comes for channels, and perhaps brings credentials.
    Channels(Facility, Option<Box<ChannelAuth>>),
    /// It comes for a facility that there is not.
    Refused,
}

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Timers {
    /// The TLS handshake; an HTTP head from its first byte.
    pub handshake: Duration,
    /// A plain HTTP connection between requests.
    pub keep_alive: Duration,
    /// The body of a request.
    pub body: Duration,
    /// A client that does not read what it is sent.
    pub write: Duration,
    /// A WebSocket's.
    pub session: session::Timers,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// WebSockets, REST and the token API.
    Everything,
    /// The token API alone. Others ask here about tokens that they were shown, so whoever is under a penalty is
    /// not sent away.
    TokenApi,
}

/// Who has connected.
#[derive(Debug)]
pub struct Client {
    /// Its name for authd and the log.
    pub id: ConnectionId,
    /// Where it is counted.
    pub source: Source,
    /// Its user, where the kernel says who that is.
    pub uid: Option<u32>,
    /// The address as it is reported; none on the Unix socket.
    pub address: Option<IpAddr>,
    /// It may say for whom it asks.
    pub proxy: bool,
    /// For whom it said that it asks.
    pub forwarded: Option<IpAddr>,
    /// When it was accepted.
    pub since: Instant,
    /// What it can have here.
    pub serves: Serves,
    /// Root's own connections are not counted.
    pub exempt: bool,
    /// Its place among all connections.
    pub _place: Permit,
}

/// How many connections there are of each kind.
#[derive(Debug, Clone)]
pub struct Gates {
    /// Unfinished handshakes and WebSockets that are not logged in.
    pub newcomers: Gate,
    /// Connections that speak plain HTTP.
    pub plain: Gate,
}

impl Gates {
    /// For so many newcomers, so many of them of one source, and so many that speak plain HTTP.
    pub fn new(newcomers: usize, of_one: usize, plain: usize) -> Self {
        Self {
            // A quarter is kept for sources that have not failed lately.
            newcomers: Gate::keeping(4, newcomers, of_one),
            plain: Gate::new(plain, of_one_plain(plain)),
        }
    }

    /// From now on for so many.
    pub fn resize(&self, newcomers: usize, of_one: usize, plain: usize) {
        self.newcomers.resize(newcomers, of_one);
        self.plain.resize(plain, of_one_plain(plain));
    }
}

/// One source can have a sixteenth, so that it takes many to keep others out.
fn of_one_plain(plain: usize) -> usize {
    (plain / 16).max(1)
}

impl Shared {
    /// Where whoever comes for this is counted.
    pub fn gates(&self, serves: Serves) -> &Gates {
        match serves {
            Serves::Everything => &self.door,
            Serves::TokenApi => &self.token_door,
        }
    }

    /// The same with other rules, sizes and durations, for the connections to come.
    #[must_use]
    pub fn renewed(
        &self,
        rules: Rules,
        proxies: Proxies,
        channels: Channels,
        limits: Limits,
        timers: Timers,
    ) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            audit: self.audit.clone(),
            hub: self.hub.clone(),
            engine: self.engine.clone(),
            handlers: self.handlers.clone(),
            speakers: Arc::clone(&self.speakers),
            channels,
            router: self.router.clone(),
            rules,
            proxies,
            limits,
            timers,
            door: self.door.clone(),
            token_door: self.token_door.clone(),
            misses: Arc::clone(&self.misses),
            server_uuid: self.server_uuid.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl Client {
    /// Records a login of this client that was refused without asking authd.
    fn refused(&self, audit: &Audit, refusal: Refusal, dialect: &str) {
        let Refusal { why, method, username } = refusal;
        let Origin { address, uid, .. } = self.origin();
        let source = match (address, uid) {
            (Some(address), _) => address.to_canonical().to_string(),
            (None, Some(uid)) => format!("uid:{uid}"),
            (None, None) => "unix".to_owned(),
        };
        // Costs its source nothing.
        audit.record_bounded(Record {
            reason: Some(why.code()),
            user: Some(username).filter(|name| !name.is_empty()),
            method: Some(method.to_owned()),
            reported_source: Some(source),
            connection: Some(self.id.to_string()),
            dialect: Some(dialect.to_owned()),
            ..Record::of(audit::Event::LoginRefused)
        });
    }

    fn origin(&self) -> Origin {
        Origin { address: self.address, uid: self.uid, forwarded: self.forwarded }
    }

    /// A place among those who come for everything and are not logged in, if there is one for it.
    fn newcomer(&self, shared: &Shared) -> Option<Permit> {
        let gate = &shared.door.newcomers;
        if self.exempt {
            return Some(gate.enter_exempt());
        }
        let past = match self.proxy {
            true => Past::Clean,
            false => shared.backend.penalties().past(self.source, Instant::now()),
        };
        gate.enter_as(self.source, past)
    }

    /// Whose penalties are its own.
    fn charged(&self) -> Source {
        self.forwarded.map_or(self.source, Source::of_address)
    }
}

/// What was accepted.
#[derive(Debug)]
pub enum Accepted {
    /// Speaks TLS.
    Tcp(TcpStream, Arc<Tls>),
    /// TCP on loopback, without TLS.
    Plain(TcpStream),
    /// Local, without TLS.
    Unix(UnixStream),
}

/// Serves a connection until it becomes a WebSocket, which gets a fresh and smaller task.
pub async fn serve(accepted: Accepted, client: Client, permit: Permit, shared: Arc<Shared>) {
    let (stream, path, shown) = match accepted {
        Accepted::Tcp(tcp, tls) => {
            let handshake = tls.accept(tcp, shared.timers.handshake);
            let stream = tokio::select! {
                stream = handshake => stream,
                () = shared.stop.cancelled() => return,
            };
            match stream {
                Ok((stream, shown)) => {
                    let loopback = client.address.is_some_and(|address| address.to_canonical().is_loopback());
                    let path = if loopback { origin::Path::Loopback } else { origin::Path::Remote };
                    (Stream::Tls(Box::new(stream)), path, shown)
                }
                Err(error) => {
                    tracing::debug!(connection = %client.id, %error, "no TLS");
                    return;
                }
            }
        }
        Accepted::Plain(tcp) => (Stream::Plain(tcp), origin::Path::Plain, Shown::default()),
        Accepted::Unix(unix) => (Stream::Unix(unix), origin::Path::Unix, Shown::default()),
    };
    match http::serve(stream, path, shown, client, permit, &shared).await {
        Next::WebSocket(opened) => {
            let shared_by_task = Arc::clone(&shared);
            shared.tasks.spawn(websocket::serve(opened, shared_by_task));
        }
        Next::Over => {}
    }
}

//! certd's registry, asked with a session's identity assertion: it believes no user name of ours.

use std::{sync::Arc, time::Duration};

use doorward_proto::certd::v1::{self as proto, registry_client::RegistryClient};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Response, Status, transport::Channel};

use super::{
    Failure, GIVE_UP, Up,
    kept::Keeper,
    lane::Lane,
    line::Line,
    link::Link,
    logs::{Part, Span},
    wire::{challenge_of_certd, key_of},
};
use crate::call::{Answer, ConnectionId, Error, Key, KeyRequest, Secret, ServerKey};

/// The largest message of certd's that is read.
const ANSWER_MAX: usize = 64 << 10;
/// The largest request, as certd has it: key, certificate and proof have their own limits, each below.
const REQUEST_MAX: usize = 64 << 10;
/// The most calls at once, and the most of them of one identity.
const CALLS: usize = 64;
const CALLS_OF_ONE: usize = 16;
/// The most listings at once, and the most that one identity has asked for and not been sent: each can be as large as
/// [`LISTING_MAX`].
const LISTINGS: usize = 4;
const LISTINGS_OF_ONE: usize = 2;
/// What a listing may weigh. A registry that is larger is listed by its administrator, not by clients.
pub(crate) const LISTING_MAX: usize = 16 << 20;
/// For a whole listing.
const LISTING: Duration = Duration::from_secs(60);

/// What a request says of its connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The gateway's name of it.
    pub id: ConnectionId,
    /// The server's key, as the client sees it.
    pub server_key: ServerKey,
    /// The key of the client's certificate (SPKI, DER).
    pub loaded_key: Option<Vec<u8>>,
}

type Client = RegistryClient<Channel>;

#[derive(Debug)]
pub(super) struct Certd {
    line: Arc<Line>,
    calls: Arc<Lane>,
    listings: Arc<Lane>,
    deadline: Duration,
    keeper: Keeper,
}

impl Certd {
    pub(super) fn new(link: Link, deadline: Duration, keeper: Keeper) -> Self {
        Self {
            line: Arc::new(Line::new("certd", link)),
            calls: Arc::new(Lane::new(CALLS, CALLS_OF_ONE)),
            listings: Arc::new(Lane::new(LISTINGS, LISTINGS_OF_ONE)),
            deadline,
            keeper,
        }
    }

    pub(super) fn up(&self) -> Up {
        self.line.up()
    }

    /// Keeps the connection; never ends.
    pub(super) fn keep(&self) -> impl Future<Output = ()> + Send + use<> {
        let line = Arc::clone(&self.line);
        async move { line.keep().await }
    }

    pub(super) async fn answer(
        &self,
        connection: &Connection,
        who: &str,
        assertion: &Secret,
        request: &KeyRequest,
    ) -> Result<Answer, Failure> {
        match request {
            KeyRequest::List => return Ok(Answer::Keys(self.list(who, assertion).await?)),
            KeyRequest::Checksums => return Ok(Answer::Checksums(self.list(who, assertion).await?)),
            KeyRequest::Challenge | KeyRequest::Register(_) | KeyRequest::Revoke { .. } => {}
        }
        let assertion = assertion.expose().to_owned();
        match request {
            KeyRequest::Register(registration) => {
                let request = proto::RegisterRequest {
                    assertion,
                    connection: connection.id.to_string(),
                    public_key: registration.public_key.clone(),
                    certificate: registration.certificate.clone(),
                    nickname: registration.nickname.clone(),
                    email: registration.email.clone(),
                    proof: registration.proof.clone(),
                    loaded_key: connection.loaded_key.clone().unwrap_or_default(),
                };
                self.call(who, |mut client| async move { client.register(request).await }).await?;
                Ok(Answer::Done)
            }
            KeyRequest::Revoke { public_key, user } => {
                let request =
                    proto::RevokeRequest { assertion, public_key: public_key.clone(), user: user.clone() };
                self.call(who, |mut client| async move { client.revoke(request).await }).await?;
                Ok(Answer::Done)
            }
            KeyRequest::Challenge => {
                let request = proto::RegisterChallengeRequest {
                    assertion,
                    connection: connection.id.to_string(),
                    server_key: connection.server_key.map(Vec::from).unwrap_or_default(),
                };
                let call = |mut client: Client| async move { client.register_challenge(request).await };
                let reply = self.call(who, call).await?;
                Ok(Answer::Challenge(challenge_of_certd(reply)?))
            }
            KeyRequest::List | KeyRequest::Checksums => Err(Failure::fault("a listing is no change")),
        }
    }

    /// A call, which keeps its place until it is over.
    async fn call<T, C>(
        &self,
        who: &str,
        call: impl FnOnce(Client) -> C + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        C: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let (line, turn) = (Arc::clone(&self.line), self.calls.turn(who));
        let place = async move {
            let turn = turn.await.ok_or_else(|| Failure::late("certd"))?;
            Ok((turn, client(&line).await?))
        };
        let running = self.keeper.run(GIVE_UP, place, |(turn, client)| async move {
            let _turn = turn;
            Ok(call(client).await?.into_inner())
        });
        timeout(self.deadline, running).await.map_err(|_| Failure::late("certd"))?
    }

    /// Records of certd's own.
    pub(super) async fn logs(&self, assertion: &Secret, span: Span) -> Result<Part, Failure> {
        let [_, skip, _] = span.known;
        let Span { from, until, most, .. } = span;
        let assertion = assertion.expose().to_owned();
        let request = proto::LogsRequest { assertion, from, until, skip, most };
        let late = |_| Failure::late("logs");
        let reading = async {
            let mut client = client(&self.line).await?;
            let mut stream = client.logs(request).await?.into_inner();
            let (mut part, mut bytes) = (Part::default(), 0);
            while let Some(proto::LogsPart { lines, end }) = stream.message().await? {
                part.take(lines, &mut bytes)?;
                if let Some(end) = end {
                    (part.more, part.unread) = (end.more, end.unread);
                    return Ok(part);
                }
            }
            Err(Failure::contract("records without an end"))
        };
        timeout(self.deadline, reading).await.map_err(late)?
    }

    /// The keys that are registered now; those that were revoked are history. Until they are taken they are counted as
    /// their identity's own.
    async fn list(&self, who: &str, assertion: &Secret) -> Result<Vec<Key>, Failure> {
        let whole = Instant::now() + LISTING;
        let (line, turn, deadline) = (Arc::clone(&self.line), self.listings.turn(who), self.deadline);
        let place = async move {
            let turn = timeout_at(whole, turn).await.ok().flatten().ok_or_else(|| Failure::late("list"))?;
            Ok((turn, client(&line).await?))
        };
        let request = proto::ListRequest { assertion: assertion.expose().to_owned() };
        let running = self.keeper.run(LISTING, place, move |(turn, client)| async move {
            Ok((read_list(client, request, whole, deadline).await?, turn.over()))
        });
        let (keys, _own) = running.await?;
        Ok(keys)
    }
}

async fn client(line: &Line) -> Result<Client, Failure> {
    let channel = line.channel().await?;
    Ok(Client::new(channel).max_decoding_message_size(ANSWER_MAX).max_encoding_message_size(REQUEST_MAX))
}

async fn read_list(
    mut client: Client,
    request: proto::ListRequest,
    whole: Instant,
    deadline: Duration,
) -> Result<Vec<Key>, Failure> {
    let late = |_| Failure::late("list");
    let first = timeout(deadline, client.list(request)).await.map_err(late)?;
    let mut stream = first?.into_inner();
    let (mut keys, mut weight) = (Vec::new(), 0_usize);
    loop {
        let due = whole.min(Instant::now() + deadline);
        let Some(entry) = timeout_at(due, stream.message()).await.map_err(late)?? else {
            return Ok(keys);
        };
        if entry.revoked.is_some() {
            continue;
        }
        let key = key_of(entry)?;
        weight = weight.saturating_add(heavy(&key));
        if weight > LISTING_MAX {
            return Err(Failure::new(Error::TooLarge, "the listing is larger than clients are sent"));
        }
        keys.push(key);
    }
}

/// At least what a key takes up in a reply: base64 twice, text with every character escaped.
fn heavy(key: &Key) -> usize {
    let certificate =
        key.certificate.as_ref().map_or(0, |found| found.der.len() * 2 + found.subject.len() * 6);
    let source = key.last_used.as_ref().map_or(0, |(_, source)| source.len());
    let texts = key.user.len() + key.nickname.len() + key.email.len() + source;
    512 + key.spki.len() * 2 + texts * 6 + certificate
}

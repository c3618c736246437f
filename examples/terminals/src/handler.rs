//! The channels' handler: `doorward.channel.v1.ChannelHandler`. Believes authd's word for who asks, and asks the rules.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use doorward_assertion::{Refused, Verifier};
use doorward_proto::{
    Reason,
    channel::v1::{self as wire, channel_handler_server::ChannelHandler},
};
use tonic::{Request, Response, Status};

use crate::{
    register::{Register, RegisterError},
    rules::{GROUP, Known, TERMINAL, Who},
};

/// The service.
#[derive(Debug, Clone)]
pub struct Channels(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    register: Register,
    /// A word for one channel is none for the other.
    verifiers: [(&'static str, Verifier); 2],
    known: Mutex<Known>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("there is no such channel here")]
    Channel,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error("no random bytes")]
    Random,
}

impl Channels {
    /// `key` is authd's public key, a file of root's or of `authd`.
    pub fn new(register: Register, key: &Path, authd: u32) -> Self {
        let verifier =
            |channel| (channel, Verifier::new(PathBuf::from(key), authd, format!("channel/{channel}")));
        let verifiers = [verifier(GROUP), verifier(TERMINAL)];
        Self(Arc::new(Inner { register, verifiers, known: Mutex::default() }))
    }

    /// Whoever asks, by authd's word, is judged by `judge`. Files are read for it.
    async fn judged<R: Send + 'static>(
        &self,
        asked: Option<wire::Asked>,
        judge: impl FnOnce(&mut Known, &Who, &wire::Asked) -> Result<R, Fault> + Send + 'static,
    ) -> Result<Response<R>, Status> {
        let inner = Arc::clone(&self.0);
        let judged = tokio::task::spawn_blocking(move || {
            let asked = asked.unwrap_or_default();
            let who = inner.who(&asked)?;
            judge(&mut inner.known.lock().unwrap_or_else(PoisonError::into_inner), &who, &asked)
        });
        match judged.await {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(fault)) => Err(fault.to_wire()),
            Err(_) => Err(Reason::Fault.to_wire("a fault")),
        }
    }
}

impl Inner {
    fn who(&self, asked: &wire::Asked) -> Result<Who, Fault> {
        let verifier = self.verifiers.iter().find(|(channel, _)| *channel == asked.channel);
        let (_, verifier) = verifier.ok_or(Fault::Channel)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let caller = verifier.caller(&asked.assertion, now.cast_signed())?;
        Ok(Who::is(&caller, |pk| self.register.terminal(pk))?)
    }
}

impl Fault {
    fn to_wire(&self) -> Status {
        let reason = match self {
            Self::Refused(Refused::NoKey(_)) => Reason::Unavailable,
            // The gateway comes again, with a new one.
            Self::Channel | Self::Refused(_) => {
                return Reason::Unauthenticated.to_wire("the assertion is not believed");
            }
            Self::Register(_) | Self::Random => Reason::Fault,
        };
        eprintln!("terminals: {self}");
        reason.to_wire("a fault")
    }
}

#[tonic::async_trait]
impl ChannelHandler for Channels {
    async fn can_subscribe(
        &self,
        request: Request<wire::CanSubscribeRequest>,
    ) -> Result<Response<wire::CanSubscribeReply>, Status> {
        self.judged(request.into_inner().asked, |_, who, asked| {
            Ok(wire::CanSubscribeReply { pks: who.hears(&asked.channel, asked.pk.as_deref()), whole: false })
        })
        .await
    }

    async fn can_publish(
        &self,
        request: Request<wire::CanPublishRequest>,
    ) -> Result<Response<wire::CanPublishReply>, Status> {
        self.judged(request.into_inner().asked, |_, who, asked| {
            Ok(wire::CanPublishReply { allowed: who.says(asked.pk.as_deref()) })
        })
        .await
    }

    async fn on_message(
        &self,
        request: Request<wire::MessageRequest>,
    ) -> Result<Response<wire::MessageReply>, Status> {
        let wire::MessageRequest { asked, action, message, .. } = request.into_inner();
        self.judged(asked, move |known, who, asked| {
            let at = (asked.channel.as_str(), asked.pk.as_deref());
            Ok(wire::MessageReply { outcome: Some(known.on_message(who, at, &action, &message)) })
        })
        .await
    }

    async fn on_online(
        &self,
        request: Request<wire::OnlineRequest>,
    ) -> Result<Response<wire::OnlineReply>, Status> {
        self.judged(request.into_inner().asked, |known, who, _| {
            let mut presence = vec![0; 16];
            getrandom::fill(&mut presence).map_err(|_| Fault::Random)?;
            if !known.on_online(who, &presence) {
                presence.clear();
            }
            Ok(wire::OnlineReply { presence })
        })
        .await
    }

    /// Nobody vouches for this one but the gateway: it is believed about what it was given.
    async fn on_offline(
        &self,
        request: Request<wire::OfflineRequest>,
    ) -> Result<Response<wire::OfflineReply>, Status> {
        let presence = request.into_inner().presence;
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).on_offline(&presence);
        Ok(Response::new(wire::OfflineReply {}))
    }
}

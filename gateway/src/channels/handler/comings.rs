//! Handlers are told who comes and who goes.

use std::{sync::Arc, time::Duration};

use doorward_proto::channel::v1 as proto;
use tokio::time::{sleep, timeout, timeout_at};
use tonic::{Code, Response};

use super::{Asker, Client, Handler, Handlers, No, Word, answers, no_place};
use crate::{
    backend::{Failure, lane::Lane},
    call::Address,
    channels::HandlerPlace,
};

/// Beside what clients ask, who has come and gone, and the most of that of one identity. It waits for its turn, too: a
/// handler is told of everybody, however many come at once.
const COMINGS: usize = 16;
const COMINGS_OF_ONE: usize = 4;
/// Before a handler that was not told of somebody is tried again; then twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a handler wants to have back when a connection holds the identity no more.
#[derive(Debug)]
pub struct Presence {
    handler: Arc<Handler>,
    who: Box<str>,
    word: Vec<u8>,
}

/// Where that waits.
pub(super) fn lane() -> Lane {
    Lane::new(COMINGS, COMINGS_OF_ONE)
}

impl Handlers {
    /// A connection holds an identity of the kind that the handler's channel is named after. It is tried until the handler
    /// has said something, or `gone`: that the connection holds it no more. None: then it is told nothing of the end.
    pub async fn online(
        &self,
        place: &Arc<HandlerPlace>,
        asker: &Asker,
        at: &Address,
        gone: &mut (impl Future + Unpin),
    ) -> Option<Presence> {
        self.appear(place, asker, at, gone).await
    }

    pub(super) async fn appear(
        &self,
        place: &Arc<HandlerPlace>,
        word: &impl Word,
        at: &Address,
        gone: &mut (impl Future + Unpin),
    ) -> Option<Presence> {
        let mut pause = PAUSE;
        loop {
            let handler = self.of(place).ok()?;
            let turn = tokio::select! {
                biased;
                _ = &mut *gone => return None,
                turn = handler.comings.turn(word.who()) => turn,
            };
            let held = (turn.ok_or_else(no_place), handler.due());
            // Waited for whether or not it is gone meanwhile: who was told that it came is told that it went.
            let reply = handler.ask(&self.0.keeper, word, at, held, |mut client: Client, asked| async move {
                match client.on_online(proto::OnlineRequest { asked: Some(asked) }).await {
                    // It has no such method, as one that does not care has not, and will have none.
                    Err(status) if status.code() == Code::Unimplemented => {
                        Ok(Response::new(proto::OnlineReply::default()))
                    }
                    answered => answered,
                }
            });
            match handler.said(reply.await, answers::presence) {
                Ok(word) if word.is_empty() => return None,
                Ok(presence) => return Some(Presence { handler, who: word.who().into(), word: presence }),
                Err(No::Refused(_)) => return None,
                Err(No::Unsaid(_) | No::Late) => {}
            }
            tokio::select! {
                biased;
                _ = &mut *gone => return None,
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    /// That connection holds it no more. Whoever was told of the beginning is told of the end, and nobody else.
    pub async fn offline(&self, presence: Presence) {
        self.disappear(presence, PAUSE_MAX).await;
    }

    /// A handler that has no turn for it so long has too much to do to hear of it, and is not told beside the others.
    pub(super) async fn disappear(&self, Presence { handler, who, word }: Presence, patience: Duration) {
        let Ok(Some(turn)) = timeout(patience, handler.comings.turn(&who)).await else {
            let _ = handler.said(Err(no_place()), |()| Ok(()));
            return;
        };
        let told = async {
            let mut client = handler.client().await?;
            let channel = handler.place.channel.as_str().to_owned();
            Ok(client.on_offline(proto::OfflineRequest { channel, presence: word }).await?)
        };
        let told = timeout_at(handler.due(), told).await;
        drop(turn);
        // It is told once; who cannot be told has to find out otherwise.
        let _ = handler.said(told.unwrap_or_else(|_| Err(Failure::late("offline"))), Ok);
    }
}

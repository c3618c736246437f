//! Sessions of others, asked of authd with the token of who asks: it believes no user name of ours.

use std::time::Duration;

use doorward_proto::authd::v1 as proto;
use tokio::time::{Instant, timeout_at};

use super::{Backend, Failure, Pass, certd::LISTING_MAX, wire};
use crate::call::{Answer, Error, ListedSession, SessionsRequest, Token};

/// For a whole listing.
const LISTING: Duration = Duration::from_secs(60);

impl Backend {
    /// Has authd answer, for the session of `pass`.
    pub async fn sessions(&self, pass: Option<Pass>, request: SessionsRequest) -> Result<Answer, Failure> {
        let token = pass.ok_or_else(Failure::unheld)?.0.token.clone();
        match request {
            SessionsRequest::List => Ok(Answer::Sessions(self.list_sessions(&token).await?)),
            SessionsRequest::End(None) => Err(Failure::new(Error::NotFound, "no session's name")),
            SessionsRequest::End(Some(session)) => {
                let name = session.0.hyphenated().to_string();
                let ended = self.end_other(&token, proto::end_other_request::Which::Session(name)).await?;
                // Before the stream of ended sessions tells it.
                self.table.with_memory(|memory| memory.give_back_named(session));
                Ok(ended)
            }
            SessionsRequest::EndOthers => {
                self.end_other(&token, proto::end_other_request::Which::Others(proto::Others {})).await
            }
        }
    }

    async fn end_other(
        &self,
        token: &Token,
        which: proto::end_other_request::Which,
    ) -> Result<Answer, Failure> {
        let request = proto::EndOtherRequest { token: token.expose().to_owned(), which: Some(which) };
        let mut client = self.sessions.clone();
        let reply = self.session_call("end_other", async move { client.end_other(request).await }).await?;
        Ok(Answer::Ended(reply.ended))
    }

    /// Those that began first first. One page is one question like others; who has more of them waits for one of a
    /// few places, since a long list is a lot of memory.
    async fn list_sessions(&self, token: &Token) -> Result<Vec<ListedSession>, Failure> {
        let mut sessions = Vec::new();
        let mut list = proto::SessionList { more: true, ..Default::default() };
        let whole = Instant::now() + LISTING;
        let late = |_| Failure::late("list");
        let (mut place, mut weight, mut after) = (None, 0_usize, String::new());
        while list.more {
            if !after.is_empty() && place.is_none() {
                place = Some(timeout_at(whole, self.listings.acquire()).await.map_err(late)?);
            }
            let request = proto::ListRequest { token: token.expose().to_owned(), after };
            let mut client = self.sessions.clone();
            let page = self.session_call("list", async move { client.list(request).await });
            list = timeout_at(whole, page).await.map_err(late)??;
            let last = list.sessions.last().map(|entry| entry.session.clone());
            after = match last {
                Some(last) => last,
                None if list.more => return Err(Failure::contract("a page of no sessions, and more")),
                None => String::new(),
            };
            for entry in std::mem::take(&mut list.sessions) {
                let session = wire::listed_session(entry)?;
                weight = weight.saturating_add(heavy(&session));
                if weight > LISTING_MAX {
                    return Err(Failure::new(Error::TooLarge, "the list is larger than clients are sent"));
                }
                sessions.push(session);
            }
        }
        sessions.sort_by_key(|session| (session.started, session.session.0));
        Ok(sessions)
    }
}

/// At least what a session takes up in a reply: text with every character escaped.
fn heavy(session: &ListedSession) -> usize {
    let texts = [&session.user, &session.method, &session.dialect, &session.source];
    224 + texts.iter().map(|text| text.len() * 6).sum::<usize>()
}

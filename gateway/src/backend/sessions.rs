//! Sessions of others, asked of authd with the token of who asks: it believes no user name of ours.

use std::{sync::Arc, time::Duration};

use doorward_proto::authd::v1 as proto;
use tokio::time::{Instant, timeout_at};

use super::{Backend, Failure, Pass, certd::LISTING_MAX, wire};
use crate::call::{Answer, Error, ListedSession, SessionsRequest};

/// For a whole listing.
const LISTING: Duration = Duration::from_secs(60);

impl Backend {
    /// Has authd answer, for the session of `pass`.
    pub async fn sessions(
        self: &Arc<Self>,
        pass: Option<Pass>,
        request: SessionsRequest,
    ) -> Result<Answer, Failure> {
        let pass = pass.ok_or_else(Failure::unheld)?;
        match request {
            SessionsRequest::List => Ok(Answer::Sessions(self.list_sessions(&pass).await?)),
            SessionsRequest::End(None) => Err(Failure::new(Error::NotFound, "no session's name")),
            SessionsRequest::End(Some(session)) => {
                let name = session.0.hyphenated().to_string();
                let ended = self.end_other(&pass, proto::end_other_request::Which::Session(name)).await?;
                // Before the stream of ended sessions tells it.
                self.table.with_memory(|memory| memory.give_back_named(session));
                Ok(ended)
            }
            SessionsRequest::EndOthers => {
                self.end_other(&pass, proto::end_other_request::Which::Others(proto::Others {})).await
            }
        }
    }

    async fn end_other(
        &self,
        pass: &Pass,
        which: proto::end_other_request::Which,
    ) -> Result<Answer, Failure> {
        let request = proto::EndOtherRequest { token: pass.0.token.expose().to_owned(), which: Some(which) };
        let mut client = self.sessions.clone();
        let call = async move { client.end_other(request).await };
        let reply = self.session_call("end_other", Some(pass.who()), call).await?;
        Ok(Answer::Ended(reply.ended))
    }

    /// Those that began first first. A list of one page is one question like others. A longer one is a lot of memory:
    /// it waits for one of a few places with nothing in hand, and begins again when it has one. Until it is taken it is
    /// counted as its identity's own: who does not read has no more of them made.
    async fn list_sessions(self: &Arc<Self>, pass: &Pass) -> Result<Vec<ListedSession>, Failure> {
        let mut list = List::default();
        let mut own = None;
        if list.take(self.page(pass, String::new()).await?)?.is_some() {
            drop(list);
            let whole = Instant::now() + LISTING;
            let turn = timeout_at(whole, self.listings.turn(pass.who()));
            let turn = async move { turn.await.ok().flatten().ok_or_else(|| Failure::late("list")) };
            let (backend, pass) = (Arc::clone(self), pass.clone());
            let running = self.keeper.run(Duration::ZERO, turn, move |turn| async move {
                let list = timeout_at(whole, backend.all_pages(&pass)).await;
                Ok((list.map_err(|_| Failure::late("list"))??, turn.over()))
            });
            (list, own) = running.await?;
        }
        let mut sessions = list.sessions;
        sessions.sort_by_key(|session| (session.started, session.session.0));
        drop(own);
        Ok(sessions)
    }

    async fn all_pages(&self, pass: &Pass) -> Result<List, Failure> {
        let mut list = List::default();
        let mut after = Some(String::new());
        while let Some(last) = after {
            after = list.take(self.page(pass, last).await?)?;
        }
        Ok(list)
    }

    async fn page(&self, pass: &Pass, after: String) -> Result<proto::SessionList, Failure> {
        let request = proto::ListRequest { token: pass.0.token.expose().to_owned(), after };
        let mut client = self.sessions.clone();
        self.session_call("list", Some(pass.who()), async move { client.list(request).await }).await
    }
}

/// What has come of a list.
#[derive(Default)]
struct List {
    sessions: Vec<ListedSession>,
    weight: usize,
}

impl List {
    /// Adds a page; after which session the next one begins, if there may be one.
    fn take(&mut self, page: proto::SessionList) -> Result<Option<String>, Failure> {
        let last = page.sessions.last().map(|entry| entry.session.clone());
        for entry in page.sessions {
            let session = wire::listed_session(entry)?;
            self.weight = self.weight.saturating_add(heavy(&session));
            if self.weight > LISTING_MAX {
                return Err(Failure::new(Error::TooLarge, "the list is larger than clients are sent"));
            }
            self.sessions.push(session);
        }
        match (page.more, last) {
            (false, _) => Ok(None),
            (true, Some(last)) => Ok(Some(last)),
            (true, None) => Err(Failure::contract("a page of no sessions, and more")),
        }
    }
}

/// At least what a session takes up in a reply: text with every character escaped.
fn heavy(session: &ListedSession) -> usize {
    let texts = [&session.user, &session.method, &session.dialect, &session.source];
    224 + texts.iter().map(|text| text.len() * 6).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: std::ops::Range<u128>, more: bool) -> proto::SessionList {
        let entry = |name| proto::SessionEntry {
            session: uuid::Uuid::from_u128(name).to_string(),
            user: "u".repeat(32),
            method: "password".into(),
            dialect: "sysadm".into(),
            ..Default::default()
        };
        proto::SessionList { sessions: names.map(entry).collect(), more }
    }

    #[test]
    fn the_next_page_begins_after_the_last_session() {
        let mut list = List::default();
        let last = list.take(page(1..3, true)).expect("taken");
        assert_eq!(last, Some(uuid::Uuid::from_u128(2).to_string()));
        assert_eq!(list.take(page(3..4, false)).expect("taken"), None);
        assert_eq!(list.sessions.len(), 3);
    }

    #[test]
    fn nobody_is_led_on_for_ever() {
        assert!(List::default().take(page(0..0, true)).is_err(), "nothing, and more");
        // The same page again and again.
        let mut list = List::default();
        let end = (0..LISTING_MAX).find_map(|_| list.take(page(1..65, true)).err()).expect("an end");
        assert_eq!(end.error, Error::TooLarge);
    }
}

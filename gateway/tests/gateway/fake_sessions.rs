//! The fake authd's sessions: looked at, listed, ended, and told when they end.

use doorward_proto::authd::v1::{self as proto, ended_event, sessions_server};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::fake_authd::{Granted, Service, failure};

#[tonic::async_trait]
impl sessions_server::Sessions for Service {
    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::Session>, Status> {
        let request = request.into_inner();
        let used = if request.used_ms_ago.is_some() { "used" } else { "unused" };
        self.0.note("check", used, request.token.as_str());
        if request.dialect() == proto::Dialect::Sysadm {
            let sessions = self.0.sessions.lock().expect("not poisoned");
            if sessions.get(&request.token).is_some_and(|granted| granted.token.is_some()) {
                return Err(failure("NotFound"));
            }
        }
        self.0.session(&request.token).map(Response::new).ok_or_else(|| failure("NotFound"))
    }

    async fn end(&self, request: Request<proto::EndRequest>) -> Result<Response<proto::EndReply>, Status> {
        let token = request.into_inner().token;
        let ended = self.0.session(&token).is_some();
        self.0.end(&token, proto::EndReason::Cleared);
        // Whoever waits for this finds it ended.
        self.0.note("end", "", token.as_str());
        Ok(Response::new(proto::EndReply { ended }))
    }

    async fn report_activity(
        &self,
        request: Request<proto::ActivityReport>,
    ) -> Result<Response<proto::ActivityReply>, Status> {
        let tokens: Vec<_> =
            request.into_inner().activities.into_iter().map(|activity| activity.token).collect();
        self.0.note("report", "", tokens.join(","));
        Ok(Response::new(proto::ActivityReply {}))
    }

    type WatchEndedStream = std::pin::Pin<Box<dyn Stream<Item = Result<proto::EndedEvent, Status>> + Send>>;

    async fn watch_ended(
        &self,
        _: Request<proto::WatchEndedRequest>,
    ) -> Result<Response<Self::WatchEndedStream>, Status> {
        let mut hush = self.0.hush.subscribe();
        if *hush.borrow_and_update() % 2 == 1 {
            return Err(failure("Unavailable"));
        }
        let news = self.0.news.subscribe();
        self.0.watchers.send_modify(|count| *count += 1);
        let ready = proto::EndedEvent { kind: Some(ended_event::Kind::Ready(proto::Ready {})) };
        let told = futures_util::stream::unfold((news, hush), |(mut news, mut hush)| async move {
            let event = tokio::select! {
                event = news.recv() => event.ok()?,
                _ = hush.changed() => return None,
            };
            Some((Ok(proto::EndedEvent { kind: Some(event) }), (news, hush)))
        });
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(ready)).chain(told))))
    }

    /// Everybody's, the caller's own first, one on each page.
    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::SessionList>, Status> {
        let proto::ListRequest { token, after } = request.into_inner();
        self.0.note("list", &after, token.as_str());
        if !after.is_empty() {
            self.0.pages.subscribe().wait_for(|answered| *answered).await.expect("the fake is there");
        }
        self.0.lists_wait.subscribe().wait_for(|wait| !wait).await.expect("the fake lives");
        let sessions = self.0.sessions.lock().expect("not poisoned");
        if !sessions.contains_key(&token) {
            return Err(failure("Unauthenticated"));
        }
        let copies = *self.0.copies.lock().expect("not poisoned") as u128;
        // Copies have the names that follow.
        let all = sessions.iter().flat_map(|(of, granted)| (0..copies).map(move |copy| (of, granted, copy)));
        let named = |(_, granted, copy): &(&String, &Granted, u128)| {
            uuid::Uuid::from_u128(granted.session.as_u128().wrapping_add(*copy))
        };
        let after = uuid::Uuid::try_parse(&after).ok();
        // By what its copies are named after, since there may be thousands.
        let before = after.map_or(0, |after| {
            let copy = |granted: &Granted| after.as_u128().wrapping_sub(granted.session.as_u128());
            let at = sessions.values().position(|granted| copy(granted) < copies);
            let copy = at.and_then(|at| sessions.values().nth(at)).map_or(0, copy);
            at.map_or(0, |at| {
                at * usize::try_from(copies).expect("few") + usize::try_from(copy).expect("few") + 1
            })
        });
        let entry = |one: (&String, &Granted, u128)| proto::SessionEntry {
            session: named(&one).to_string(),
            user: one.1.user.clone(),
            method: "fake".to_owned(),
            dialect: "sysadm".to_owned(),
            source: String::new(),
            started: 1_000,
            last_used: 2_000,
            current: *one.0 == token && one.2 == 0,
        };
        let mut rest = all.skip(before);
        let page = rest.by_ref().take(if copies == 1 { 1 } else { 64 }).map(entry).collect();
        Ok(Response::new(proto::SessionList { sessions: page, more: rest.next().is_some() }))
    }

    async fn end_other(
        &self,
        request: Request<proto::EndOtherRequest>,
    ) -> Result<Response<proto::EndOtherReply>, Status> {
        let proto::EndOtherRequest { token, which } = request.into_inner();
        let sessions = self.0.sessions.lock().expect("not poisoned").clone();
        let caller = sessions.get(&token).ok_or_else(|| failure("Unauthenticated"))?;
        let ends = |(of, granted): &(&String, &Granted)| match which.as_ref().expect("which") {
            proto::end_other_request::Which::Session(name) => granted.session.to_string() == *name,
            proto::end_other_request::Which::Others(_) => granted.user == caller.user && **of != token,
        };
        let due: Vec<_> = sessions.iter().filter(ends).map(|(token, _)| token).collect();
        if due.is_empty() && matches!(which, Some(proto::end_other_request::Which::Session(_))) {
            return Err(failure("NotFound"));
        }
        for token in &due {
            self.0.end(token, proto::EndReason::Revoked);
        }
        self.0.note("end_other", "", token.as_str());
        Ok(Response::new(proto::EndOtherReply { ended: u32::try_from(due.len()).expect("few") }))
    }

    type LogsStream = std::pin::Pin<Box<dyn Stream<Item = Result<proto::LogsPart, Status>> + Send>>;

    /// One record of the caller's, in the moment that is asked for.
    async fn logs(&self, request: Request<proto::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let proto::LogsRequest { token, from, until, skip, most } = request.into_inner();
        self.0.note("logs", &format!("{from}-{until}-{skip}-{most}"), token.as_str());
        let user = self.0.session(&token).ok_or_else(|| failure("Unauthenticated"))?.user;
        let line = format!(
            r#"{{"time":"2026-11-23T10:11:12.002Z","id":"a-1","event":"login","service":"doorward-authd","user":"{user}"}}"#
        );
        let end = proto::LogsEnd { more: true, user, uid: 1000, ..Default::default() };
        let parts = [
            proto::LogsPart { lines: vec![line], end: None },
            proto::LogsPart { lines: Vec::new(), end: Some(end) },
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(parts.map(Ok)))))
    }

    async fn assert(
        &self,
        request: Request<proto::AssertRequest>,
    ) -> Result<Response<proto::Assertion>, Status> {
        let proto::AssertRequest { token, audience } = request.into_inner();
        self.0.note("assert", "", token.as_str());
        let user = self.0.session(&token).ok_or_else(|| failure("NotFound"))?.user;
        let mut number = self.0.assertions.lock().expect("not poisoned");
        let jwt = format!("{user} {audience} {number}");
        *number += 1;
        let valid = *self.0.assertion_valid.lock().expect("not poisoned");
        let valid_ms = u64::try_from(valid.as_millis()).expect("short");
        Ok(Response::new(proto::Assertion { jwt, valid_ms }))
    }
}

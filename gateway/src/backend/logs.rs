//! Audit records of all services, merged by time. Whose a session sees each service decides by itself: authd by
//! the token, certd by authd's word; of its own the gateway shows what authd says that the session may see.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use doorward_launch::audit::{Audit, Found, LINE_MAX, Moment, Unread, Wanted, Whose};
use doorward_proto::authd::v1 as proto;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Backend, Failure, Pass};
use crate::{
    call::{Answer, Cursor, Error, LogsRequest, Place, Records, Secret, Service, Token},
    depth::deeper_than,
};

/// The most readings at once: as many as each service does at once.
pub(super) const AT_ONCE: usize = 2;
/// How deeply a record is nested: not at all, and a little more for what is added some day.
const DEPTH: usize = 4;
/// For all of it.
const WHOLE: Duration = Duration::from_secs(20);
/// Without a beginning: as the original has it.
const SPAN: u64 = 12 * 3_600 * 1_000;
/// What the records of a reply may weigh.
const REPLY_MAX: usize = 1 << 20;
/// What one service may send: a little more than it should.
const SENT_MAX: usize = 2 << 20;

/// What one service has.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) lines: Vec<String>,
    pub(super) more: bool,
    pub(super) unread: bool,
}

/// The time that is asked for, and how many of its first moment are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) known: [u32; 3],
    pub(super) most: u32,
}

impl Span {
    fn of(request: &LogsRequest, now: u64) -> Self {
        let (from, until, known) = match request.place {
            Place::After(Cursor { from, until, known }) => (from, until, known),
            Place::Span(from, until) => {
                let until = until.map_or(now.saturating_add(1), |when| when.at(now));
                (from.map_or(until.saturating_sub(SPAN), |when| when.at(now)), until, [0; 3])
            }
        };
        Self { from, until, known, most: u32::try_from(request.most).unwrap_or(u32::MAX) }
    }
}

impl Backend {
    /// The records that the session of `pass` may see; `audit` is the gateway's own. One reading of a user's at
    /// a time: each is tens of megabytes of work for three services.
    pub async fn logs(
        self: &Arc<Self>,
        audit: Audit,
        pass: Option<Pass>,
        request: LogsRequest,
    ) -> Result<Answer, Failure> {
        let pass = pass.ok_or_else(Failure::unheld)?;
        let turn = Turn::of(&self.reading, &pass.0.auth_id);
        let turn = turn.ok_or_else(|| Failure::new(Error::TooMany, "the same user reads records already"))?;
        let whole = Instant::now() + WHOLE;
        let place = timeout_at(whole, Arc::clone(&self.log_readers).acquire_owned());
        let place = async move { place.await.ok().and_then(Result::ok).ok_or_else(|| Failure::late("logs")) };
        let backend = Arc::clone(self);
        // Whoever hangs up has nobody read less, and takes no stream away that others share. Whoever does not read keeps
        // nothing but its own turn.
        let running = self.keeper.run(WHOLE, place, move |place| async move {
            let _place = place;
            Ok((backend.read_logs(audit, pass, request, whole).await?, turn))
        });
        let (answer, _turn) = running.await?;
        Ok(answer)
    }

    async fn read_logs(
        &self,
        audit: Audit,
        pass: Pass,
        request: LogsRequest,
        whole: Instant,
    ) -> Result<Answer, Failure> {
        let late = |_| Failure::late("logs");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let span = Span::of(&request, u64::try_from(now).unwrap_or(u64::MAX));
        let all = async {
            let wants = |service| request.of.as_ref().is_none_or(|of| of.contains(&service));
            let mut missing = Vec::new();
            // Also where its records are not wanted: it says whose the session may see.
            let (authd, whose) = self.logs_of_authd(&pass.0.token, span).await?;
            let certd = match wants(Service::Certd) {
                true => self.logs_of_certd(&pass, span).await,
                false => Ok(Part::default()),
            };
            let certd = match certd {
                Err(Failure { error: Error::Unavailable, .. }) => {
                    missing.push(Service::Certd.name());
                    Part::default()
                }
                part => part?,
            };
            let gateway = match wants(Service::Gateway) {
                true => own(&audit, span, whose).await?,
                false => Part::default(),
            };
            let authd = if wants(Service::Authd) { authd } else { Part::default() };
            let mut records = merged([authd, certd, gateway], span)?;
            records.missing = missing;
            Ok(Answer::Records(records))
        };
        timeout_at(whole, all).await.map_err(late)?
    }

    async fn logs_of_authd(&self, token: &Token, span: Span) -> Result<(Part, Whose), Failure> {
        let [skip, ..] = span.known;
        let Span { from, until, most, .. } = span;
        let token = token.expose().to_owned();
        let request = proto::LogsRequest { token, from, until, skip, most };
        let (mut client, deadline) = (self.sessions.clone(), self.settings.call);
        let late = |_| Failure::late("logs");
        let mut stream = timeout(deadline, client.logs(request)).await.map_err(late)??.into_inner();
        let (mut part, mut bytes) = (Part::default(), 0);
        while let Some(proto::LogsPart { lines, end }) =
            timeout(deadline, stream.message()).await.map_err(late)??
        {
            part.take(lines, &mut bytes)?;
            if let Some(end) = end {
                (part.more, part.unread) = (end.more, end.unread);
                let whose = match end.everybody {
                    true => Whose::All,
                    false => Whose::One { user: end.user, uid: Some(end.uid) },
                };
                return Ok((part, whose));
            }
        }
        Err(Failure::contract("records without an end"))
    }

    async fn logs_of_certd(&self, pass: &Pass, span: Span) -> Result<Part, Failure> {
        let Some(certd) = &self.certd else { return Ok(Part::default()) };
        self.as_holder(pass, |assertion: Secret| async move { certd.logs(&assertion, span).await }).await
    }
}

/// The users who read records now.
#[derive(Debug, Default)]
pub(super) struct Reading(Mutex<BTreeSet<Box<str>>>);

/// Somebody's turn, until it is dropped.
struct Turn {
    reading: Arc<Reading>,
    who: Box<str>,
}

impl Turn {
    fn of(reading: &Arc<Reading>, who: &str) -> Option<Self> {
        let mut now = reading.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.insert(who.into()).then(|| Self { reading: Arc::clone(reading), who: who.into() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.reading.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.who);
    }
}

impl Part {
    pub(super) fn take(&mut self, lines: Vec<String>, bytes: &mut usize) -> Result<(), Failure> {
        *bytes += lines.iter().map(String::len).sum::<usize>();
        if *bytes > SENT_MAX {
            return Err(Failure::contract("more records than were asked for"));
        }
        self.lines.extend(lines);
        Ok(())
    }
}

async fn own(audit: &Audit, span: Span, whose: Whose) -> Result<Part, Failure> {
    let [.., skip] = span.known;
    let Span { from, until, most, .. } = span;
    let wanted = Wanted { from, until, skip: skip as usize, most: most as usize, whose };
    let found = audit.read(wanted).await.map_err(|unread| {
        let error = match &unread {
            Unread::Busy => Error::TooMany,
            Unread::Late => Error::TimedOut,
            Unread::File(_) | Unread::Io(_) => Error::Unavailable,
            Unread::Broken => Error::Fault,
        };
        Failure::new(error, unread.to_string())
    })?;
    let Found { lines, more, unread } = found;
    Ok(Part { lines, more, unread })
}

/// The oldest of all parts, as many as a reply takes, and where to go on. A part that has more ends later than
/// the reply does, because it alone has as much as a reply takes.
fn merged(parts: [Part; 3], span: Span) -> Result<Records, Failure> {
    let mut more = parts.iter().any(|part| part.more);
    let unread = Service::ALL.iter().zip(&parts).filter(|(_, part)| part.unread);
    let unread = unread.map(|(service, _)| service.name()).collect();
    let mut all = Vec::new();
    for ((place, part), service) in parts.into_iter().enumerate().zip(Service::ALL) {
        for line in part.lines {
            // Nobody speaks for another service, or of another time.
            let moment = (line.len() < LINE_MAX && !deeper_than(&line, DEPTH))
                .then(|| Moment::of(&line, service.program()))
                .flatten()
                .filter(|moment| (span.from..span.until).contains(&moment.time))
                .ok_or_else(|| Failure::contract("a record that is none"))?;
            all.push((moment.time, place, moment, line));
        }
    }
    all.sort_unstable_by_key(|(time, place, moment, _)| (*time, *place, *moment));
    let (mut lines, mut bytes, mut next) = (Vec::new(), 0, None);
    for (time, place, _, line) in all {
        bytes += line.len() + 1;
        if lines.len() >= span.most as usize || bytes > REPLY_MAX {
            more = true;
            break;
        }
        let cursor = next.get_or_insert(Cursor { from: span.from, until: span.until, known: span.known });
        if cursor.from != time {
            (cursor.from, cursor.known) = (time, [0; 3]);
        }
        if let Some(known) = cursor.known.get_mut(place) {
            *known += 1;
        }
        lines.push(line);
    }
    Ok(Records { lines, next: next.filter(|_| more), unread, missing: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(service: &str, millis: u64, number: u64) -> String {
        let time = format!("2026-11-23T10:11:12.{millis:03}Z");
        format!(r#"{{"time":"{time}","id":"0-{number}","event":"login","service":"doorward-{service}"}}"#)
    }

    const BEGIN: u64 = 1_795_428_672_000;

    /// Of each service, by milliseconds and number.
    fn parts(of: [&[(u64, u64)]; 3]) -> [Part; 3] {
        let mut parts: [Part; 3] = Default::default();
        for ((part, service), lines) in parts.iter_mut().zip(Service::ALL).zip(of) {
            part.lines =
                lines.iter().map(|(millis, number)| line_of(service.name(), *millis, *number)).collect();
        }
        parts
    }

    fn span(most: u32) -> Span {
        Span { from: BEGIN, until: BEGIN + 1_000, known: [0; 3], most }
    }

    #[test]
    fn records_of_all_are_in_order_and_the_cursor_counts_those_of_its_moment() {
        let given = || parts([&[(1, 1), (3, 2), (3, 3)], &[(2, 4), (3, 5)], &[(0, 6), (3, 7), (9, 8)]]);
        let all = merged(given(), span(100)).expect("merged");
        let (a, c, g) = ("authd", "certd", "gateway");
        let order = [(g, 0, 6), (a, 1, 1), (c, 2, 4), (a, 3, 2), (a, 3, 3), (c, 3, 5), (g, 3, 7), (g, 9, 8)];
        assert_eq!(all.lines, order.map(|(of, millis, number)| line_of(of, millis, number)));
        assert_eq!(all.next, None);
        let some = merged(given(), span(6)).expect("merged");
        assert_eq!((some.lines.len(), some.next.map(|next| next.known)), (6, Some([2, 1, 0])));
        assert_eq!(some.next.map(|next| (next.from, next.until)), Some((BEGIN + 3, BEGIN + 1_000)));
        // Going on: two of authd's and one of certd's are left out by them.
        let on = Span { from: BEGIN + 3, known: [2, 1, 0], ..span(1) };
        let rest = merged(parts([&[], &[], &[(3, 7), (9, 8)]]), on).expect("merged");
        assert_eq!((rest.lines, rest.next.map(|next| next.known)), (vec![line_of(g, 3, 7)], Some([2, 1, 1])));
    }

    #[test]
    fn a_reply_has_a_bound_and_what_is_no_record_is_a_fault() {
        let heavy = |number: u64| {
            line_of("authd", 1, number)
                .replace("login\"", &format!("login\",\"user\":\"{}\"", "x".repeat(1_000)))
        };
        let heavy = Part { lines: (0..2_000).map(heavy).collect(), ..Part::default() };
        let some = merged([heavy, Part::default(), Part::default()], span(10_000)).expect("merged");
        let bytes: usize = some.lines.iter().map(|line| line.len() + 1).sum();
        assert!(some.next.is_some() && bytes <= REPLY_MAX && bytes > REPLY_MAX - 2_048, "{bytes}");
        let good = line_of("authd", 1, 1);
        let later = line_of("authd", 999, 1).replace("11:12", "11:13");
        for wrong in [
            "{}".to_owned(),
            line_of("certd", 1, 1),
            line_of("authd", 1, 1).replace("11:12", "11:11"),
            later,
            format!("[{good}]"),
            good.replace("{", &format!("{{\"x\":{}{},", "[".repeat(4), "]".repeat(4))),
            good.replace("{", &format!("{{\"x\":\"{}\",", "x".repeat(2_000))),
        ] {
            let wrong_part = Part { lines: vec![wrong.clone()], ..Part::default() };
            let merged = merged([wrong_part, Part::default(), Part::default()], span(1));
            assert!(merged.is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_user_reads_once_at_a_time() {
        let reading = Arc::new(Reading::default());
        let turn = Turn::of(&reading, "1000").expect("nobody reads");
        assert!(Turn::of(&reading, "1000").is_none() && Turn::of(&reading, "1001").is_some());
        drop(turn);
        assert!(Turn::of(&reading, "1000").is_some());
    }

    #[test]
    fn without_a_beginning_it_is_twelve_hours() {
        let request = LogsRequest { place: Place::Span(None, None), most: 1, of: None };
        let now = 1_000 * SPAN;
        let span = Span::of(&request, now);
        assert_eq!((span.from, span.until), (now + 1 - SPAN, now + 1), "what is recorded now is in it");
        let ago = Some(crate::call::When::Ago(5));
        let request = LogsRequest { place: Place::Span(ago, Some(crate::call::When::At(7))), ..request };
        let span = Span::of(&request, now);
        assert_eq!((span.from, span.until), (now - 5, 7));
    }
}

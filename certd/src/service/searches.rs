//! One unhinted search at a time for a source: a search may try 1,000 keys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CertError;

/// Searches of one source that wait or run.
const PER_SOURCE: usize = 8;
/// Sources that search at a time.
const SOURCES: usize = 1024;

type Sources = Mutex<HashMap<String, (Arc<Semaphore>, usize)>>;

/// Who is searching.
#[derive(Debug, Default)]
pub(super) struct Searches(Arc<Sources>);

/// A source's turn; the next one begins when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    sources: Arc<Sources>,
    source: String,
}

impl Searches {
    /// Waits for the source's turn. The caller has a deadline.
    pub(super) async fn turn(&self, source: &str) -> Result<Turn, CertError> {
        let (place, turn) = self.place(source)?;
        let permit = turn.acquire_owned().await.map_err(|_| CertError::Stopping)?;
        Ok(Turn { _permit: permit, _place: place })
    }

    fn place(&self, source: &str) -> Result<(Place, Arc<Semaphore>), CertError> {
        let source = &host(source);
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES && !sources.contains_key(source) {
            return Err(CertError::Busy);
        }
        let (turn, waiting) =
            sources.entry(source.to_owned()).or_insert_with(|| (Arc::new(Semaphore::new(1)), 0));
        if *waiting >= PER_SOURCE {
            return Err(CertError::Busy);
        }
        *waiting += 1;
        Ok((Place { sources: self.0.clone(), source: source.to_owned() }, turn.clone()))
    }
}

/// As whom a source has its turn; what is no address is a user, by uid.
fn host(source: &str) -> String {
    source.parse().map_or_else(|_| source.to_owned(), |address| doorward_launch::counted(address).to_string())
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, waiting)) = sources.get_mut(&self.source) {
            *waiting -= 1;
            if *waiting == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn one_source_takes_turns_and_others_do_not_wait() {
        let searches = Searches::default();
        let first = searches.turn("a").await.expect("free");
        let mut second = pin!(searches.turn("a"));
        assert!(poll!(second.as_mut()).is_pending());
        let other = searches.turn("b").await.expect("another source");
        drop(first);
        let second = match poll!(second.as_mut()) {
            Poll::Ready(turn) => turn.expect("free"),
            Poll::Pending => panic!("the turn is over"),
        };
        drop((second, other));
        assert!(searches.0.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn a_host_has_one_turn_by_whichever_of_its_addresses() {
        let searches = Searches::default();
        let _first = searches.turn("2001:db8:1:2::1").await.expect("free");
        let mut same = pin!(searches.turn("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(poll!(same.as_mut()).is_pending());
        for other in ["2001:db8:1:3::1", "192.0.2.1", "192.0.2.2", "uid 1000"] {
            searches.turn(other).await.expect(other);
        }
        let _mapped = searches.turn("::ffff:192.0.2.1").await.expect("free");
        let mut same = pin!(searches.turn("192.0.2.1"));
        assert!(poll!(same.as_mut()).is_pending());
        let _loopback = searches.turn("127.0.0.1").await.expect("free");
        for same in ["127.9.9.9", "::1"] {
            let mut same = pin!(searches.turn(same));
            assert!(poll!(same.as_mut()).is_pending());
        }
    }

    #[tokio::test]
    async fn those_that_wait_are_bounded_and_leave_when_they_give_up() {
        let searches = Searches::default();
        let first = searches.turn("a").await.expect("free");
        let mut waiting: Vec<_> = (1..PER_SOURCE).map(|_| Box::pin(searches.turn("a"))).collect();
        for turn in &mut waiting {
            assert!(poll!(turn.as_mut()).is_pending());
        }
        assert!(matches!(searches.turn("a").await, Err(CertError::Busy)));
        drop(waiting);
        let mut again = pin!(searches.turn("a"));
        assert!(poll!(again.as_mut()).is_pending());
        drop(first);
        assert!(poll!(again.as_mut()).is_ready());
    }
}

//! Calls that are never dropped half-way.
//!
//! Dropping a call resets its stream, and a server that was sent enough resets closes the connection,
//! which all clients share: whoever hangs up often enough would end the calls of everybody else.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{runtime::Handle, select, sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::call::Error;

/// Takes over the calls that nobody waits for any more.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    tasks: TaskTracker,
    runtime: Handle,
}

impl Keeper {
    /// On a runtime.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { tasks, runtime: Handle::current() }
    }

    /// A call that runs where it is waited for, and by itself if it is dropped after it has begun: for
    /// `limit` at most. What it brings then goes to `unheard`.
    pub(crate) fn keep<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = T> + Send + 'static,
        unheard: impl FnOnce(T) + Send + 'static,
    ) -> Kept<T> {
        let parts = Parts { call: Box::pin(call), unheard: Box::new(unheard) };
        Kept { parts: Some(parts), begun: false, limit, keeper: self.clone() }
    }
}

impl Keeper {
    /// A call that runs by itself from the beginning, in a `place` that all share: whoever waits for it may be held up, by a
    /// client that does not read, and holds up nobody else. If nobody waits any more it is not begun, or goes on for
    /// `limit` at most.
    pub(crate) fn run<P, T, Place, Call, Calling>(
        &self,
        limit: Duration,
        place: Place,
        call: Call,
    ) -> impl Future<Output = Result<T, Failure>> + Send + use<P, T, Place, Call, Calling>
    where
        P: Send + 'static,
        T: Send + 'static,
        Place: Future<Output = Result<P, Failure>> + Send + 'static,
        Call: FnOnce(P) -> Calling + Send + 'static,
        Calling: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let (mut answer, answered) = oneshot::channel();
        let running = async move {
            let place = select! {
                biased;
                () = answer.closed() => return,
                place = place => place,
            };
            let result = match place {
                Err(failure) => Err(failure),
                Ok(place) => {
                    let mut call = pin!(call(place));
                    select! {
                        biased;
                        result = &mut call => result,
                        () = answer.closed() => match timeout(limit, call).await {
                            Ok(result) => result,
                            Err(_) => return,
                        },
                    }
                }
            };
            // Whoever waited may have gone by now.
            let _ = answer.send(result);
        };
        self.tasks.spawn_on(running, &self.runtime);
        async move { answered.await.unwrap_or_else(|_| Err(Failure::new(Error::Fault, "the call was lost"))) }
    }
}

/// See [`Keeper::keep`].
pub(crate) struct Kept<T: Send + 'static> {
    /// `None` once the call is over.
    parts: Option<Parts<T>>,
    begun: bool,
    limit: Duration,
    keeper: Keeper,
}

struct Parts<T> {
    call: Pin<Box<dyn Future<Output = T> + Send>>,
    unheard: Box<dyn FnOnce(T) + Send>,
}

impl<T: Send + 'static> Future for Kept<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(parts) = &mut self.parts else { return Poll::Pending };
        let poll = parts.call.as_mut().poll(context);
        if poll.is_ready() {
            self.parts = None;
        }
        poll
    }
}

impl<T: Send + 'static> Drop for Kept<T> {
    fn drop(&mut self) {
        let Some(Parts { call, unheard }) = self.parts.take().filter(|_| self.begun) else { return };
        let limit = self.limit;
        let rest = async move {
            if let Ok(brought) = timeout(limit, call).await {
                unheard(brought);
            }
        };
        self.keeper.tasks.spawn_on(rest, &self.keeper.runtime);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_goes_on_and_what_has_not_does_not() {
        for begun in [false, true] {
            let keeper = Keeper::new(TaskTracker::new());
            let (go, gone) = oneshot::channel::<u8>();
            let (tell, told) = oneshot::channel();
            let mut kept = keeper.keep(LONG, gone, move |brought| drop(tell.send(brought)));
            if begun {
                assert!(futures_util::poll!(&mut kept).is_pending());
            }
            drop(kept);
            assert_eq!(go.send(7).is_ok(), begun);
            assert_eq!(told.await.is_ok(), begun);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_has_an_end() {
        let keeper = Keeper::new(TaskTracker::new());
        let (mut go, gone) = oneshot::channel::<u8>();
        let mut kept = keeper.keep(LONG, gone, drop);
        assert!(futures_util::poll!(&mut kept).is_pending());
        drop(kept);
        go.closed().await;
        keeper.tasks.close();
        keeper.tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_by_itself_is_held_up_by_nobody_who_waits_for_it() {
        let keeper = Keeper::new(TaskTracker::new());
        let places = Arc::new(Semaphore::new(1));
        let place = || {
            let places = Arc::clone(&places);
            async move { places.acquire_owned().await.map_err(Failure::fault) }
        };
        // Nobody polls the first.
        let first = keeper.run(LONG, place(), async |_place| Ok(1));
        let second = keeper.run(LONG, place(), async |_place| Ok(2));
        assert_eq!(second.await.expect("it has had its place"), 2);
        assert_eq!(first.await.expect("it is there"), 1);
        // What has no place yet when its client leaves is not begun; what has goes on, for a while.
        let (go, gone) = oneshot::channel::<()>();
        let begun = keeper.run(LONG, place(), async |_place| gone.await.map_err(Failure::fault));
        let (begins, beginning) = oneshot::channel::<()>();
        let not_begun = keeper.run(LONG, place(), async move |_place| Ok(begins.send(())));
        let left = keeper.run(Duration::ZERO, async { Ok(()) }, async |()| {
            std::future::pending::<Result<(), Failure>>().await
        });
        tokio::task::yield_now().await;
        drop((begun, not_begun, left));
        assert!(beginning.await.is_err(), "it was not begun");
        assert_eq!((places.available_permits(), keeper.tasks.len()), (0, 1));
        go.send(()).expect("it goes on");
        keeper.tasks.close();
        keeper.tasks.wait().await;
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn who_waits_gets_it() {
        let keeper = Keeper::new(TaskTracker::new());
        let kept = keeper.keep(LONG, async { 7 }, |_| panic!("it was heard"));
        assert_eq!(kept.await, 7);
        assert!(keeper.tasks.is_empty());
    }
}

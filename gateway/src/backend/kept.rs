//! Calls that are never dropped half-way, and that wait for nobody.
//!
//! Dropping a call resets its stream, and a server that was sent enough resets closes the connection,
//! which all clients share: whoever hangs up often enough would end the calls of everybody else.
//! And a call that only its client's connection drives stands still while that client does not read, in a place
//! that others wait for.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{runtime::Handle, select, sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::call::Error;

/// Runs the calls.
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

    /// A call that begins where it is waited for, so that what is sent after it does not overtake it, and runs by
    /// itself from then on: if nobody waits any more, for `limit` at most. What it brings to nobody goes to `unheard`.
    pub(crate) fn keep<T, E>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, E>> + Send + 'static,
        unheard: impl FnOnce(T) + Send + 'static,
    ) -> Kept<T>
    where
        T: Send + 'static,
        Failure: From<E>,
    {
        // What is not heard may be found anywhere.
        let runtime = self.runtime.clone();
        let unheard = move |value| {
            let _on = runtime.enter();
            unheard(value);
        };
        let parts = Parts { call: Box::pin(call.map(|result| Ok(result?))), unheard: Box::new(unheard) };
        Kept { here: Some(parts), away: None, limit, keeper: self.clone() }
    }

    /// A call that runs by itself from the beginning, in a `place` that all share. If nobody waits any more it is not
    /// begun, or goes on for `limit` at most.
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
                Err(failure) => Some(Err(failure)),
                Ok(place) => whole(limit, call(place), &mut answer).await,
            };
            if let Some(result) = result {
                // Whoever waited may have gone by now.
                let _ = answer.send(result);
            }
        };
        self.tasks.spawn_on(running, &self.runtime);
        async move { answered.await.unwrap_or_else(|_| Err(lost())) }
    }

    fn send_away<T: Send + 'static>(
        &self,
        limit: Duration,
        parts: Parts<T>,
    ) -> oneshot::Receiver<Brought<T>> {
        let Parts { call, unheard } = parts;
        let (mut answer, answered) = oneshot::channel();
        let rest = async move {
            if let Some(result) = whole(limit, call, &mut answer).await {
                // If it is not received it is dropped, here or where it is, and so unheard.
                let _ = answer.send(Brought(Some((result, unheard))));
            }
        };
        self.tasks.spawn_on(rest, &self.runtime);
        answered
    }
}

/// What it brings; after nobody waits any more, only within `limit`.
async fn whole<T, A>(
    limit: Duration,
    call: impl Future<Output = T>,
    answer: &mut oneshot::Sender<A>,
) -> Option<T> {
    let mut call = std::pin::pin!(call);
    select! {
        biased;
        result = &mut call => Some(result),
        () = answer.closed() => timeout(limit, call).await.ok(),
    }
}

fn lost() -> Failure {
    Failure::new(Error::Fault, "the call was lost")
}

/// See [`Keeper::keep`].
pub(crate) struct Kept<T: Send + 'static> {
    /// Until it is waited for.
    here: Option<Parts<T>>,
    /// From then on, until it is over.
    away: Option<oneshot::Receiver<Brought<T>>>,
    limit: Duration,
    keeper: Keeper,
}

struct Parts<T> {
    call: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>,
    unheard: Unheard<T>,
}

type Unheard<T> = Box<dyn FnOnce(T) + Send>;

/// For whoever takes it, or else for [`Unheard`].
struct Brought<T>(Option<(Result<T, Failure>, Unheard<T>)>);

impl<T> Brought<T> {
    fn take(mut self) -> Result<T, Failure> {
        self.0.take().map_or_else(|| Err(lost()), |(result, _)| result)
    }
}

impl<T> Drop for Brought<T> {
    fn drop(&mut self) {
        if let Some((Ok(value), unheard)) = self.0.take() {
            unheard(value);
        }
    }
}

impl<T: Send + 'static> Future for Kept<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(mut parts) = self.here.take() {
            if let Poll::Ready(result) = parts.call.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            self.away = Some(self.keeper.send_away(self.limit, parts));
        }
        let Some(away) = &mut self.away else { return Poll::Pending };
        let Poll::Ready(brought) = away.poll_unpin(context) else { return Poll::Pending };
        self.away = None;
        Poll::Ready(brought.map_or_else(|_| Err(lost()), Brought::take))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::TryFutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    /// A call that brings what is sent, and what was not heard.
    fn keeping() -> (Keeper, oneshot::Sender<u8>, Kept<u8>, oneshot::Receiver<u8>) {
        let keeper = Keeper::new(TaskTracker::new());
        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let unheard = move |brought| tell.send(brought).expect("it is waited for");
        let kept = keeper.keep(LONG, gone.map_err(Failure::fault), unheard);
        (keeper, go, kept, told)
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_goes_on_and_what_has_not_does_not() {
        for begun in [false, true] {
            let (_keeper, go, mut kept, told) = keeping();
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
        let mut kept = keeper.keep(LONG, gone.map_err(Failure::fault), drop);
        assert!(futures_util::poll!(&mut kept).is_pending());
        drop(kept);
        go.closed().await;
        keeper.tasks.close();
        keeper.tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_ends_although_nobody_looks() {
        for taken in [false, true] {
            let (keeper, go, mut kept, told) = keeping();
            assert!(futures_util::poll!(&mut kept).is_pending());
            go.send(7).expect("it is waited for");
            // Nobody polls it.
            keeper.tasks.close();
            keeper.tasks.wait().await;
            match taken {
                true => assert_eq!(kept.await.expect("it is there"), 7),
                false => drop(kept),
            }
            assert_eq!(told.await.is_ok(), !taken, "whoever takes it is all who hear it");
        }
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
        let kept = keeper.keep(LONG, async { Ok::<_, Failure>(7) }, |_| panic!("it was heard"));
        assert_eq!(kept.await.expect("it is there"), 7);
        assert!(keeper.tasks.is_empty());
    }
}

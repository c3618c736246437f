//! Calls that are never dropped half-way.
//!
//! Dropping a call resets its stream, and a server that was sent enough resets closes the connection,
//! which all clients share: whoever hangs up often enough would end the calls of everybody else.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::TaskTracker;

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
    use tokio::sync::oneshot;

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

    #[tokio::test]
    async fn who_waits_gets_it() {
        let keeper = Keeper::new(TaskTracker::new());
        let kept = keeper.keep(LONG, async { 7 }, |_| panic!("it was heard"));
        assert_eq!(kept.await, 7);
        assert!(keeper.tasks.is_empty());
    }
}

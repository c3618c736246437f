//! What is seldom ready is polled when it has woken, and not whenever its task has: a deadline and the end of the gateway
//! would otherwise cost every message their locks, and those that all connections share most of all.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// A future that is seldom ready.
pub(super) struct Rare<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// The bell's.
    waker: Waker,
    /// Whom it wakes.
    task: Waker,
}

struct Bell {
    /// The future is to be polled.
    rung: AtomicBool,
    /// It stays when it has woken: whoever polls registers only once.
    task: Mutex<Waker>,
}

impl Bell {
    fn task(&self) -> MutexGuard<'_, Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task().clone();
        task.wake();
    }
}

impl<F: Future> Rare<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), bell, waker, task: Waker::noop().clone() }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let same = self.task.will_wake(context.waker());
        if same && !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        if !same {
            // Before the look: what rings in between wakes the task again.
            self.task.clone_from(context.waker());
            self.bell.task().clone_from(context.waker());
        }
        if self.bell.rung.swap(false, Ordering::AcqRel) {
            return self.future.as_mut().poll(&mut Context::from_waker(&self.waker));
        }
        Poll::Pending
    }

    pub(super) fn get(&self) -> &F {
        &self.future
    }

    /// To change it: then it is polled.
    pub(super) fn change(&mut self) -> Pin<&mut F> {
        self.bell.rung.store(true, Ordering::Release);
        self.future.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::task::AtomicWaker;
    use tokio::time::{Instant, sleep_until};

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_polled_when_it_has_woken_and_wakes_whoever_polled_last() {
        let polled = Arc::new(AtomicUsize::new(0));
        let inner = Arc::new(AtomicWaker::new());
        let mut rare = Rare::new(poll_fn({
            let (polled, inner) = (Arc::clone(&polled), Arc::clone(&inner));
            move |context| {
                inner.register(context.waker());
                match polled.fetch_add(1, Ordering::Relaxed) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }
        }));
        let [one, other] = [(); 2].map(|()| Arc::new(Count(AtomicUsize::new(0))));
        for task in [&one, &other, &other] {
            let waker = Waker::from(Arc::clone(task));
            assert!(rare.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(polled.load(Ordering::Relaxed), 1);
        inner.wake();
        assert_eq!([&one, &other].map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
        let waker = Waker::from(Arc::clone(&other));
        assert!(rare.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_was_moved_is_kept() {
        let start = Instant::now();
        let mut rare = Rare::new(sleep_until(start + Duration::from_secs(60)));
        assert!(poll_fn(|context| Poll::Ready(rare.poll(context))).await.is_pending());
        rare.change().reset(start + Duration::from_secs(1));
        poll_fn(|context| rare.poll(context)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}

//! Writing out, with a deadline.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio::time::{error::Elapsed, timeout};

use super::{Broken, Connection};

impl Connection {
    /// Waits until everything is written, but not for ever.
    pub(super) async fn flush_in_time(&mut self) -> Result<Result<(), Broken>, Elapsed> {
        let most = self.shared.timers.write;
        let mut flushing = pin!(self.flush());
        // Nearly always at once, and then there is no deadline to be set up.
        match poll_fn(|context| Poll::Ready(flushing.as_mut().poll(context))).await {
            Poll::Ready(flushed) => Ok(flushed),
            Poll::Pending => timeout(most, flushing).await,
        }
    }

    /// Waits until everything is written. Who does not read holds this up, but not the end of what was begun for
    /// a session that has ended.
    async fn flush(&mut self) -> Result<(), Broken> {
        let Self { frames, holding, running, .. } = self;
        let mut flushed = pin!(frames.flush());
        poll_fn(|context| {
            if !running.is_empty()
                && let Some(holding) = &holding
                && holding.poll_ended(context).is_ready()
            {
                running.clear();
            }
            flushed.as_mut().poll(context)
        })
        .await
    }
}

//! Turns: the product, the floor, the product, the floor; and what came of them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, try_join_all};

use crate::cpu;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) rounds: u32,
    pub(crate) seconds: u64,
    pub(crate) connections: usize,
}

/// One of two sides.
pub(crate) struct Side {
    /// The processes that serve; the first is the one that clients see.
    pub(crate) pids: Vec<u32>,
    pub(crate) workers: Vec<Box<dyn Work>>,
}

/// Does one thing once.
pub(crate) trait Work: Send {
    /// Once.
    fn once(&mut self) -> BoxFuture<'_, io::Result<()>>;
}

/// What one turn brought.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) operations: usize,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Turn {
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.operations.max(1) as f64
    }

    pub(crate) fn each_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn percentile(&self, of_a_hundred: usize) -> f64 {
        let place = (self.latencies.len() * of_a_hundred / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

impl Side {
    /// All workers for so long.
    pub(crate) async fn turn(&mut self, length: Duration) -> io::Result<Turn> {
        let over = Arc::new(AtomicBool::new(false));
        let timer = {
            let over = Arc::clone(&over);
            async move {
                tokio::time::sleep(length).await;
                over.store(true, Ordering::Relaxed);
            }
        };
        let (turn, ()) = tokio::join!(self.until(move |_| over.load(Ordering::Relaxed)), timer);
        turn
    }

    /// All workers, each so often: for what cannot be done without end.
    pub(crate) async fn times(&mut self, each: usize) -> io::Result<Turn> {
        self.until(move |done| done >= each).await
    }

    /// All workers, each until this holds of how often it has done its work.
    async fn until(&mut self, enough: impl Fn(usize) -> bool + Clone) -> io::Result<Turn> {
        let (before, began) = (cpu::used(&self.pids), Instant::now());
        let working = self.workers.iter_mut().map(|worker| {
            let enough = enough.clone();
            async move {
                let mut latencies = Vec::new();
                while !enough(latencies.len()) {
                    let asked = Instant::now();
                    worker.once().await?;
                    latencies.push(asked.elapsed());
                }
                io::Result::Ok(latencies)
            }
        });
        let mut latencies: Vec<_> = try_join_all(working).await?.into_iter().flatten().collect();
        let elapsed = began.elapsed();
        cpu::childless(&self.pids).await;
        let cpu = cpu::used(&self.pids).saturating_sub(before);
        latencies.sort_unstable();
        Ok(Turn { operations: latencies.len(), elapsed, cpu, latencies })
    }
}

/// Both sides in turns, after one turn of each that does not count.
pub(crate) async fn measure(
    rounds: Rounds,
    product: &mut Side,
    floor: &mut Side,
) -> io::Result<Vec<(Turn, Turn)>> {
    let length = Duration::from_secs(rounds.seconds);
    product.turn(length / 4).await?;
    floor.turn(length / 4).await?;
    let mut turns = Vec::new();
    for _ in 0..rounds.rounds {
        turns.push((product.turn(length).await?, floor.turn(length).await?));
    }
    Ok(turns)
}

/// The same with turns that are so many operations of each worker.
pub(crate) async fn measure_times(
    rounds: Rounds,
    each: usize,
    product: &mut Side,
    floor: &mut Side,
) -> io::Result<Vec<(Turn, Turn)>> {
    product.times(each).await?;
    floor.times(each).await?;
    let mut turns = Vec::new();
    for _ in 0..rounds.rounds {
        turns.push((product.times(each).await?, floor.times(each).await?));
    }
    Ok(turns)
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! Who may not log in cannot be told from who does not exist: neither by words nor by time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use doorward_tests::{Client, Options, Pam, Role, Stack, skip};
use serde_json::{Value, json};

/// Whose logins are compared; the first one is what the others are compared with.
const KINDS: [&str; 6] =
    ["a wrong password", "no such user", "in no access group", "locked", "expired account", "root"];
/// Logins under way at a time: the conversations that compute wait for each other anyway.
const AT_ONCE: usize = 8;
/// A difference of this many standard errors is no accident (Welch's t).
const T_MAX: f64 = 4.5;
/// Medians this close, in milliseconds, tell nobody anything, however many samples there are.
const MEDIANS_WITHIN: f64 = 1.0;

fn credentials(stack: &Stack, kind: usize) -> Value {
    let right = |role| {
        let person = stack.person(role);
        json!({"username": person.name, "password": person.password})
    };
    let wrong = |name: &str| json!({"username": name, "password": "wrong-password"});
    match kind {
        0 => wrong(&stack.person(Role::Limited).name),
        // As long as a name that there is.
        1 => wrong(&stack.person(Role::Limited).name.replace("bob", "bib")),
        2 => right(Role::Nobody),
        3 => right(Role::Locked),
        4 => right(Role::Lapsed),
        _ => wrong("root"),
    }
}

/// Milliseconds until the refusal, and the refusal's words.
async fn refused(stack: &Stack, kind: usize) -> (f64, Value) {
    let mut client = Client::unix(stack).await;
    let args = credentials(stack, kind);
    let started = Instant::now();
    client.request("rpc/auth", args).await;
    let reply = client.json().await;
    let took = started.elapsed().as_secs_f64() * 1e3;
    assert_eq!(reply["name"], "error", "{}: {reply}", KINDS[kind]);
    client.close().await;
    (took, reply["args"].clone())
}

/// Numbers in no order (the finalizer of SplitMix64). One multiplication alone would not do: each kind would
/// always come after the same ones.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) >> 33
}

#[derive(Debug, Default)]
struct Samples(Vec<f64>);

impl Samples {
    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.count()
    }

    fn count(&self) -> f64 {
        u32::try_from(self.0.len()).map(f64::from).expect("few samples")
    }

    /// The square of the mean's standard error.
    fn error(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|sample| (sample - mean).powi(2)).sum();
        squares / (self.count() - 1.0) / self.count()
    }

    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

fn welch(one: &Samples, other: &Samples) -> f64 {
    (one.mean() - other.mean()) / (one.error() + other.error()).sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_who_exists_by_words_or_time() {
    // Above what a hash takes on a machine that does something else as well, as in the shipped configuration.
    let options = Options::new(Pam::Real).authd("pam.refusal_delay_ms", 400);
    let options = options.authd("pam.per_source", 64).authd("pam.per_account", 64);
    let Some(stack) = Stack::start(&options) else { return };
    let stack = Arc::new(stack);
    let first = told_apart(&sampled(&stack).await);
    if first.is_empty() {
        return;
    }
    // What the machine did meanwhile tells nobody anything; what it tells again does.
    let again = told_apart(&sampled(&stack).await);
    let both: Vec<_> = again.into_iter().filter(|kind| first.contains(kind)).collect();
    assert!(both.is_empty(), "time tells who exists, twice: {both:?}");
}

/// The times of refused logins of each kind.
async fn sampled(stack: &Arc<Stack>) -> [Samples; KINDS.len()] {
    let samples = if skip::long() { 10_000 } else { 1_000 };
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (stack, next) = (Arc::clone(stack), Arc::clone(&next));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= samples {
                        return seen;
                    }
                    // Mixed, so that whatever else happens on this machine happens to all alike; not in turn,
                    // because a login waits for the one before it to compute, which is not its own time.
                    let kind = usize::try_from(mixed(number as u64)).expect("31 bits") % KINDS.len();
                    let (took, words) = refused(&stack, kind).await;
                    seen.push((kind, took, words));
                }
            })
        })
        .collect();
    let mut by_kind: [Samples; KINDS.len()] = Default::default();
    for task in tasks {
        for (kind, took, words) in task.await.expect("no panic") {
            assert_eq!(words, json!({"code": 401, "message": "Unauthorized"}), "{}", KINDS[kind]);
            by_kind[kind].0.push(took);
        }
    }
    by_kind
}

/// The kinds whose times differ from those of the first one.
fn told_apart(by_kind: &[Samples; KINDS.len()]) -> Vec<&'static str> {
    let medians = by_kind.each_ref().map(Samples::median);
    let mut apart = Vec::new();
    for (kind, name) in KINDS.iter().enumerate() {
        let t = welch(&by_kind[0], &by_kind[kind]);
        let between = (medians[0] - medians[kind]).abs();
        // A median of so few samples is not exact to a millisecond; its error is about 1.25 times the mean's.
        let error = 1.25 * (by_kind[0].error() + by_kind[kind].error()).sqrt();
        println!("{name}: {} samples, median {:.2} ms, t {t:.2}", by_kind[kind].0.len(), medians[kind]);
        if t.abs() > T_MAX || between > MEDIANS_WITHIN + T_MAX * error {
            apart.push(*name);
        }
    }
    apart
}

#[test]
fn a_difference_would_be_seen() {
    let same = |shift: f64| Samples((0..150).map(|i| 300.0 + f64::from(i * 37 % 200) + shift).collect());
    assert!(welch(&same(0.0), &same(0.0)).abs() < T_MAX);
    // What a hash that is left out takes.
    assert!(welch(&same(0.0), &same(-40.0)).abs() > T_MAX);
    let mut by_kind = KINDS.map(|_| same(0.0));
    assert_eq!(told_apart(&by_kind), [""; 0]);
    by_kind[3] = same(-40.0);
    assert_eq!(told_apart(&by_kind), [KINDS[3]]);
}

//! `kill -9` at named points of each process: the table, and what is so after every one of them.
//!
//! Each point is reached by something that can be seen from outside: a reply, a process, a name, a page that is
//! committed in a database. Where a moment inside a process cannot be seen it says "somewhere".

#[path = "kill_points/authd.rs"]
mod authd;
#[path = "kill_points/certd.rs"]
mod certd;
#[path = "kill_points/gateway.rs"]
mod gateway;
#[path = "kill_points/pam.rs"]
mod pam;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::bed::Bed;
use doorward_tests::skip;

type Reached<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One of them.
struct Point {
    /// What is killed, and where in its work.
    name: &'static str,
    /// When: what must be seen first.
    when: &'static str,
    /// What must hold then, beside `Bed::holds`.
    then: &'static str,
    /// Goes there, kills, looks at those who are left, and has the service started again.
    run: for<'a> fn(&'a mut Bed) -> Reached<'a>,
}

macro_rules! points {
    ($($name:literal: when $when:literal, $then:literal: $module:ident::$function:ident;)*) => {
        &[$(Point { name: $name, when: $when, then: $then, run: |bed| Box::pin($module::$function(bed)) }),*]
    };
}

const POINTS: &[Point] = points! {
    "authd, starting":
        when "its socket has its name, and it is not ready", "the next one starts": authd::starting;
    "authd, making its signing key":
        when "the file of a new key appears", "certd believes the next one": authd::making_its_key;
    "authd, a conversation is the client's turn":
        when "the prompts are there", "the answer logs nobody in, the worker ends": authd::asking;
    "authd, a module hangs":
        when "worker and orphan are there", "one error, both are ended": authd::waiting_for_a_module;
    "authd, a grant is on disk":
        when "it is committed and not answered", "nobody has its token": authd::granting;
    "authd, a grant is told":
        when "the token is there", "it opens the session": authd::granted;
    "authd, sessions are listed":
        when "the first of 24 lists is there", "one answer each": authd::listing;
    "authd, a session's end is on disk":
        when "it is committed and not answered", "if it has ended, it has everywhere": authd::ending;
    "authd, a session's end is told":
        when "the reply is there", "it has ended everywhere": authd::ended;
    "authd, a penalty is on disk":
        when "its source is committed", "it goes on": authd::penalising;
    "authd, stopping":
        when "the first login was broken off by it", "one error each": authd::stopping;
    "authd, reloading":
        when "the reload is recorded", "nothing is lost by it": authd::reloading;
    "authd, watched by the gateway":
        when "16 sessions are held, and nothing is under way", "503, then all are back": authd::watched;
    "certd, starting":
        when "its socket has its name, and it is not ready", "the next one starts": certd::starting;
    "certd, a registration is on disk":
        when "it is committed and not answered", "it is there, whole": certd::registering;
    "certd, a registration is told":
        when "the reply is there", "it opens the door": certd::registered;
    "certd, a revocation is told":
        when "the reply is there", "key and sessions of it are void": certd::revoked;
    "certd, a challenge is open":
        when "the string is there", "no proof of it counts": certd::challenged;
    "certd, proofs are looked at":
        when "the first of 8 tokens is there", "token or error each": certd::proving;
    "gateway, starting":
        when "its socket has its name, and it is not ready", "the next one starts": gateway::starting;
    "gateway, full of sockets":
        when "60 of all kinds are open", "all are closed, sessions live": gateway::full;
    "gateway, replying":
        when "the first of 24 replies is there", "no reply is cut or twice": gateway::replying;
    "gateway, a login under way":
        when "one hangs and one is the client's turn", "both are ended": gateway::asking;
    "gateway, stopping":
        when "the first client was sent away", "all are closed": gateway::stopping;
    "guard, starting":
        when "its socket has its name, and it is not ready", "the next one starts": pam::starting_listener;
    "guard, listening":
        when "a conversation is the client's turn", "it goes on, others get 503": pam::listener;
    "guard, of a conversation":
        when "worker and orphan are there", "one refusal, both are ended": pam::guard;
    "worker, starting":
        when "its process is there, somewhere before it asks", "one refusal": pam::starting_worker;
    "worker, in a prompt":
        when "the prompts are there", "the answer logs nobody in": pam::asking_worker;
    "worker, in a module":
        when "it and its orphan are there", "one refusal, the orphan is ended": pam::hanging_worker;
    "worker, answered":
        when "the answer is sent, somewhere before the verdict", "token or refusal": pam::answered_worker;
};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_named_point_all_keep_their_word() {
    let Some(mut bed) = Bed::start().await else { return };
    let rounds = if skip::long() { 200 } else { 3 };
    let only = std::env::var("DOORWARD_KILL_POINT").unwrap_or_default();
    let mut longest = Duration::ZERO;
    for round in 1..=rounds {
        for point in POINTS.iter().filter(|point| point.name.contains(&only)) {
            bed.at(format!("{} (when {}; then: {}), round {round}", point.name, point.when, point.then));
            let began = Instant::now();
            (point.run)(&mut bed).await;
            bed.holds().await;
            if std::env::var_os("DOORWARD_TIMES").is_some() {
                eprintln!("{:>5} ms  {}", began.elapsed().as_millis(), point.name);
            }
            longest = longest.max(bed.back_after());
        }
    }
    assert!(POINTS.len() >= 20);
    println!(
        "{} points, {rounds} rounds each, none lost; ready again after {longest:?} at most",
        POINTS.len()
    );
}

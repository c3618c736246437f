//! Port reuse: a client leaves, another user takes its port, and the kernel is asked about the first one's
//! connection in that moment.
//!
//! One answer alone names the wrong user then, which is counted, to see that the attack is one.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use doorward_peercred::TcpState;
use rustix::net::{bind, connect, getsockname, sockopt};

use crate::support::{ALICE, Gateway, MALLORY, as_user, is_root, socket, tcp_owner};

/// How the first client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Rst,
    Fin,
}

/// Takes the port of clients that leave.
struct Thief {
    gateway: SocketAddr,
    /// Connections that were made from a port that alice had.
    after_rst: AtomicU64,
    after_fin: AtomicU64,
    /// The round is over.
    stop: AtomicBool,
}

impl Thief {
    fn round(&self, client: OwnedFd, by: By, pause: u32, thief: u32) -> Option<OwnedFd> {
        let port = SocketAddr::try_from(getsockname(&client).expect("an address")).expect("IPv4");
        for _ in 0..pause {
            std::hint::spin_loop();
        }
        if by == By::Rst {
            sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set");
        }
        drop(client);
        // After a FIN the port is kept for a while, and free once in some rounds.
        let patience = Duration::from_millis(if by == By::Rst { 20 } else { 4 });
        let began = Instant::now();
        // Once at least, however late it is given time.
        loop {
            let stolen = as_user(thief, || socket(port));
            if bind(&stolen, &port).is_ok() && connect(&stolen, &self.gateway).is_ok() {
                let taken = if by == By::Rst { &self.after_rst } else { &self.after_fin };
                taken.fetch_add(1, Ordering::Relaxed);
                return Some(stolen);
            }
            if self.stop.load(Ordering::Acquire) || began.elapsed() >= patience {
                return None;
            }
        }
    }
}

/// What came of all rounds.
#[derive(Debug, Default)]
struct Count {
    right: u64,
    denied: u64,
    wrong: u64,
    /// Rounds in which the plain question named somebody else, and those in which that was root.
    plainly_wrong: u64,
    plainly_root: u64,
}

fn race(rounds: u64) -> (Count, [u64; 2]) {
    let gateway = Gateway::new();
    gateway.listener.set_nonblocking(true).expect("set");
    let thief = Thief {
        gateway: gateway.address(),
        after_rst: AtomicU64::new(0),
        after_fin: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let mut count = Count::default();
    std::thread::scope(|scope| {
        let (start, started) = mpsc::sync_channel::<(OwnedFd, By, u32, u32)>(1);
        let (end, ended) = mpsc::sync_channel::<Option<OwnedFd>>(1);
        let thief = &thief;
        scope.spawn(move || {
            for (client, by, pause, uid) in started {
                if end.send(thief.round(client, by, pause, uid)).is_err() {
                    return;
                }
            }
        });
        for round in 0..rounds {
            let client = as_user(ALICE, || socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
            bind(&client, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
            let own = SocketAddr::try_from(getsockname(&client).expect("an address")).expect("IPv4");
            connect(&client, &gateway.address()).expect("connected");
            // What was left in the queue by the round before is not alice's.
            let (near, peer) = loop {
                match gateway.listener.accept() {
                    Ok((near, peer)) if peer == own => break (near, peer),
                    Ok(_) => {}
                    Err(_) => std::thread::yield_now(),
                }
            };
            let local = near.local_addr().expect("an address");
            thief.stop.store(false, Ordering::Release);
            let by = if round % 4 == 3 { By::Fin } else { By::Rst };
            let uid = if round % 8 == 0 { 0 } else { MALLORY };
            start.send((client, by, (round % 61) as u32 * 50, uid)).expect("the thief runs");
            let (mut plain, mut stolen) = (None, None);
            for _ in 0..12 {
                if stolen.is_some() {
                    break;
                }
                // What a service does that asks once.
                if let Ok(Some(owner)) = tcp_owner(local, peer)
                    && owner.state == TcpState::Established
                    && owner.uid != ALICE
                {
                    plain = Some(owner.uid);
                }
                match gateway.examine(near.try_clone().expect("a copy")) {
                    Ok(said) if said.uid() == ALICE => count.right += 1,
                    Ok(_) => count.wrong += 1,
                    Err(_) => count.denied += 1,
                }
                stolen = ended.try_recv().ok();
            }
            thief.stop.store(true, Ordering::Release);
            let stolen = stolen.unwrap_or_else(|| ended.recv().expect("the thief runs"));
            // Once more with the thief in place.
            if stolen.is_some() {
                if let Ok(Some(owner)) = tcp_owner(local, peer)
                    && owner.state == TcpState::Established
                    && owner.uid != ALICE
                {
                    plain = Some(owner.uid);
                }
                match gateway.examine(near) {
                    Ok(said) if said.uid() == ALICE => count.right += 1,
                    Ok(_) => count.wrong += 1,
                    Err(_) => count.denied += 1,
                }
            }
            count.plainly_wrong += u64::from(plain.is_some());
            count.plainly_root += u64::from(plain.is_some_and(|uid| uid == 0));
        }
        drop(start);
    });
    (count, [thief.after_rst.into_inner(), thief.after_fin.into_inner()])
}

#[test]
fn who_takes_the_port_of_a_client_that_left_is_never_named() {
    if !is_root() {
        return;
    }
    let rounds = if std::env::var_os("DOORWARD_LONG").is_some() { 100_000 } else { 2_000 };
    let began = Instant::now();
    let (count, taken) = race(rounds);
    println!("{rounds} rounds, {taken:?} ports taken after RST and FIN, {count:?}, {:?}", began.elapsed());
    assert_eq!(count.wrong, 0, "{count:?}");
    // Else this would test nothing: the attack works on whoever asks once.
    let [after_rst, after_fin] = taken;
    assert!(after_rst + after_fin > rounds / 10, "only {taken:?} ports were taken");
    assert!(count.plainly_wrong > rounds / 100, "one question alone was wrong too seldom: {count:?}");
    assert!(count.plainly_root > 0, "{count:?}");
    assert!(count.right > 0 && count.denied > 0, "{count:?}");
}

//! Time since boot, sleep included, and which boot it is.

use std::{
    fmt, io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells one boot of the machine from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot(pub String);

/// Milliseconds since boot. A restart of authd does not reset it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// The system's.
    pub fn of_the_system() -> Self {
        Self(Arc::new(since_boot))
    }

    /// One that a test moves.
    pub fn from_fn(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now.
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

/// Seconds of UTC, for what is shown and for JWTs.
pub fn utc() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn since_boot() -> u64 {
    // FreeBSD's CLOCK_MONOTONIC goes on during sleep; Linux has a clock of its own for that.
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(millis)
}

impl Boot {
    /// Where Linux tells it.
    pub(crate) const FILE: &str = "/proc/sys/kernel/random/boot_id";

    /// The boot that is running.
    ///
    /// # Errors
    /// When the system does not tell: without it a reboot would not end the sessions.
    #[cfg(target_os = "linux")]
    pub fn current() -> io::Result<Self> {
        Self::parse(&std::fs::read_to_string(Self::FILE)?)
    }

    /// The boot that is running.
    ///
    /// # Errors
    /// When the system does not tell: without it a reboot would not end the sessions.
    #[cfg(not(target_os = "linux"))]
    pub fn current() -> io::Result<Self> {
        // The sysctl has no safe binding; the program is asked once, at start.
        let said = std::process::Command::new("/sbin/sysctl").args(["-n", "kern.boot_id"]).output()?;
        Self::parse(&String::from_utf8_lossy(&said.stdout))
    }

    fn parse(text: &str) -> io::Result<Self> {
        let text = text.trim();
        if text.len() < 16 || text.len() > 64 || !text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the system tells no boot id"));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back_and_the_boot_stays_the_same() {
        let clock = Clock::of_the_system();
        let first = clock.now();
        assert!(first > 0 && clock.now() >= first);
        assert_eq!(Boot::current().expect("told"), Boot::current().expect("told"));
    }

    #[test]
    fn an_empty_boot_id_is_none() {
        for text in ["", "\n", "no such oid: kern.boot_id", "0"] {
            assert!(Boot::parse(text).is_err(), "{text:?}");
        }
    }
}

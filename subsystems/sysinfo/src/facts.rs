//! What was seen of the host, as plain values: what a look returns and an answer is made of.

/// Longer names are cut: they are whatever a program, a device or a mount calls itself.
const NAME_MAX: usize = 256;

/// What does not change while the host runs, mostly.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) os: String,
    pub(crate) os_version: String,
    pub(crate) kernel: String,
    pub(crate) kernel_ident: String,
    pub(crate) arch: String,
    pub(crate) cpus: usize,
    pub(crate) cpu_model: String,
    pub(crate) memory: u64,
    pub(crate) uptime: u64,
    pub(crate) booted: u64,
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) free: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_used: u64,
}

/// How the kernel divides its memory, in bytes. Together they are all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) active: u64,
    pub(crate) cache: u64,
    pub(crate) free: u64,
    pub(crate) inactive: u64,
    pub(crate) wired: u64,
}

/// Of one, five and fifteen minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) one: f64,
    pub(crate) five: f64,
    pub(crate) fifteen: f64,
}

/// A file system on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) device: String,
    pub(crate) mount: String,
    pub(crate) file_system: String,
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) removable: bool,
    pub(crate) read_only: bool,
}

impl Disk {
    /// How full it is, in percent.
    pub(crate) fn full(&self) -> u64 {
        percent(self.total.saturating_sub(self.available), self.total)
    }
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) mtu: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) receive_errors: u64,
    pub(crate) send_errors: u64,
}

/// A process. Of its command line nothing: there are passwords in command lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) state: &'static str,
    pub(crate) cpu_percent: f32,
    pub(crate) cpu_ms: u64,
    pub(crate) resident: u64,
    pub(crate) size: u64,
    /// What only some systems tell.
    pub(crate) more: Option<Scheduling>,
}

/// How a process is scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    pub(crate) threads: u64,
    pub(crate) priority: i64,
    pub(crate) nice: i64,
    pub(crate) cpu: u64,
}

/// A battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Battery {
    pub(crate) percent: u64,
    pub(crate) power: Power,
    pub(crate) seconds_left: Option<u64>,
}

/// Where the power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// From the battery.
    Battery,
    /// From the mains.
    Mains,
    /// It does not say.
    Unknown,
}

/// `part` of `whole`, in percent, rounded up: 99.1 % full is not 99.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// A name that somebody else chose, as one short line.
pub(crate) fn name(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_never_told_too_low() {
        for (part, whole, expected) in
            [(0, 0, 0), (0, 10, 0), (991, 1_000, 100), (90, 100, 90), (u64::MAX, u64::MAX, 100)]
        {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn a_name_is_one_short_line() {
        assert_eq!(name("a\nb\u{1b}[2J"), "a?b?[2J");
        assert_eq!(name(&"x".repeat(1_000)).len(), NAME_MAX);
    }
}

//! What the crate sysinfo does not tell on Linux: how the kernel divides its memory, how a process is scheduled,
//! batteries. Small files below /proc and /sys.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::facts::{Battery, Pages, Power, Scheduling};

/// A file of the kernel's is short.
const FILE_MAX: u64 = 64 << 10;
/// The list of mounts may be longer.
const MOUNTS_MAX: u64 = 4 << 20;

fn read(path: impl AsRef<Path>) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

pub(crate) fn pages() -> Option<Pages> {
    pages_of(&read("/proc/meminfo")?)
}

/// The kernel's caches that can be given back count as cache, what has no list of its own as wired.
fn pages_of(meminfo: &str) -> Option<Pages> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total, free) = (bytes("MemTotal")?, bytes("MemFree")?);
    let (active, inactive) = (bytes("Active")?, bytes("Inactive")?);
    let cache = bytes("SReclaimable").unwrap_or(0);
    let wired = total.saturating_sub(free).saturating_sub(active + inactive + cache);
    Some(Pages { active, cache, free, inactive, wired })
}

/// Which file systems nobody can write to, by where they are mounted.
///
/// systemd makes every mount of a service's read-only (`ProtectSystem=strict`), which statvfs then says of each; the
/// options of the file system itself stay what they are.
pub(crate) fn read_only() -> HashMap<PathBuf, bool> {
    let mut text = Vec::new();
    match File::open("/proc/self/mountinfo").map(|file| file.take(MOUNTS_MAX).read_to_end(&mut text)) {
        Ok(Ok(_)) => read_only_of(&text),
        Ok(Err(_)) | Err(_) => HashMap::new(),
    }
}

/// proc_pid_mountinfo(5). Of several at one place the last is what is seen there.
fn read_only_of(mountinfo: &[u8]) -> HashMap<PathBuf, bool> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let place = unescaped(fields.nth(4)?);
        let options = fields.skip_while(|field| *field != b"-").nth(3)?;
        Some((place, options.split(|byte| *byte == b',').any(|option| option == b"ro")))
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescaped(mut field: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    while let Some((first, rest)) = field.split_first() {
        let octal =
            rest.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                field = rest.get(3..).unwrap_or_default();
            }
            None => {
                path.push(*first);
                field = rest;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

pub(crate) fn scheduling(pid: u32) -> Option<Scheduling> {
    scheduling_of(&read(format!("/proc/{pid}/stat"))?)
}

/// proc_pid_stat(5). The name of a program can be anything, a parenthesis too: what counts is after the last.
fn scheduling_of(stat: &str) -> Option<Scheduling> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first of these is field 3.
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<i64>().ok());
    let counted = |number: usize| field(number).and_then(|value| u64::try_from(value).ok());
    Some(Scheduling { threads: counted(20)?, priority: field(18)?, nice: field(19)?, cpu: counted(39)? })
}

pub(crate) fn battery() -> Option<Battery> {
    battery_in(Path::new("/sys/class/power_supply"))
}

/// The first one.
fn battery_in(supplies: &Path) -> Option<Battery> {
    let mut found: Vec<_> = std::fs::read_dir(supplies).ok()?.filter_map(Result::ok).take(64).collect();
    found.sort_by_key(std::fs::DirEntry::file_name);
    found.into_iter().find_map(|entry| {
        let file = |name: &str| read(entry.path().join(name)).map(|text| text.trim().to_owned());
        let number = |name: &str| file(name)?.parse::<u64>().ok();
        // Mice have batteries too.
        if file("type")? != "Battery" || file("scope").is_some_and(|scope| scope == "Device") {
            return None;
        }
        let power = match file("status").as_deref() {
            Some("Discharging") => Power::Battery,
            Some("Charging" | "Full" | "Not charging") => Power::Mains,
            _ => Power::Unknown,
        };
        let left = |now: &str, rate: &str| (number(now)? * 3_600).checked_div(number(rate)?);
        let left = left("energy_now", "power_now").or_else(|| left("charge_now", "current_now"));
        let seconds_left = left.filter(|_| power == Power::Battery);
        Some(Battery { percent: number("capacity")?.min(100), power, seconds_left })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_pages_are_somewhere() {
        let meminfo = "MemTotal:  1000 kB\nMemFree:  100 kB\nActive:  300 kB\nInactive:  200 kB\n\
                       Active(anon): 7 kB\nSReclaimable:  50 kB\n";
        let pages = pages_of(meminfo).expect("read");
        let kib = |value: u64| value * 1024;
        let expected =
            Pages { active: kib(300), cache: kib(50), free: kib(100), inactive: kib(200), wired: kib(350) };
        assert_eq!(pages, expected);
        assert_eq!(pages_of("MemTotal: x kB"), None);
        assert!(super::pages().is_some(), "this host's");
    }

    #[test]
    fn what_is_read_only_for_this_program_alone_can_be_written_to() {
        let mountinfo = "36 35 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            37 36 8:2 / /home/a\\040b ro,nosuid shared:2 master:3 - xfs /dev/sda2 rw,attr2\n\
            38 36 7:0 / /snap/x ro,nodev - squashfs /dev/loop0 ro,errors=continue\n\
            39 36 8:3 / /over rw - ext4 /dev/sda3 rw\n\
            40 36 8:4 / /over ro - ext4 /dev/sda4 ro\n\
            41 36 8:5 / /cut ro\nnonsense\n";
        let read_only = read_only_of(mountinfo.as_bytes());
        let expected = [("/", false), ("/home/a b", false), ("/snap/x", true), ("/over", true)];
        assert_eq!(read_only, expected.map(|(place, read_only)| (PathBuf::from(place), read_only)).into());
        assert!(super::read_only().contains_key(Path::new("/")), "this host's");
    }

    #[test]
    fn a_process_cannot_lie_by_its_name() {
        let mut fields = vec!["0"; 50];
        (fields[15], fields[16], fields[17], fields[36]) = ("-2", "-5", "9", "3");
        let stat = format!("7 (a) S 1 1 1) {}", fields.join(" "));
        let expected = Scheduling { threads: 9, priority: -2, nice: -5, cpu: 3 };
        assert_eq!(scheduling_of(&stat), Some(expected));
        assert_eq!(scheduling_of("7 (a"), None);
        assert!(scheduling(std::process::id()).is_some_and(|own| own.threads > 0));
    }

    #[test]
    fn a_battery_says_how_long_it_lasts() {
        let directory = tempfile::tempdir().expect("a directory");
        let supply = |name: &str, files: &[(&str, &str)]| {
            fs::create_dir(directory.path().join(name)).expect("made");
            for (file, text) in files {
                fs::write(directory.path().join(name).join(file), text).expect("written");
            }
        };
        supply("AC", &[("type", "Mains\n")]);
        assert_eq!(battery_in(directory.path()), None);
        supply("A-mouse", &[("type", "Battery"), ("scope", "Device"), ("capacity", "5")]);
        supply(
            "BAT0",
            &[
                ("type", "Battery\n"),
                ("status", "Discharging\n"),
                ("capacity", "50\n"),
                ("energy_now", "20"),
                ("power_now", "10"),
            ],
        );
        let expected = Battery { percent: 50, power: Power::Battery, seconds_left: Some(7_200) };
        assert_eq!(battery_in(directory.path()), Some(expected));
    }
}

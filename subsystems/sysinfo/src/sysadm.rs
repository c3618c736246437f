//! The actions of the original server in its shapes: every value is text, and stands below the action's name.
//!
//! What it could do beyond (`halt`, `reboot`, `killproc`, `setsysctl`, `sysctllist`) is not here: this subsystem only
//! looks, and needs no root.

use serde_json::{Map, Value, json};

use crate::facts::{Battery, Disk, Host, Pages, Power, Process};

/// The longest list of processes: an answer must stay below 1 MiB.
const PROCINFO_MAX: usize = 900 << 10;

pub(crate) fn memorystats(pages: Pages) -> Value {
    let mib = |bytes: u64| (bytes >> 20).to_string();
    let Pages { active, cache, free, inactive, wired } = pages;
    json!({ "memorystats": {
        "active": mib(active), "cache": mib(cache), "free": mib(free), "inactive": mib(inactive),
        "wired": mib(wired),
    } })
}

pub(crate) fn cpupercentage(busy: &[f32]) -> Value {
    let whole = |percent: f32| format!("{:.0}", percent.clamp(0.0, 100.0));
    let mut told = Map::new();
    let mut total = 0.0;
    for (place, percent) in busy.iter().enumerate() {
        total += percent;
        told.insert(format!("cpu{}", place + 1), json!({ "busy": whole(*percent) }));
    }
    let mean = if busy.is_empty() { 0.0 } else { total / busy.len() as f32 };
    told.insert("busytotal".into(), json!(whole(mean)));
    json!({ "cpupercentage": told })
}

/// Of all sensors those of the processors: one for each core where there is one, else the whole's.
pub(crate) fn cputemps(sensors: &[(String, f32)]) -> Value {
    let told = |celsius: f32| json!(format!("{celsius:.1}C"));
    let mut temperatures = Map::new();
    for (label, celsius) in sensors {
        // Linux: `coretemp Core 3`; FreeBSD: `CPU 4`, counted from 1.
        let number = |after: &str| label.rsplit_once(after).and_then(|(_, rest)| rest.parse::<u32>().ok());
        let core = number("Core ").or_else(|| number("CPU ")?.checked_sub(1));
        if let Some(core) = core {
            temperatures.entry(format!("cpu{core}")).or_insert_with(|| told(*celsius));
        }
    }
    if temperatures.is_empty() {
        let whole = ["k10temp", "coretemp", "cpu_thermal", "cpu-thermal"];
        let found = sensors.iter().find(|(label, _)| whole.iter().any(|name| label.starts_with(name)));
        if let Some((_, celsius)) = found {
            temperatures.insert("cpu0".into(), told(*celsius));
        }
    }
    json!({ "cputemps": temperatures })
}

pub(crate) fn externalmounts(disks: &[Disk]) -> Value {
    let devices = disks.iter().filter(|disk| disk.device.starts_with("/dev/"));
    let mounts: Map<String, Value> = devices
        .map(|disk| {
            let kind = kind_of(disk);
            let told = json!({ "filesystem": disk.file_system, "path": disk.mount, "type": kind });
            (disk.device.clone(), told)
        })
        .collect();
    json!({ "externalmounts": mounts })
}

fn kind_of(disk: &Disk) -> &'static str {
    let device = disk.device.strip_prefix("/dev/").unwrap_or_default();
    let begins = |names: &[&str]| names.iter().any(|name| device.starts_with(name));
    if begins(&["sr", "cd", "acd"]) {
        "DVD"
    } else if begins(&["mmcblk", "mmcsd"]) {
        "SDCARD"
    } else if begins(&["ada", "nvd", "nda", "nvme"]) {
        "HDRIVE"
    } else if begins(&["da"]) || (disk.removable && begins(&["sd"])) {
        "USB"
    } else if begins(&["sd", "vd", "vtbd"]) {
        "HDRIVE"
    } else {
        "UNKNOWN"
    }
}

pub(crate) fn batteryinfo(battery: Option<Battery>) -> Value {
    let Some(battery) = battery else { return json!({ "batteryinfo": { "battery": "false" } }) };
    let status = match battery.power {
        Power::Battery => "offline",
        Power::Mains => "charging",
        Power::Unknown => "unknown",
    };
    let left = battery.seconds_left.map_or_else(|| "-1".to_owned(), |seconds| seconds.to_string());
    json!({ "batteryinfo": {
        "battery": "true", "level": battery.percent.to_string(), "status": status, "timeleft": left,
    } })
}

pub(crate) fn systeminfo(host: &Host) -> Value {
    json!({ "systeminfo": {
        "arch": host.arch, "cpucores": host.cpus.to_string(), "cputype": host.cpu_model,
        "hostname": host.name, "kernelident": host.kernel_ident, "kernelversion": host.kernel,
        "systemversion": format!("{} {}", host.os, host.os_version).trim(),
        "totalmem": (host.memory >> 20).to_string(), "uptime": uptime(host.uptime),
    } })
}

/// As uptime(1) begins: `up 2 days 5:09`.
fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match days {
        0 => format!("up {hours}:{minutes:02}"),
        1 => format!("up 1 day {hours}:{minutes:02}"),
        days => format!("up {days} days {hours}:{minutes:02}"),
    }
}

/// The busiest first, as many as can be sent.
pub(crate) fn procinfo(found: &[Process]) -> Value {
    let mut told = Map::new();
    let mut length = 0;
    for process in found {
        let (pid, process) = (process.pid.to_string(), process_of(process));
        length += pid.len() + process.to_string().len() + 4;
        if length > PROCINFO_MAX {
            break;
        }
        told.insert(pid, process);
    }
    json!({ "procinfo": told })
}

fn process_of(process: &Process) -> Value {
    let mut told = Map::new();
    let seconds = process.cpu_ms / 1_000;
    for (name, value) in [
        ("command", process.name.clone()),
        ("username", process.user.clone()),
        ("state", process.state.to_owned()),
        ("size", size(process.size)),
        ("res", size(process.resident)),
        ("time", format!("{}:{:02}", seconds / 60, seconds % 60)),
        ("wcpu", format!("{:.2}%", process.cpu_percent)),
    ] {
        told.insert(name.to_owned(), Value::String(value));
    }
    if let Some(more) = process.more {
        for (name, value) in [
            ("thr", more.threads.to_string()),
            ("pri", more.priority.to_string()),
            ("nice", more.nice.to_string()),
            ("cpu", more.cpu.to_string()),
        ] {
            told.insert(name.to_owned(), Value::String(value));
        }
    }
    Value::Object(told)
}

/// As top(1) of FreeBSD writes it: `1968K`, `97M`.
fn size(bytes: u64) -> String {
    let kib = bytes >> 10;
    if kib < 10_000 { format!("{kib}K") } else { format!("{}M", kib >> 10) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Scheduling;

    #[test]
    fn every_value_is_text_below_the_actions_name() {
        let pages = Pages { active: 818 << 20, cache: 69 << 20, free: 4855 << 20, inactive: 0, wired: 1 };
        assert_eq!(
            memorystats(pages),
            json!({ "memorystats":
                { "active": "818", "cache": "69", "free": "4855", "inactive": "0", "wired": "0" } })
        );
        assert_eq!(
            cpupercentage(&[28.2, 31.4]),
            json!({ "cpupercentage": { "busytotal": "30", "cpu1": { "busy": "28" }, "cpu2": { "busy": "31" } } })
        );
        assert_eq!(cpupercentage(&[]), json!({ "cpupercentage": { "busytotal": "0" } }));
        assert_eq!(batteryinfo(None), json!({ "batteryinfo": { "battery": "false" } }));
        let battery = Battery { percent: 50, power: Power::Battery, seconds_left: None };
        assert_eq!(
            batteryinfo(Some(battery)),
            json!({ "batteryinfo":
                { "battery": "true", "level": "50", "status": "offline", "timeleft": "-1" } })
        );
    }

    #[test]
    fn temperatures_are_those_of_the_processors() {
        let sensors = |list: &[(&str, f32)]| {
            let list: Vec<_> = list.iter().map(|(label, celsius)| ((*label).to_owned(), *celsius)).collect();
            cputemps(&list)["cputemps"].clone()
        };
        assert_eq!(
            sensors(&[("nvme Composite", 50.0), ("coretemp Core 0", 34.0), ("coretemp Core 1", 32.06)]),
            json!({ "cpu0": "34.0C", "cpu1": "32.1C" })
        );
        assert_eq!(sensors(&[("CPU 1", 30.0), ("CPU 2", 31.0)]), json!({ "cpu0": "30.0C", "cpu1": "31.0C" }));
        assert_eq!(sensors(&[("acpitz", 20.0), ("k10temp Tctl", 40.5)]), json!({ "cpu0": "40.5C" }));
        assert_eq!(sensors(&[("nvme Composite", 50.0)]), json!({}));
    }

    #[test]
    fn mounts_are_named_by_their_device() {
        let disk = |device: &str, removable: bool| Disk {
            device: device.into(),
            mount: "/m".into(),
            file_system: "ext4".into(),
            removable,
            ..Disk::default()
        };
        let disks =
            [disk("/dev/sda1", false), disk("/dev/sdb1", true), disk("/dev/sr0", true), disk("zroot", false)];
        assert_eq!(
            externalmounts(&disks),
            json!({ "externalmounts": {
                "/dev/sda1": { "filesystem": "ext4", "path": "/m", "type": "HDRIVE" },
                "/dev/sdb1": { "filesystem": "ext4", "path": "/m", "type": "USB" },
                "/dev/sr0": { "filesystem": "ext4", "path": "/m", "type": "DVD" },
            } })
        );
    }

    #[test]
    fn a_process_is_told_as_top_tells_it() {
        let more = Scheduling { threads: 1, priority: 52, nice: 0, cpu: 3 };
        let process = Process {
            pid: 228,
            name: "adjkerntz".into(),
            user: "root".into(),
            state: "sleep",
            cpu_ms: 65_000,
            resident: 1968 << 10,
            size: 97 << 20,
            more: Some(more),
            ..Process::default()
        };
        assert_eq!(
            procinfo(&[process]),
            json!({ "procinfo": { "228": {
                "command": "adjkerntz", "cpu": "3", "nice": "0", "pri": "52", "res": "1968K", "size": "97M",
                "state": "sleep", "thr": "1", "time": "1:05", "username": "root", "wcpu": "0.00%",
            } } })
        );
    }

    #[test]
    fn ten_thousand_processes_can_be_sent() {
        let process =
            |pid| Process { pid, name: "x".repeat(256), user: "y".repeat(256), ..Process::default() };
        let all: Vec<_> = (0..10_000).map(process).collect();
        let told = procinfo(&all);
        assert!(told.to_string().len() < 1 << 20);
        assert!(told["procinfo"].as_object().is_some_and(|told| told.len() > 1_000));
    }

    #[test]
    fn uptime_reads_as_the_program_says_it() {
        for (seconds, text) in [
            (59, "up 0:00"),
            (3 * 3_600 + 60, "up 3:01"),
            (86_400, "up 1 day 0:00"),
            (2 * 86_400 + 5 * 3_600 + 9 * 60, "up 2 days 5:09"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
        let host =
            Host { os: "Debian".into(), os_version: "12".into(), memory: 10720 << 20, ..Host::default() };
        let told = &systeminfo(&host)["systeminfo"];
        assert_eq!((&told["systemversion"], &told["totalmem"]), (&json!("Debian 12"), &json!("10720")));
    }
}

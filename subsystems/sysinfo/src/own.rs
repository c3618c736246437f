//! Our own actions: numbers are numbers, sizes are bytes, times are seconds.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::facts::{Disk, Host, Interface, Load, Memory, Process};

pub(crate) fn host(host: &Host) -> Value {
    json!({
        "hostname": host.name, "os": host.os, "os_version": host.os_version, "kernel": host.kernel,
        "arch": host.arch, "cpus": host.cpus, "cpu_model": host.cpu_model, "memory": host.memory,
        "uptime": host.uptime, "booted": host.booted,
    })
}

pub(crate) fn load(load: Load, cpus: usize) -> Value {
    json!({ "one": load.one, "five": load.five, "fifteen": load.fifteen, "cpus": cpus })
}

pub(crate) fn memory(memory: Memory) -> Value {
    json!({
        "total": memory.total, "available": memory.available, "free": memory.free,
        "swap_total": memory.swap_total, "swap_used": memory.swap_used,
    })
}

pub(crate) fn disks(disks: &[Disk]) -> Value {
    let disk = |disk: &Disk| {
        json!({
            "device": disk.device, "mount": disk.mount, "file_system": disk.file_system, "total": disk.total,
            "available": disk.available, "percent": disk.full(), "removable": disk.removable,
            "read_only": disk.read_only,
        })
    };
    json!({ "disks": disks.iter().map(disk).collect::<Vec<_>>() })
}

pub(crate) fn interfaces(interfaces: &[Interface]) -> Value {
    let interface = |interface: &Interface| {
        json!({
            "name": interface.name, "mac": interface.mac, "addresses": interface.addresses,
            "mtu": interface.mtu, "received": interface.received, "sent": interface.sent,
            "receive_errors": interface.receive_errors, "send_errors": interface.send_errors,
        })
    };
    json!({ "interfaces": interfaces.iter().map(interface).collect::<Vec<_>>() })
}

/// Args of `processes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    sort: Sort,
    first: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Cpu,
    Memory,
    Pid,
}

/// The most in one answer, which must stay below 1 MiB.
const PAGE_MAX: usize = 1_000;

impl Default for Wanted {
    fn default() -> Self {
        Self { sort: Sort::Cpu, first: 0, limit: 100 }
    }
}

impl Wanted {
    pub(crate) fn schema() -> Value {
        json!({
            "type": ["object", "null"],
            "properties": {
                "sort": { "enum": ["cpu", "memory", "pid"] },
                "first": { "type": "integer", "minimum": 0, "maximum": 10_000 },
                "limit": { "type": "integer", "minimum": 1, "maximum": PAGE_MAX },
            },
            "additionalProperties": false,
        })
    }
}

pub(crate) fn processes(mut found: Vec<Process>, all: usize, wanted: Wanted) -> Value {
    match wanted.sort {
        // They come so.
        Sort::Cpu => {}
        Sort::Memory => found.sort_by_key(|process| std::cmp::Reverse(process.resident)),
        Sort::Pid => found.sort_by_key(|process| process.pid),
    }
    let page = found.iter().skip(wanted.first).take(wanted.limit.min(PAGE_MAX));
    json!({ "count": all, "first": wanted.first, "processes": page.map(process).collect::<Vec<_>>() })
}

fn process(process: &Process) -> Value {
    let mut told = Map::new();
    let tenths = f64::from((process.cpu_percent * 10.0).round()) / 10.0;
    for (name, value) in [
        ("pid", json!(process.pid)),
        ("name", json!(process.name)),
        ("user", json!(process.user)),
        ("state", json!(process.state)),
        ("cpu_percent", json!(tenths)),
        ("cpu_seconds", json!(process.cpu_ms / 1_000)),
        ("resident", json!(process.resident)),
        ("size", json!(process.size)),
    ] {
        told.insert(name.to_owned(), value);
    }
    if let Some(more) = process.more {
        told.insert("threads".into(), json!(more.threads));
        told.insert("nice".into(), json!(more.nice));
    }
    Value::Object(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<Process> {
        let process = |pid: u32, cpu_percent: f32, resident: u64| Process {
            pid,
            cpu_percent,
            resident,
            name: "x".repeat(256),
            user: "y".repeat(256),
            state: "run",
            ..Process::default()
        };
        (0..10_000).map(|pid| process(10_000 - pid, 10_000.0 - pid as f32, u64::from(pid % 7))).collect()
    }

    #[test]
    fn processes_come_in_pages_that_can_be_sent() {
        let wanted = |text: &str| serde_json::from_str::<Wanted>(text).expect("args");
        let page = processes(found(), 12_345, wanted(r#"{"limit":1000}"#));
        assert_eq!(page["count"], 12_345);
        assert_eq!(page["processes"].as_array().map(Vec::len), Some(1_000));
        assert!(page.to_string().len() < 1 << 20);
        let page = processes(found(), 10_000, wanted(r#"{"sort":"pid","first":5,"limit":2}"#));
        assert_eq!((&page["processes"][0]["pid"], &page["processes"][1]["pid"]), (&json!(6), &json!(7)));
        let page = processes(found(), 10_000, wanted(r#"{"sort":"memory"}"#));
        assert_eq!(page["processes"][0]["resident"], 6);
    }
}

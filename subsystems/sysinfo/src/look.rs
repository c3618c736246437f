//! Looking at the host, through the crate sysinfo. Blocking: some of it waits 200 ms, a broken disk waits longer.
//!
//! One look of a kind at a time, of what takes long: who asks meanwhile has the same.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::{Uid, User};
use sysinfo::{
    Components, CpuRefreshKind, DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind,
    Networks, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, RefreshKind, System, UpdateKind,
};

use crate::facts::{Disk, Host, Interface, Load, Memory, Process, name};
#[cfg(target_os = "freebsd")]
use crate::freebsd as kernel;
#[cfg(target_os = "linux")]
use crate::linux as kernel;
use crate::shared::{Busy, Shared};

pub(crate) use kernel::{battery, pages};

/// Processes that are looked at, the largest users of the processors first.
const PROCESSES_MAX: usize = 10_000;
/// Disks and interfaces.
const OTHERS_MAX: usize = 1_000;

/// What a look compares with the one before.
type Before = Option<(System, Instant)>;

/// The looks that take long.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    cpus: Shared<Before, Vec<f32>>,
    processes: Shared<Before, (Vec<Process>, usize)>,
    disks: Shared<(), Vec<Disk>>,
}

/// Waits out what two looks need between them, and says when the second is.
fn second_look(first: Instant) -> Instant {
    let early = MINIMUM_CPU_UPDATE_INTERVAL.saturating_sub(first.elapsed());
    std::thread::sleep(early);
    Instant::now()
}

impl Looks {
    /// How busy each processor was since the last look, in percent; of the first look, in its own 200 ms.
    pub(crate) fn busy(&self) -> Result<Arc<Vec<f32>>, Busy> {
        self.cpus.see(busy)
    }

    /// The processes that there are, and how many; at most 10,000 of them.
    pub(crate) fn processes(&self) -> Result<Arc<(Vec<Process>, usize)>, Busy> {
        self.processes.see(processes)
    }

    /// File systems on devices of this host. Those of other hosts are left out: they may not answer.
    pub(crate) fn disks(&self) -> Result<Arc<Vec<Disk>>, Busy> {
        self.disks.see(|()| disks())
    }
}

fn busy(last: &mut Before) -> Vec<f32> {
    let (system, at) = last.get_or_insert_with(|| {
        let what = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_cpu_usage());
        (System::new_with_specifics(what), Instant::now())
    });
    *at = second_look(*at);
    system.refresh_cpu_usage();
    system.cpus().iter().map(sysinfo::Cpu::cpu_usage).collect()
}

fn processes(last: &mut Before) -> (Vec<Process>, usize) {
    let (system, at) = last.get_or_insert_with(|| {
        let mut system = System::new();
        refresh_processes(&mut system);
        (system, Instant::now())
    });
    *at = second_look(*at);
    refresh_processes(system);
    let mut found: Vec<&sysinfo::Process> = system.processes().values().collect();
    let all = found.len();
    found.sort_by(|one, other| {
        other.cpu_usage().total_cmp(&one.cpu_usage()).then_with(|| one.pid().cmp(&other.pid()))
    });
    found.truncate(PROCESSES_MAX);
    let mut users = HashMap::new();
    (found.into_iter().map(|process| process_of(process, &mut users)).collect(), all)
}

fn disks() -> Vec<Disk> {
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let read_only = kernel::read_only();
    once(disks.list().iter().take(OTHERS_MAX).map(|disk| disk_of(disk, &read_only)).collect())
}

/// Each file system once, where it is mounted with the shortest path: a service of systemd's sees its own
/// directories, and its `/tmp`, as mounts of their own. In the order of the paths.
fn once(mut found: Vec<Disk>) -> Vec<Disk> {
    found.sort_by(|one, other| {
        one.mount.len().cmp(&other.mount.len()).then_with(|| one.mount.cmp(&other.mount))
    });
    let mut seen = HashSet::new();
    found.retain(|disk| seen.insert((disk.device.clone(), disk.file_system.clone(), disk.total)));
    found.sort_by(|one, other| one.mount.cmp(&other.mount));
    found
}

fn refresh_processes(system: &mut System) {
    // Neither command lines nor environments: they hold secrets.
    let what = ProcessRefreshKind::nothing().with_cpu().with_memory().with_user(UpdateKind::OnlyIfNotSet);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what.without_tasks());
}

fn process_of(process: &sysinfo::Process, users: &mut HashMap<u32, String>) -> Process {
    let pid = process.pid().as_u32();
    let user = process.user_id().map(|uid| **uid).map(|uid| {
        users.entry(uid).or_insert_with(|| {
            let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            known.map_or_else(|| uid.to_string(), |user| name(&user.name))
        })
    });
    Process {
        pid,
        name: text(process.name()),
        user: user.cloned().unwrap_or_default(),
        state: state_of(process.status()),
        cpu_percent: process.cpu_usage(),
        cpu_ms: process.accumulated_cpu_time(),
        resident: process.memory(),
        size: process.virtual_memory(),
        more: kernel::scheduling(pid),
    }
}

fn state_of(status: ProcessStatus) -> &'static str {
    match status {
        ProcessStatus::Idle => "idle",
        ProcessStatus::Run => "run",
        ProcessStatus::Sleep => "sleep",
        ProcessStatus::Stop | ProcessStatus::Tracing => "stop",
        ProcessStatus::Zombie | ProcessStatus::Dead => "zombie",
        ProcessStatus::UninterruptibleDiskSleep => "disk",
        ProcessStatus::LockBlocked => "lock",
        _ => "unknown",
    }
}

/// A mount may be read-only for this program alone; `read_only` says what file systems are for everybody.
fn disk_of(disk: &sysinfo::Disk, read_only: &HashMap<PathBuf, bool>) -> Disk {
    Disk {
        device: text(disk.name()),
        mount: text(disk.mount_point().as_os_str()),
        file_system: text(disk.file_system()),
        total: disk.total_space(),
        available: disk.available_space(),
        removable: disk.is_removable(),
        read_only: read_only.get(disk.mount_point()).copied().unwrap_or_else(|| disk.is_read_only()),
    }
}

fn text(found: &OsStr) -> String {
    name(&found.to_string_lossy())
}

pub(crate) fn host() -> Host {
    let what = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(what);
    let known = |found: Option<String>| found.map(|found| name(&found)).unwrap_or_default();
    Host {
        name: host_name(),
        os: known(System::name()),
        os_version: known(System::os_version()),
        kernel: known(System::kernel_version()),
        kernel_ident: kernel_ident(),
        arch: name(&System::cpu_arch()),
        cpus: system.cpus().len(),
        cpu_model: system.cpus().first().map(|cpu| name(cpu.brand().trim())).unwrap_or_default(),
        memory: system.total_memory(),
        uptime: System::uptime(),
        booted: System::boot_time(),
    }
}

#[cfg(target_os = "freebsd")]
fn kernel_ident() -> String {
    kernel::kernel_ident().map(|ident| name(&ident)).unwrap_or_default()
}

#[cfg(not(target_os = "freebsd"))]
fn kernel_ident() -> String {
    "Linux".to_owned()
}

pub(crate) fn host_name() -> String {
    System::host_name().map(|found| name(&found)).unwrap_or_default()
}

pub(crate) fn memory() -> Memory {
    let mut system = System::new();
    system.refresh_memory();
    Memory {
        total: system.total_memory(),
        available: system.available_memory(),
        free: system.free_memory(),
        swap_total: system.total_swap(),
        swap_used: system.used_swap(),
    }
}

pub(crate) fn load() -> Load {
    let load = System::load_average();
    Load { one: load.one, five: load.five, fifteen: load.fifteen }
}

pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn interfaces() -> Vec<Interface> {
    let networks = Networks::new_with_refreshed_list();
    let mut found: Vec<Interface> = networks
        .list()
        .iter()
        .take(OTHERS_MAX)
        .map(|(called, data)| Interface {
            name: name(called),
            mac: data.mac_address().to_string(),
            addresses: data.ip_networks().iter().take(64).map(ToString::to_string).collect(),
            mtu: data.mtu(),
            received: data.total_received(),
            sent: data.total_transmitted(),
            receive_errors: data.total_errors_on_received(),
            send_errors: data.total_errors_on_transmitted(),
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// What sensors say of themselves, and their temperature.
pub(crate) fn temperatures() -> Vec<(String, f32)> {
    let components = Components::new_with_refreshed_list();
    let known = components.list().iter().take(OTHERS_MAX);
    known.filter_map(|sensor| Some((name(sensor.label()), sensor.temperature()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_is_mounted_twice_is_shown_once() {
        let disk = |device: &str, mount: &str, total| Disk {
            device: device.to_owned(),
            mount: mount.to_owned(),
            file_system: "ext4".to_owned(),
            total,
            available: 1,
            removable: false,
            read_only: false,
        };
        let found = vec![
            disk("/dev/vda1", "/var/lib/doorward/sysinfo", 10),
            disk("/dev/vdb", "/srv", 10),
            disk("/dev/vda1", "/", 10),
            disk("tmpfs", "/run", 1),
            disk("/dev/vda1", "/var/tmp", 10),
            disk("tmpfs", "/mnt", 2),
        ];
        let mounts: Vec<_> = once(found).into_iter().map(|disk| disk.mount).collect();
        assert_eq!(mounts, ["/", "/mnt", "/run", "/srv"]);
    }
}

//! What the crate sysinfo does not tell on FreeBSD, from the kernel's variables.

use std::collections::HashMap;
use std::path::PathBuf;

use sysctl::{Ctl, Sysctl as _};

use crate::facts::{Battery, Pages, Power, Scheduling};

fn text(name: &str) -> Option<String> {
    Ctl::new(name).ok()?.value_string().ok()
}

fn number(name: &str) -> Option<i64> {
    text(name)?.trim().parse().ok()
}

pub(crate) fn pages() -> Option<Pages> {
    let page = number("vm.stats.vm.v_page_size")?;
    let bytes = |name: &str| {
        let bytes = number(&format!("vm.stats.vm.v_{name}_count"))?.checked_mul(page)?;
        u64::try_from(bytes).ok()
    };
    Some(Pages {
        active: bytes("active")?,
        // Since FreeBSD 12 there is none; the variable is gone in some versions.
        cache: bytes("cache").unwrap_or(0),
        free: bytes("free")?,
        inactive: bytes("inactive")?,
        wired: bytes("wire")?,
    })
}

/// It is told by libkvm alone, which only the crate may call.
pub(crate) fn scheduling(_: u32) -> Option<Scheduling> {
    None
}

/// What statfs says is true: nothing narrows the mounts of this program alone.
pub(crate) fn read_only() -> HashMap<PathBuf, bool> {
    HashMap::new()
}

pub(crate) fn kernel_ident() -> Option<String> {
    text("kern.ident")
}

/// acpi(4)
pub(crate) fn battery() -> Option<Battery> {
    let percent = u64::try_from(number("hw.acpi.battery.life")?).ok().filter(|percent| *percent <= 100)?;
    let power = match number("hw.acpi.acline") {
        Some(0) => Power::Battery,
        Some(1) => Power::Mains,
        _ => Power::Unknown,
    };
    let minutes = number("hw.acpi.battery.time").and_then(|minutes| u64::try_from(minutes).ok());
    Some(Battery { percent, power, seconds_left: minutes.map(|minutes| minutes * 60) })
}

//! The actions, and what the program may reach.

use std::path::Path;
use std::sync::Arc;

use doorward_subsystem::{
    Action, Call, Confinement, Failure, Misconfigured, Program, Settings as Held, Subsystem,
};
use serde_json::{Value, json};

use crate::look::{self, Looks};
use crate::settings::Settings;
use crate::shared::Busy;
use crate::state::{event, judge};
use crate::watch::{EVENT, see, watch};
use crate::{own, sysadm};

/// The subsystem as a program.
#[derive(Debug)]
pub struct Sysinfo;

impl Program for Sysinfo {
    const NAME: &'static str = "doorward-sysinfo";
    const CONFIG_PATH: &'static str = "/etc/doorward/sysinfo.toml";
    type Settings = Settings;
    const SETTINGS_RELOAD: bool = true;

    fn subsystem(settings: Held<Self>) -> Subsystem {
        let looks = Arc::new(Looks::default());
        let subsystem = Subsystem::new(
            "sysadm",
            "systemmanager",
            env!("CARGO_PKG_VERSION"),
            "What this host is, and how it does; it changes nothing",
        )
        .event(EVENT, "The state of the host: every minute, and when it changes");
        let publisher = subsystem.publisher();
        let (at, now) = (Arc::clone(&looks), Arc::clone(&settings));
        actions(subsystem, &looks)
            .action(state(&looks, settings))
            .task(move |ended| watch(at, move || *now.get(), publisher, ended))
    }

    fn check(settings: &Settings) -> Result<(), Misconfigured> {
        settings.check()
    }

    /// What is looked at, the names of users, and the kernel's list of network interfaces.
    fn confinement(confinement: Confinement, _: &Settings) -> Confinement {
        confinement.read(Path::new("/proc")).read(Path::new("/sys")).user_database().asks_for_sockets()
    }
}

/// An action that looks on a thread of its own.
fn looks_at(
    name: &str,
    help: &str,
    looks: &Arc<Looks>,
    look: impl Fn(&Looks) -> Result<Value, Busy> + Clone + Send + Sync + 'static,
) -> Action {
    let looks = Arc::clone(looks);
    let action = Action::read(name, help, move |call: Call, _: Value| {
        let (looks, look) = (Arc::clone(&looks), look.clone());
        async move { call.blocking(move |_| look(&looks).map_err(busy)).await }
    });
    action.args(json!({ "type": ["object", "null"], "additionalProperties": false }))
}

fn busy(Busy: Busy) -> Failure {
    Failure::busy("a look at the same has not come to its end for 5 seconds")
}

fn actions(subsystem: Subsystem, looks: &Arc<Looks>) -> Subsystem {
    let plain =
        |name: &str, help: &str, look: fn(&Looks) -> Result<Value, Busy>| looks_at(name, help, looks, look);
    subsystem
        .action(plain("systeminfo", "Host, system, processor, memory (SysAdm's shape)", |_| {
            Ok(sysadm::systeminfo(&look::host()))
        }))
        .action(plain("memorystats", "Memory by its use, in MiB (SysAdm's shape)", |_| {
            let pages = look::pages();
            Ok(pages.map_or_else(|| json!({ "memorystats": {} }), sysadm::memorystats))
        }))
        .action(plain("cpupercentage", "How busy each processor is (SysAdm's shape)", |looks| {
            Ok(sysadm::cpupercentage(&looks.busy()?))
        }))
        .action(plain("cputemps", "Temperatures of the processors (SysAdm's shape)", |_| {
            Ok(sysadm::cputemps(&look::temperatures()))
        }))
        .action(plain("procinfo", "Processes, the busiest first (SysAdm's shape)", |looks| {
            Ok(sysadm::procinfo(&looks.processes()?.0))
        }))
        .action(plain("externalmounts", "Mounted devices (SysAdm's shape)", |looks| {
            Ok(sysadm::externalmounts(&looks.disks()?))
        }))
        .action(plain("batteryinfo", "The battery (SysAdm's shape)", |_| {
            Ok(sysadm::batteryinfo(look::battery()))
        }))
        .action(plain("host", "Name, system, kernel, processors, memory, uptime", |_| {
            Ok(own::host(&look::host()))
        }))
        .action(plain("load", "The load of 1, 5 and 15 minutes", |_| {
            Ok(own::load(look::load(), look::cpus()))
        }))
        .action(plain("memory", "Memory and swap, in bytes", |_| Ok(own::memory(look::memory()))))
        .action(plain("disks", "File systems on this host's devices", |looks| {
            Ok(own::disks(&looks.disks()?))
        }))
        .action(plain("interfaces", "Network interfaces", |_| Ok(own::interfaces(&look::interfaces()))))
        .action(processes(looks))
}

fn processes(looks: &Arc<Looks>) -> Action {
    let looks = Arc::clone(looks);
    let help = "Processes, in pages: args sort (cpu, memory, pid), first, limit";
    let action = Action::read("processes", help, move |call: Call, wanted: Option<own::Wanted>| {
        let looks = Arc::clone(&looks);
        async move {
            let look = move || looks.processes().map_err(busy);
            let found = call.blocking(move |_| look()).await?;
            Ok(own::processes(found.0.clone(), found.1, wanted.unwrap_or_default()))
        }
    });
    action.args(own::Wanted::schema())
}

fn state(looks: &Arc<Looks>, settings: Held<Sysinfo>) -> Action {
    let looks = Arc::clone(looks);
    let help = "The state of the host now, as the event system-state tells it";
    Action::read("state", help, move |_: Call, _: Value| {
        let (looks, settings) = (Arc::clone(&looks), *settings.get());
        async move {
            let seen = see(&looks).await;
            Ok(event(&seen, &judge(&seen, &settings), false))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_subsystem::Config;

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let text = include_str!("../../../packaging/etc/sysinfo.toml");
        crate::example::check::<Config<Sysinfo>>(text, &["of", "warning", "critical", "urgent"]);
    }

    #[test]
    fn thresholds_that_cannot_be_meant_are_refused_by_name() {
        for (text, named) in [
            ("look_seconds = 0", "settings.look_seconds"),
            ("event_seconds = 3601", "settings.event_seconds"),
            ("disk = { warning = 0, critical = 1, urgent = 2 }", "settings.disk"),
            ("load = { warning = 3, critical = 2, urgent = 4 }", "settings.load"),
        ] {
            let settings: Settings = toml::from_str(text).expect("syntax");
            let wrong = settings.check().expect_err("refused");
            assert_eq!(wrong.key(), Some(named), "{text}");
        }
        assert!(toml::from_str::<Settings>("disk = { warning = 1 }").is_err());
        assert_eq!(Settings::default().check().map_err(|wrong| wrong.to_string()), Ok(()));
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let looks = Looks::default();
        let host = look::host();
        assert!(!host.name.is_empty() && host.cpus > 0 && host.memory > 0, "{host:?}");
        assert!(look::memory().total > 0);
        let found = looks.processes().expect("nobody else looks");
        let (processes, all) = found.as_ref();
        assert!(
            processes.len() == (*all).min(10_000) && processes.iter().any(|p| p.pid == std::process::id())
        );
        assert_eq!(looks.busy().expect("nobody else looks").len(), host.cpus);
        assert!(looks.disks().is_ok());
        assert!(!look::interfaces().is_empty(), "there is lo");
    }
}

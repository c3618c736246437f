//! Programs of an author's beside a stack: started under an account of their own, and ended with it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Stack;
use crate::leftovers;
use crate::programs::{for_any_uid, programs};

/// One that says `ready`, until it is dropped: before its stack.
#[derive(Debug)]
pub struct Plugin {
    log: PathBuf,
    child: Child,
}

impl Stack {
    /// Starts a program under the uid of subsystems, which with `Pam::Real` is nobody else's. What it prints goes to a file of this name.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub fn add_plugin(&self, name: &str, mut command: Command) -> Plugin {
        let log = self.path("log").join(name);
        let printed = File::create(&log).expect("a file in our directory");
        let errors = printed.try_clone().expect("a descriptor");
        let uid = self.subsystem_uid();
        command.uid(uid).gid(uid).stdin(Stdio::null()).stdout(printed).stderr(errors);
        let plugin = Plugin { log, child: command.spawn().expect("a program") };
        let check = || match plugin.printed() {
            text if text.lines().any(|line| line == "ready") => Ok(()),
            text => Err(text),
        };
        leftovers::wait_for("the plug-in to be ready", Duration::from_secs(20), check).expect("it is ready");
        plugin
    }

    /// A directory of the stack's for them, which only they and this group get into.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn plugin_directory(&self, name: &str, group: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a directory in ours");
        chown(&path, Some(self.subsystem_uid()), Some(group)).expect("chown of our directory");
        fs::set_permissions(&path, Permissions::from_mode(0o710)).expect("chmod of our directory");
        path
    }

    /// A program of the examples, as any uid can run it.
    pub fn example(&self, which: Example) -> PathBuf {
        let program: &Path = match which {
            Example::Terminals => &programs().terminals,
            Example::TerminalsChannels => &programs().terminals_channels,
        };
        for_any_uid(program, &self.path("bin"))
    }
}

/// A program of the examples.
#[derive(Debug, Clone, Copy)]
pub enum Example {
    /// doorward-terminals.
    Terminals,
    /// doorward-terminals-channels.
    TerminalsChannels,
}

impl Plugin {
    /// What it has printed and logged.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! strace(1) attached to a running program: which system calls it makes about some files, and having one of them fail.
//! Needs root, as strace on a program that is not dumpable does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::wait;

const PATIENCE: Duration = Duration::from_secs(10);

/// One system call that is to fail: the `nth` (from 1) of each thread, counted from now on.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// `pwrite64`, ...
    pub call: &'static str,
    /// `EIO`, ...
    pub error: &'static str,
    /// Which of them, from 1.
    pub nth: usize,
}

/// A program that is being watched; it is let go when this is dropped.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    file: PathBuf,
}

impl Strace {
    /// Watches the calls of a process that are about these files, by path or by descriptor, and writes them to `file`;
    /// with a fault only the calls of that name. Returns when all its threads are watched.
    ///
    /// # Panics
    /// When strace cannot attach.
    pub fn attach(pid: u32, about: &[PathBuf], fault: Option<Fault>, file: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-a", "1", "-e", "signal=none", "-o"]).arg(file).arg(format!("--attach={pid}"));
        for path in about {
            command.arg("-P").arg(path);
        }
        if let Some(Fault { call, error, nth }) = fault {
            command.args(["-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:error={error}:when={nth}")]);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace runs");
        // It says what the paths resolve to, then that it is attached.
        let said = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = said.map_while(Result::ok);
        assert!(said.any(|line| line.contains("attached")), "strace is not attached: {:?}", child.wait());
        // Read on, so that it can say that threads come and go.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, file: file.to_owned() }
    }

    /// Whether the fault has happened already.
    pub fn struck(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| text.contains("(INJECTED)"))
    }

    /// Lets the program go; how often a thread made each call at most, and how many failed by the fault.
    ///
    /// # Panics
    /// When strace does not end.
    pub fn detach(mut self) -> Calls {
        self.end();
        let text = fs::read_to_string(&self.file).expect("strace wrote it");
        fs::remove_file(&self.file).expect("ours");
        let mut calls = Calls::default();
        let mut each = BTreeMap::<(&str, &str), usize>::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            calls.struck += usize::from(rest.contains("(INJECTED)"));
            let name = rest.trim_start().split('(').next().unwrap_or_default();
            if rest.contains('(') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                *each.entry((thread, name)).or_default() += 1;
            }
        }
        for ((_, name), count) in each {
            let most = calls.most.entry(name.to_owned()).or_default();
            *most = count.max(*most);
        }
        calls
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        if matches!(self.child.try_wait(), Ok(None)) {
            kill(pid, Signal::SIGINT).expect("a child of ours");
        }
        assert!(wait(&mut self.child, PATIENCE).is_some(), "strace does not end");
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was seen of a program.
#[derive(Debug, Default)]
pub struct Calls {
    /// How often one of its threads made each call, at most.
    pub most: BTreeMap<String, usize>,
    /// Calls that failed by the fault.
    pub struck: usize,
}

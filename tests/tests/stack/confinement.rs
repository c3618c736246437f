//! What the kernel says of the running services: who they are, what they could do, what they have open.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use doorward_tests::{CODE, Client, Options, Pam, Program, Role, Stack, skip};
use serde_json::json;

use crate::subsystems::admitted;

const SERVICES: [Program; 3] = [Program::Certd, Program::Authd, Program::Gateway];

/// A line of /proc/PID/status, its words parted by single blanks.
fn line(status: &str, key: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn read(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_else(|e| panic!("{name} of {pid}: {e}"))
}

fn uid(stack: &Stack, program: Program) -> u32 {
    match program {
        Program::Guard => 0,
        Program::Certd => stack.certd_uid(),
        Program::Authd => stack.authd_uid(),
        Program::Gateway => stack.gateway_uid(),
    }
}

/// A service while it is looked at.
struct Service {
    name: &'static str,
    pid: u32,
    uid: u32,
}

impl Service {
    fn of(stack: &Stack, program: Program) -> Self {
        let name = match program {
            Program::Guard => "doorward-pam-guard",
            Program::Certd => "doorward-certd",
            Program::Authd => "doorward-authd",
            Program::Gateway => "doorward-gateway",
        };
        Self { name, pid: stack.pid(program), uid: uid(stack, program) }
    }

    fn sysinfo(stack: &Stack) -> Self {
        Self { name: "doorward-sysinfo", pid: stack.sysinfo_pid(), uid: stack.subsystem_uid() }
    }
}

/// Every thread: what one has, all have.
fn is_powerless(stack: &Stack, service: &Service) {
    let Service { name: program, pid, uid } = service;
    let own = uid.to_string();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let mut count = 0;
    for thread in threads {
        let thread = thread.expect("a thread").file_name().into_string().expect("a number");
        // A blocking thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")) else { continue };
        // Or is about to: then it has no file system any more, nor this line.
        if !status.contains("\nUmask:") {
            continue;
        }
        count += 1;
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(line(&status, set), "0000000000000000", "{program}: {set}");
        }
        // Emptying it takes root, which the services under libpam-wrapper never are.
        if stack.pam() == Pam::Real {
            assert_eq!(line(&status, "CapBnd"), "0000000000000000", "{program}: CapBnd");
        }
        assert_eq!(line(&status, "NoNewPrivs"), "1", "{program}");
        assert_eq!(line(&status, "Seccomp"), "2", "{program}");
        for ids in ["Uid", "Gid"] {
            assert_eq!(line(&status, ids), [own.as_str(); 4].join(" "), "{program}: {ids}");
        }
        // Without root there is no separation, and nobody leaves a group.
        if skip::is_root() {
            assert_eq!(line(&status, "Groups"), "", "{program}");
        }
        assert_eq!(line(&status, "Umask"), "0077", "{program}");
    }
    assert!(count > 1, "{program} has its threads");
}

/// Neither by a crash nor by a debugger of the same uid does its memory come out.
fn keeps_its_memory(service: &Service) {
    let Service { name: program, pid, .. } = service;
    let limits = read(*pid, "limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{program}");
    // What is not dumpable is root's, whoever runs it.
    for name in ["maps", "environ", "mem"] {
        let owner = fs::metadata(format!("/proc/{pid}/{name}")).expect("there").uid();
        assert_eq!(owner, 0, "{program}: {name}");
    }
}

/// What a process has open, as the kernel names it.
fn open_files(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("root sees them");
    let links = entries.filter_map(|entry| fs::read_link(entry.expect("an entry").path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// The sockets of a process by their inodes.
fn sockets(open: &[String]) -> BTreeSet<&str> {
    open.iter().filter_map(|name| name.strip_prefix("socket:[")?.strip_suffix(']')).collect()
}

/// The names on which it listens.
fn listens_at(pid: u32, open: &[String]) -> BTreeSet<String> {
    const LISTENS: &str = "00010000";
    let inodes = sockets(open);
    let table = read(pid, "net/unix");
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(3) == Some(&LISTENS) && row.get(6).is_some_and(|inode| inodes.contains(inode)))
        .map(|row| final_name(row.get(7).copied().unwrap_or_default()))
        .collect()
}

/// The kernel keeps the name that a socket was bound under, which was a temporary one beside its final
/// one: `.NAME.PID`, with a count or without, with the directory or without.
fn final_name(bound: &str) -> String {
    let name = bound.rsplit('/').next().unwrap_or_default().trim_start_matches('.');
    let end = name.find(".sock").map_or(name.len(), |at| at + ".sock".len());
    name.get(..end).unwrap_or_default().to_owned()
}

/// Its sockets of a family: /proc/PID/net/`table`, where the inode has this column.
fn of_family(pid: u32, open: &[String], table: &str, column: usize) -> usize {
    let inodes = sockets(open);
    let Ok(table) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { return 0 };
    let rows = table.lines().filter_map(|row| row.split_whitespace().nth(column));
    rows.filter(|inode| inodes.contains(inode)).count()
}

fn program_has_only_the_expected_open(stack: &Stack, program: Program) {
    let (sockets, state, tcp): (&[&str], &[&str], usize) = match program {
        Program::Guard => (&["pam.sock"], &[], 0),
        Program::Certd => (
            &["certd.sock", "authd.sock"],
            &[
                "audit.jsonl",
                "registry.lock",
                "registry.sqlite",
                "registry.sqlite-wal",
                "registry.sqlite-shm",
            ],
            0,
        ),
        Program::Authd => (
            &["authd.sock", "peer.sock"],
            &[
                "audit.jsonl",
                "penalties.sqlite",
                "penalties.sqlite-wal",
                "penalties.sqlite-shm",
                "sessions.lock",
                "sessions.sqlite",
                "sessions.sqlite-wal",
                "sessions.sqlite-shm",
            ],
            0,
        ),
        // The door, and the two listeners of the token API.
        Program::Gateway => (&["gateway.sock"], &["audit.jsonl"], 3),
    };
    let guard_directory = stack.path("run/pam").to_string_lossy().into_owned();
    has_only_the_expected_open(stack, &Service::of(stack, program), sockets, state, tcp, |name| {
        // Where it made its socket, and will remove it.
        (program == Program::Guard && name == guard_directory)
            // What libnss-wrapper reads its users from.
            || (program == Program::Authd && name.contains("/nss/"))
    });
}

fn has_only_the_expected_open(
    stack: &Stack,
    service: &Service,
    sockets: &[&str],
    state: &[&str],
    tcp: usize,
    more: impl Fn(&str) -> bool,
) {
    let Service { name: program, pid, .. } = *service;
    let open = open_files(pid);
    let expected: BTreeSet<String> = sockets.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listens_at(pid, &open), expected, "{program}");
    let tcp_sockets = of_family(pid, &open, "tcp", 9) + of_family(pid, &open, "tcp6", 9);
    assert_eq!(tcp_sockets, tcp, "{program}: TCP");
    for (table, column) in [("udp", 9), ("udp6", 9), ("raw", 9), ("packet", 8)] {
        assert_eq!(of_family(pid, &open, table, column), 0, "{program}: {table}");
    }
    // By which it asks the kernel whose a connection is.
    let netlink = usize::from(program == "doorward-authd");
    assert_eq!(of_family(pid, &open, "netlink", 9), netlink, "{program}: netlink");
    let log = stack.path("log").to_string_lossy().into_owned();
    let own = stack.path("state").to_string_lossy().into_owned();
    // What is open for a moment, such as a file that is read, is not at a second look.
    let again = open_files(pid);
    for name in open.iter().filter(|name| again.contains(name)) {
        let expected = name.starts_with("socket:[")
            || ["/dev/null", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"].contains(&name.as_str())
            || name.starts_with(&log)
            || more(name)
            || name
                .strip_prefix(&own)
                .and_then(|name| name.rsplit_once('/'))
                .is_some_and(|(_, name)| state.contains(&name));
        assert!(expected, "{program} has {name} open");
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).expect("there"), Path::new("/dev/null"));
}

async fn the_services_as_the_kernel_sees_them(pam: Pam) {
    let Some(mut stack) = Stack::start(&Options::new(pam)) else { return };
    stack.add_sysinfo();
    // All of them have worked: users were looked up, sessions written, descriptors passed, the host looked at.
    let (mut client, _) = admitted(&stack, Role::Full).await;
    for action in ["host", "memory", "disks", "interfaces", "processes"] {
        client.ask("sysadm/systemmanager", json!({"action": action})).await.expect(action);
    }
    client.close().await;
    let sysinfo = Service::sysinfo(&stack);
    is_powerless(&stack, &sysinfo);
    keeps_its_memory(&sysinfo);
    assert!(stack.sysinfo_log().lines().any(|line| line.contains("confined") && line.contains("seccomp")));
    if pam == Pam::Real {
        assert_ne!(fs::metadata(stack.sysinfo_program()).expect("there").uid(), sysinfo.uid);
    }
    for program in SERVICES {
        let service = Service::of(&stack, program);
        is_powerless(&stack, &service);
        keeps_its_memory(&service);
        stack.await_log(program, &["confined", "seccomp"]);
        if pam == Pam::Real {
            assert_ne!(fs::metadata(stack.program_file(program)).expect("there").uid(), uid(&stack, program));
        }
    }
    if skip::is_root() {
        for program in SERVICES.into_iter().chain([Program::Guard]) {
            program_has_only_the_expected_open(&stack, program);
        }
        has_only_the_expected_open(&stack, &sysinfo, &["sysinfo.sock"], &["audit.jsonl"], 0, |name| {
            // Processes that it looks at again and again.
            name.starts_with("/proc/") && name.ends_with("/stat")
        });
    }
}

#[tokio::test]
async fn the_services_have_no_power_and_nothing_unexpected_open_under_libpam_wrapper() {
    the_services_as_the_kernel_sees_them(Pam::Wrapper).await;
}

#[tokio::test]
async fn the_services_have_no_power_and_nothing_unexpected_open_with_real_accounts() {
    the_services_as_the_kernel_sees_them(Pam::Real).await;
}

/// A guard and its worker in the middle of a conversation.
#[tokio::test]
async fn a_conversation_has_its_connection_and_nothing_else_open() {
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let mut client = Client::unix(&stack).await;
    let conversation = client.login_prompts(stack.person(Role::Code)).await;
    stack.await_conversations(2);
    let listening = stack.path("run/pam/pam.sock").to_string_lossy().into_owned();
    let log = stack.path("log/doorward-pam-guard").to_string_lossy().into_owned();
    for process in stack.conversations() {
        let pid = process.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
        let open = open_files(pid);
        assert!(listens_at(pid, &open).is_empty(), "{process} has {listening}");
        for name in &open {
            let expected = name.starts_with("socket:[")
                || ["/dev/null", "anon_inode:[pidfd]"].contains(&name.as_str())
                || *name == log;
            assert!(expected, "{process} has {name} open");
        }
        if process.contains("--guard-pid") {
            // The connection alone; standard input, output and error are nothing.
            assert_eq!(sockets(&open).len(), 1, "{open:?}");
            let limits = read(pid, "limits");
            let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
            assert!(core.is_some_and(|core| core.split_whitespace().next() == Some("0")), "{limits}");
            for number in 0..3 {
                let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("there");
                assert_eq!(link, Path::new("/dev/null"), "{number}");
            }
        }
    }
    client.respond(&conversation, &[CODE]).await.expect("the login goes on");
    client.close().await;
    stack.await_no_conversations(Duration::from_secs(20));
}

/// Three uids, and none of them could change its own program or configuration.
#[tokio::test]
async fn no_service_owns_its_program_or_its_configuration() {
    let Some(stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    let uids = SERVICES.map(|program| uid(&stack, program));
    assert_eq!(BTreeSet::from(uids).len(), 3);
    for (program, name) in SERVICES.into_iter().zip(["certd", "authd", "gateway"]) {
        for path in [stack.program_file(program), &stack.path(&format!("doorward-{name}.toml"))] {
            let file = fs::metadata(path).expect("there");
            assert!(!uids.contains(&file.uid()), "{} is a service's", path.display());
            assert_eq!(file.mode() & 0o022, 0, "others can write {}", path.display());
        }
    }
}

/// In the order of the calls: closed before it has a name, its mode and owner before its final name,
/// and nobody can connect before the service is who it will be.
#[tokio::test]
async fn a_socket_is_never_wider_than_designed_not_for_an_instant() {
    if !Path::new("/usr/bin/strace").exists() {
        return skip::skipped("strace is missing");
    }
    let Some(mut stack) = Stack::start(&Options::new(Pam::Real)) else { return };
    for (program, sockets) in [
        (Program::Certd, &["certd.sock", "authd.sock"][..]),
        (Program::Authd, &["authd.sock", "peer.sock"]),
        (Program::Gateway, &["gateway.sock"]),
    ] {
        stack.stop(program);
        let calls =
            "bind,listen,fchmod,chmod,fchmodat,?fchmodat2,fchownat,renameat,rename,renameat2,setresuid";
        let file = stack.start_traced(program, calls);
        stack.stop(program);
        let trace = ended(&file).await;
        for socket in sockets {
            is_never_wider(&trace, socket);
        }
        fs::remove_file(&file).expect("ours");
        stack.start_again(program);
    }
}

/// What strace wrote, once the program has ended.
async fn ended(file: &Path) -> Vec<String> {
    for _ in 0..1_000 {
        let text = fs::read_to_string(file).expect("strace writes it");
        if text.lines().last().is_some_and(|line| line.contains("+++ exited with 0 +++")) {
            return text.lines().map(str::to_owned).collect();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("strace does not end: {:?}", fs::read_to_string(file));
}

fn is_never_wider(trace: &[String], socket: &str) {
    let after = |from: usize, words: &[&str]| -> usize {
        let found = trace.iter().skip(from).position(|line| words.iter().all(|word| line.contains(word)));
        from + found.unwrap_or_else(|| panic!("no {words:?} after line {from} of {trace:#?}"))
    };
    let temporary = format!("/.{socket}.");
    let bind = after(0, &["bind(", &temporary, ") = 0"]);
    // bind(FD, ...
    let descriptor = |line: &str, call: &str| -> String {
        let rest = line.split_once(call).expect("the call").1;
        rest.split([',', ')']).next().expect("a descriptor").to_owned()
    };
    let fd = descriptor(&trace[bind], "bind(");
    let closed =
        trace[..bind].iter().rposition(|line| line.contains("fchmod(")).expect("a mode before the name");
    assert!(trace[closed].contains(&format!("fchmod({fd}, 000) = 0")), "{}", trace[closed]);
    let mode = after(bind, &["chmod", &format!("\".{socket}."), ") = 0"]);
    let owner = after(mode, &["fchownat(", &format!("\".{socket}."), ") = 0"]);
    let named = after(owner, &["rename", &format!("\".{socket}."), &format!("\"{socket}\""), ") = 0"]);
    let dropped = after(named, &["setresuid(", ") = 0"]);
    let listens = after(dropped, &[&format!("listen({fd}, "), ") = 0"]);
    // Nothing is done to it beyond that.
    let touched = trace.iter().enumerate().filter(|(_, line)| line.contains(&format!("\".{socket}.")));
    assert_eq!(touched.map(|(at, _)| at).collect::<Vec<_>>(), [mode, owner, named]);
    assert!(!trace[..listens].iter().any(|line| line.contains(&format!("listen({fd}, "))), "{trace:#?}");
}

//! seccomp: system calls that no daemon makes once it serves answer ENOSYS, as on a kernel without them.
//!
//! A list of what is refused and not of what is allowed: that one changes with every C library, and the
//! systemd units have it. What counts is that no program is started, no process made, no socket opened
//! but local ones, and nothing of the kernel asked for that has no use here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::StartError;
use crate::sandbox::{Applied, Confinement};

/// Refused whatever their arguments are.
const REFUSED: &[c_long] = &[
    // Programs, processes of others. clone3 hides its flags behind a pointer; without it, libraries use clone.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone3,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // A second way to all other calls, past this filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // Parts of the kernel with a history of holes.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

#[cfg(target_arch = "x86_64")]
const FORKS: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[c_long] = &[];

/// The x32 personality of x86-64 has its own numbers for some calls, and all of them with a bit set.
/// Numbers: execve, ptrace, kexec_load, process_vm_readv, process_vm_writev, execveat.
const X32_OWN: &[c_long] = &[520, 521, 528, 539, 540, 545];
const X32_BIT: c_long = 0x4000_0000;

pub(in crate::sandbox) fn calls(confinement: &Confinement) -> Result<Applied, StartError> {
    let failed = |error| StartError::failed("cannot confine this process by seccomp", error);
    let Ok(architecture) = std::env::consts::ARCH.try_into() else { return Ok(Applied::NotHere) };
    let rules = rules(confinement.asks_for_sockets, confinement.connects).map_err(failed)?;
    let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)
        .and_then(TryInto::try_into)
        .map_err(failed)?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(Applied::Whole),
        // What kernels without it answer.
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            Ok(Applied::NotHere)
        }
        Err(error) => Err(StartError::failed("cannot confine this process by seccomp", error)),
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(asks_for_sockets: bool, connects: Option<SocketAddr>) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().chain(FORKS).map(|call| (*call, Vec::new())).collect();
    // A thread is made, a process is not.
    let process = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD.cast_unsigned().into());
    rules.insert(libc::SYS_clone, vec![rule([(0, process, 0)])?]);
    // Of what is no local socket nothing is made: neither UDP nor a relative of TCP that Landlock misses.
    let mut families = vec![libc::AF_UNIX];
    if asks_for_sockets {
        families.push(libc::AF_NETLINK);
    }
    let mut refused = Vec::new();
    if let Some(address) = connects {
        // TCP itself, and none of its relatives (MPTCP, SCTP, SMC) that Landlock does not know.
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let of_family = (FAMILY, SeccompCmpOp::Eq, family.cast_unsigned().into());
        let kind = SeccompCmpOp::MaskedEq(SOCK_TYPE_MASK);
        for kind_of_another in
            [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_RDM, libc::SOCK_DCCP]
        {
            refused.push(rule([
                of_family.clone(),
                (KIND, kind.clone(), kind_of_another.cast_unsigned().into()),
            ])?);
        }
        let not = |protocol: i32| (PROTOCOL, SeccompCmpOp::Ne, u64::from(protocol.cast_unsigned()));
        refused.push(rule([of_family, not(0), not(libc::IPPROTO_TCP)])?);
        families.push(family);
    }
    let other = families.into_iter().map(|family| (FAMILY, SeccompCmpOp::Ne, family.cast_unsigned().into()));
    refused.push(rule(other)?);
    rules.insert(libc::SYS_socket, refused);
    if cfg!(target_arch = "x86_64") {
        let own = X32_OWN.iter().map(|call| (*call, Vec::new()));
        let with_bit: Vec<_> =
            own.clone().chain(rules.clone()).map(|(call, r)| (call | X32_BIT, r)).collect();
        rules.extend(own.chain(with_bit));
    }
    Ok(rules)
}

/// The arguments of socket(), and what of the second is the kind and not a flag.
const FAMILY: u8 = 0;
const KIND: u8 = 1;
const PROTOCOL: u8 = 2;
const SOCK_TYPE_MASK: u64 = 0xf;

/// All of these conditions on arguments that are 32-bit numbers.
fn rule(
    conditions: impl IntoIterator<Item = (u8, SeccompCmpOp, u64)>,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.into_iter().map(|(argument, compare, value)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

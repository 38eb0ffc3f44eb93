// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of the system calls that a worker may make, with a reason for each.
//!
//! Any other call ends the process, among them all that open a file, a socket or another process, execute,
//! fork, map executable memory, or send a signal to another process.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use anyhow::{Context, Result};
use daedalus_uapi::fd::{
    DMA_BUF_IOCTL_SYNC, IOC_BUFFER_FD, IOC_CODED_DONE, IOC_END, IOC_FORMAT, IOC_HEADERS, IOC_JOB_DONE,
    IOC_PICTURE,
};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// The calls of the module, of both faces.
const SESSION_CALLS: [u32; 7] = [
    IOC_BUFFER_FD,
    IOC_JOB_DONE,
    IOC_FORMAT,
    IOC_PICTURE,
    IOC_CODED_DONE,
    IOC_END,
    IOC_HEADERS,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

const SESSION: u64 = 0;
const LOG: u64 = 2;
/// The flags with which the C library starts a thread. Only exactly these are allowed, so neither processes
/// nor namespaces can be made.
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;

/// The list under construction.
#[derive(Default)]
struct List(Rules);

impl List {
    /// Allows a call whatever its arguments are.
    fn any(&mut self, call: c_long) {
        self.0.entry(call).or_default();
    }

    /// Allows a call if its argument number `argument` has the `value`, compared in 32 bits as the kernel
    /// does with descriptors, commands and flags.
    fn with(&mut self, call: c_long, argument: u8, value: u64) -> Result<()> {
        self.rule(call, &[(argument, SeccompCmpOp::Eq, value)])
    }

    fn rule(&mut self, call: c_long, conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<()> {
        let conditions = conditions
            .iter()
            .map(|(argument, op, value)| {
                SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, op.clone(), *value)
            })
            .collect::<Result<_, _>>()?;
        self.0
            .entry(call)
            .or_default()
            .push(SeccompRule::new(conditions)?);
        Ok(())
    }
}

fn allowed(open_fd: Option<RawFd>) -> Result<Rules> {
    let own = u64::from(std::process::id());
    let mut list = List::default();

    // The session: its messages, whether there is one, its buffers, its answers.
    list.with(libc::SYS_read, 0, SESSION)?;
    list.any(libc::SYS_ppoll);
    #[cfg(target_arch = "x86_64")]
    list.any(libc::SYS_poll); // what ppoll is on other machines
    for command in SESSION_CALLS {
        list.rule(
            libc::SYS_ioctl,
            &[
                (0, SeccompCmpOp::Eq, SESSION),
                (1, SeccompCmpOp::Eq, u64::from(command)),
            ],
        )?;
    }
    // Imported memory is bracketed, on its own descriptor.
    list.with(libc::SYS_ioctl, 1, u64::from(DMA_BUF_IOCTL_SYNC))?;
    // Buffers are mapped and unmapped, their descriptors closed.
    list.any(libc::SYS_close);

    // Log lines, and the C library's last words; what else was handed over for writing.
    list.with(libc::SYS_write, 0, LOG)?;
    list.with(libc::SYS_writev, 0, LOG)?;
    if let Some(fd) = open_fd.and_then(|fd| u64::try_from(fd).ok()) {
        list.with(libc::SYS_write, 0, fd)?;
    }

    // Memory, never executable: buffers, the allocator's, threads' stacks.
    let exec = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        list.rule(call, &[(2, SeccompCmpOp::MaskedEq(exec), 0)])?;
    }
    list.any(libc::SYS_munmap);
    list.any(libc::SYS_mremap); // realloc
    list.any(libc::SYS_madvise); // the allocator, and stacks of threads that ended
    list.any(libc::SYS_brk);

    // Threads of the decoder: start, locks, name, end.
    list.with(libc::SYS_clone, 0, THREAD)?;
    // Its flags are in memory, where a filter cannot look: `no_clone3` answers ENOSYS, and the C library
    // then uses clone.
    list.any(libc::SYS_clone3);
    list.any(libc::SYS_set_robust_list);
    list.any(libc::SYS_rseq);
    list.any(libc::SYS_futex);
    list.any(libc::SYS_sched_yield);
    list.any(libc::SYS_sched_getaffinity); // decoders count processors
    list.any(libc::SYS_gettid);
    list.any(libc::SYS_getpid);
    list.with(libc::SYS_prctl, 0, libc::PR_SET_NAME as u64)?;
    list.any(libc::SYS_exit);
    list.any(libc::SYS_exit_group);

    // Signals: its own end by abort(), whose alternative stack each thread of Rust has; going on after
    // SIGSTOP.
    list.with(libc::SYS_tgkill, 0, own)?;
    list.any(libc::SYS_rt_sigprocmask);
    list.any(libc::SYS_rt_sigaction);
    list.any(libc::SYS_rt_sigreturn);
    list.any(libc::SYS_sigaltstack);
    list.any(libc::SYS_restart_syscall);

    // Time, where it takes a call; deliberate stalls of tests.
    list.any(libc::SYS_clock_gettime);
    list.any(libc::SYS_clock_nanosleep);
    // Seeds of hash tables.
    list.any(libc::SYS_getrandom);
    Ok(list.0)
}

fn no_clone3() -> Rules {
    BTreeMap::from([(libc::SYS_clone3, Vec::new())])
}

fn compile(rules: Rules, mismatch: SeccompAction, matched: SeccompAction) -> Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).context("no filter for this architecture")?;
    Ok(BpfProgram::try_from(SeccompFilter::new(
        rules, mismatch, matched, arch,
    )?)?)
}

/// Installs two filters. One takes `action` for every call that is not on the list. The other makes clone3()
/// fail, so that the C library uses clone(). The kernel takes the more severe action of the two.
pub(super) fn install(action: SeccompAction, open_fd: Option<RawFd>) -> Result<()> {
    let refuse = compile(
        no_clone3(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?;
    let list = compile(allowed(open_fd)?, action, SeccompAction::Allow)?;
    // The first filter applies already when the second is installed, and it allows the calls for that.
    apply_filter(&refuse)?;
    apply_filter(&list)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiles_and_is_short() {
        let rules = allowed(Some(7)).unwrap();
        assert!(rules.len() < 45, "{} calls", rules.len());
        for call in [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_execve,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_unshare,
        ] {
            assert!(!rules.contains_key(&call), "call {call}");
        }
        assert_eq!(rules[&libc::SYS_ioctl].len(), SESSION_CALLS.len() + 1);
        compile(rules, SeccompAction::KillProcess, SeccompAction::Allow).unwrap();
    }
}

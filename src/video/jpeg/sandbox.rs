//! Restricts decoding threads to a few system calls, on Linux.
//!
//! JPEGs come from strangers and are parsed by a C library. A thread under an attacker's control
//! must not be able to open files, use the network, start programs or write to anything open,
//! except messages to standard error. It still shares its memory with all other threads, which may
//! do all of that, so the sandbox makes an attack harder, not harmless.

use std::fmt;

/// The sandboxing mechanisms in force on a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SandboxStatus {
    /// Landlock: no file system, no TCP, no signals to other processes.
    pub landlock: bool,
    /// Seccomp: only the system calls that decoding needs.
    pub seccomp: bool,
}

impl fmt::Display for SandboxStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.landlock, self.seccomp) {
            (true, true) => "Landlock and seccomp",
            (true, false) => "Landlock alone",
            (false, true) => "seccomp alone",
            (false, false) => "nothing",
        })
    }
}

/// Sandboxes a short-lived thread, to find out what this system supports.
pub fn sandbox_status() -> SandboxStatus {
    std::thread::spawn(sandbox_this_thread).join().unwrap_or_default()
}

/// Sandboxes the calling thread and its future child threads, permanently. Mechanisms that the
/// kernel lacks are skipped. Returns those in force.
pub(super) fn sandbox_this_thread() -> SandboxStatus {
    imp::sandbox_this_thread()
}

#[cfg(target_os = "linux")]
mod imp {
    use std::{collections::BTreeMap, env::consts::ARCH, error::Error};

    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
    use log::debug;
    use nix::sys::signal::{SigSet, Signal};
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, apply_filter,
    };

    use super::SandboxStatus;

    pub(super) fn sandbox_this_thread() -> SandboxStatus {
        leave_signals_to_others();
        // In this order: the seccomp filter forbids Landlock's system calls.
        let landlock = match landlock() {
            Ok(is_enforced) => is_enforced,
            Err(error) => {
                debug!("decoding without Landlock: {error}");
                false
            }
        };
        let seccomp = match seccomp() {
            Ok(()) => true,
            Err(error) => {
                debug!("decoding without seccomp: {error}");
                false
            }
        };
        SandboxStatus { landlock, seccomp }
    }

    /// The kernel may deliver Ctrl-C to any thread, and a sandboxed one could not handle it.
    fn leave_signals_to_others() {
        let mut signals = SigSet::empty();
        signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        if let Err(error) = signals.thread_block() {
            debug!("decoding thread may receive signals: {error}");
        }
    }

    /// Forbids everything that Landlock can forbid. Returns whether any of it is enforced: older
    /// kernels support less.
    pub(super) fn landlock() -> Result<bool, landlock::RulesetError> {
        let status = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()?;
        debug!("decoding with Landlock: {:?}", status.ruleset);
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }

    /// Allows only the system calls that decoding needs; any other fails with `EPERM`. Ending the
    /// thread or the process instead would turn a forgotten system call into a crash.
    fn seccomp() -> Result<(), Box<dyn Error>> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
        let standard_error = || condition(0, SeccompCmpOp::Eq, libc::STDERR_FILENO as u64);
        for call in [libc::SYS_write, libc::SYS_writev] {
            rules.insert(call, vec![SeccompRule::new(vec![standard_error()?])?]);
        }
        let execute = libc::PROT_EXEC as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let no_code = condition(2, SeccompCmpOp::MaskedEq(execute), 0)?;
            rules.insert(call, vec![SeccompRule::new(vec![no_code])?]);
        }
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH.try_into()?)?;
        let program: BpfProgram = filter.try_into()?;
        Ok(apply_filter(&program)?)
    }

    fn condition(
        argument: u8,
        operator: SeccompCmpOp,
        value: u64,
    ) -> Result<SeccompCondition, seccompiler::BackendError> {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    }

    /// The newest Landlock ABI that is used; older kernels enforce what they support.
    const LANDLOCK: ABI = ABI::V6;

    /// Memory, synchronization, the clock, random numbers, core affinity, signal handling and exit.
    /// Mapping memory and writing have separate rules.
    const ALLOWED: [i64; 21] = [
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_getcpu,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_setaffinity,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::SandboxStatus;

    pub(super) fn sandbox_this_thread() -> SandboxStatus {
        SandboxStatus::default()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs::{self, File},
        io::{self, ErrorKind, Write},
        net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
        os::unix::net::UnixStream,
        process::Command,
        thread,
    };

    use super::*;

    fn is_refused<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    /// Tries what code in control of a thread might try. Returns the names of the attempts that
    /// were not refused.
    fn unrefused_attempts(
        mut open: &File,
        mut connected: &UnixStream,
        listener: &TcpListener,
        address: SocketAddr,
    ) -> Vec<&'static str> {
        let tried = [
            ("read a file", is_refused(fs::read("/proc/self/status"))),
            ("make a file", is_refused(tempfile::tempfile())),
            ("list a folder", is_refused(fs::read_dir("/"))),
            ("write an open file", is_refused(open.write(b"x"))),
            ("write to a socket", is_refused(connected.write(b"x"))),
            ("connect", is_refused(TcpStream::connect(address))),
            ("accept", is_refused(listener.accept())),
            ("bind", is_refused(UdpSocket::bind("127.0.0.1:0"))),
            ("start a program", is_refused(Command::new("/bin/true").status())),
            ("start a thread", is_refused(thread::Builder::new().spawn(|| ()))),
        ];
        tried.into_iter().filter(|(_, refused)| !refused).map(|(what, _)| what).collect()
    }

    #[test]
    fn a_sandboxed_thread_is_denied_files_sockets_and_processes() {
        let open = tempfile::tempfile().expect("a file");
        let (connected, _other) = UnixStream::pair().expect("sockets");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let _waiting = TcpStream::connect(address).expect("connects");
        let attempts = || unrefused_attempts(&open, &connected, &listener, address);
        let could = thread::scope(|scope| {
            scope.spawn(|| (sandbox_this_thread(), attempts())).join().expect("no panic")
        });
        if !could.0.seccomp {
            eprintln!("skipped: this kernel has no seccomp filters");
            return;
        }
        assert_eq!(could.1, Vec::<&str>::new());
        assert_eq!(attempts().len(), 10, "without the sandbox, all of it works");
    }

    #[test]
    fn landlock_alone_denies_files_and_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        let tried = thread::spawn(move || {
            let landlock = imp::landlock();
            (
                landlock,
                [is_refused(fs::read("/proc/self/status")), is_refused(TcpStream::connect(addr))],
            )
        });
        match tried.join().expect("no panic") {
            (Ok(true), refused) => assert_eq!(refused, [true; 2]),
            (status, _) => eprintln!("skipped: this kernel has no Landlock: {status:?}"),
        }
    }

    #[test]
    fn the_reported_seccomp_status_matches_the_kernel() {
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        assert_eq!(sandbox_status().seccomp, status.contains("\nSeccomp:"));
    }
}

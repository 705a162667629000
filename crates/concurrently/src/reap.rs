//! The kernel's side of looking after children: signals as a descriptor, waiting for every child, adopting orphans
//! (INI-01..04). The only place of this program with `unsafe` code, and with `process` the only one that calls the
//! kernel past std.
//!
//! One thread does all of it; signals of interest are blocked there and read from a signalfd, so there are no
//! handlers and no races between a signal and `poll`.

pub(crate) mod group;
pub(crate) mod poll;

use std::{
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
};

use rustix::{
    io::Errno,
    process::{Pid, WaitOptions},
};

use crate::{behaviours::Exit, signal::Signal};

/// Where we stand among the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// PID 1 of a container: orphans are ours anyway, and nobody is left to tell when we give up.
    Init,
    /// Started by somebody: orphans become ours by asking for them (INI-04, DEC-31).
    Tool,
}

/// Finds our role, and takes over orphans from now on.
///
/// # Errors
/// The kernel refuses to make us a subreaper (older than 3.4).
pub(crate) fn adopt_orphans() -> io::Result<Role> {
    if std::process::id() == 1 {
        return Ok(Role::Init);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(Role::Tool)
}

pub(crate) fn stdout_is_terminal() -> bool {
    rustix::termios::isatty(rustix::stdio::stdout())
}

pub(crate) fn stdin_is_terminal() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin())
}

/// Signals as something to poll.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: File,
}

impl Signals {
    /// Blocks the signals that matter and opens their descriptor.
    ///
    /// As PID 1 we need no default actions (INI-02): USR1 and USR2 then do nothing, stopping us is impossible.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub(crate) fn open(role: Role) -> io::Result<Self> {
        let mut wanted = vec![
            Signal::CHLD,
            Signal::INT,
            Signal::TERM,
            Signal::HUP,
            Signal::QUIT,
        ];
        if role == Role::Tool {
            wanted.extend([Signal::TSTP, Signal::CONT]);
        }
        Ok(Self {
            descriptor: File::from(block_and_open(&wanted)?),
        })
    }

    /// The next signal that has arrived. Call it when the descriptor is readable, until `None`.
    pub(crate) fn take(&mut self) -> Option<Signal> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        // Not blocking; whatever goes wrong, the level is still there at the next poll.
        let read = self.descriptor.read(&mut record).ok()?;
        let number = record[..read].first_chunk::<4>()?;
        Some(Signal::from_raw(u32::from_ne_bytes(*number).cast_signed()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[expect(
    unsafe_code,
    reason = "neither std nor rustix has signal masks, dispositions and signalfd"
)]
fn block_and_open(wanted: &[Signal]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that it is given; `sigaddset` changes that set. `pthread_sigmask` and
    // `signalfd` only read it. The descriptor returned is new and nobody else's.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in wanted {
            libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        }
        // Whoever started us may ignore SIGCHLD; children would then vanish without a status.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        match libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Makes a child begin as if a login shell had started it: default dispositions, and told to end when we are gone
/// without having ended it (INI-02, INI-03). Our signal mask would be inherited otherwise.
#[expect(
    unsafe_code,
    reason = "what happens between fork and exec cannot be expressed in safe code"
)]
pub(crate) fn prepare_child(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the forked child before exec. It allocates nothing, takes no lock and calls only
    // `signal`, `sigemptyset` (on a set of its own), `pthread_sigmask`, `prctl`, `getppid` and, on failure, builds an
    // error from a number; all are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let mut none = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            for number in 1..32 {
                if number != libc::SIGKILL && number != libc::SIGSTOP {
                    libc::signal(number, libc::SIG_DFL);
                }
            }
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            // Gone before the line above counted? In a namespace of its own a parent outside shows as none.
            match rustix::process::getppid() {
                Some(now) if now != parent => Err(Errno::SRCH.into()),
                _ => Ok(()),
            }
        });
    }
}

/// The next child that has ended, a command or an orphan, and how; `None` when all others still run.
pub(crate) fn next_dead_child() -> Option<(Pid, Exit)> {
    loop {
        // Any child at all: as PID 1 every orphan of the container ends up here (INI-01).
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(code) = status.exit_status() {
                    return Some((pid, Exit::Code(code)));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Some((pid, Exit::Signal(Signal::from_raw(signal))));
                }
            }
            Err(Errno::INTR) => {}
            // No children, or none that has ended.
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Stops ourselves as a terminal's Ctrl-Z would; returns when somebody has us continue.
pub(crate) fn stop_ourselves() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}

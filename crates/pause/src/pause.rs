//! The sandbox's first process (PAU-01..08): it holds the pod's namespaces and does nothing else.
//!
//! No standard library, no allocator, no handlers: the three signals that matter are blocked, and
//! the only thread waits for one of them. A blocked signal stays pending even for the first
//! process of a PID namespace, which would otherwise ignore it, so no signal can be missed and no
//! code runs in a handler.
//!
//! ```text
//!            SIGCHLD: reap all that have ended
//!            +----------+
//!            v          |
//!  start -> wait -------+
//!            |
//!            +-- SIGINT, SIGTERM: notice on stderr, exit 0
//! ```
//!
//! Exit codes: 0 stopped or `-v`; 1 the signals can't be blocked; 42 waiting failed.
//! Compiled by `build.rs`, never as a module of the crate.

#![no_std]
#![no_main]

use core::arch::asm;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("pause knows the system calls of x86_64 and aarch64 only: add a `sys` module here");

/// System call numbers, from `asm/unistd_64.h`.
#[cfg(target_arch = "x86_64")]
mod sys {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const GETPID: usize = 39;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

/// System call numbers, from `asm-generic/unistd.h`.
#[cfg(target_arch = "aarch64")]
mod sys {
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const GETPID: usize = 172;
    pub const WAIT4: usize = 260;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const EINTR: isize = 4;
/// Size of the kernel's signal set in bytes.
const SIGSET_BYTES: usize = 8;

/// The kernel starts the program here with the argument count at the top of the stack.
///
/// Safe code can't read the initial stack pointer.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {main}",
        "ud2",
        main = sym main,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("mov x29, xzr", "mov x0, sp", "b {main}", main = sym main);
}

/// `stack` points at the argument count, which the argument pointers follow.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: the kernel's process start layout: argc, then argc pointers to C strings.
    if unsafe { asks_for_version(stack) } {
        write(1, concat!("pause ", env!("CARGO_PKG_VERSION"), "\n"));
        exit(0);
    }
    let signals: u64 = [SIGINT, SIGTERM, SIGCHLD]
        .iter()
        .fold(0, |set, n| set | 1 << (n - 1));
    let set = (&raw const signals).addr();
    if syscall(sys::RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SIGSET_BYTES]) < 0 {
        write(2, "pause: can't block SIGINT, SIGTERM and SIGCHLD\n");
        exit(1);
    }
    if syscall(sys::GETPID, [0; 4]) != 1 {
        write(2, "Warning: pause should be the first process\n");
    }
    loop {
        // Before the first wait too: children may have ended before the signals were blocked.
        while syscall(sys::WAIT4, [usize::MAX, 0, WNOHANG, 0]) > 0 {}
        match syscall(sys::RT_SIGTIMEDWAIT, [set, 0, 0, SIGSET_BYTES]) {
            SIGINT => stop("Shutting down, got signal: Interrupt\n"),
            SIGTERM => stop("Shutting down, got signal: Terminated\n"),
            signal if signal > 0 || signal == -EINTR => {}
            _ => {
                write(2, "pause: can't wait for signals\n");
                exit(42);
            }
        }
    }
}

/// Whether any argument is `-v`, in either case (PAU-04).
///
/// # Safety
/// `stack` must be the initial stack pointer of the process.
unsafe fn asks_for_version(stack: *const usize) -> bool {
    // SAFETY: see above; argument strings end with a zero byte, which ends the comparison.
    unsafe {
        let count = *stack;
        (1..count).any(|i| {
            let argument = *stack.add(1 + i) as *const u8;
            *argument == b'-' && *argument.add(1) | 0x20 == b'v' && *argument.add(2) == 0
        })
    }
}

fn stop(notice: &str) -> ! {
    write(2, notice);
    exit(0);
}

/// Writes to a descriptor; what can't be written is nobody's business here.
fn write(descriptor: usize, text: &str) {
    syscall(
        sys::WRITE,
        [descriptor, text.as_ptr().addr(), text.len(), 0],
    );
}

fn exit(code: usize) -> ! {
    loop {
        syscall(sys::EXIT_GROUP, [code, 0, 0, 0]);
    }
}

/// A system call of up to four arguments: its result, negative for an error number.
fn syscall(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the calls above only write through pointers that are null, so no memory of ours
    // changes; without libc there is no other way to the kernel.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack, readonly),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "svc 0",
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x8") number,
            options(nostack, readonly),
        );
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(42)
}

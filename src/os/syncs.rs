//! Spares a child the wait for the disk: its fsync, fdatasync and msync do nothing and succeed.
//!
//! Data in a scratch directory is restored again after a crash of the machine, so nothing in it has to
//! be on the disk, and what is in the page cache survives every death of a process. A server offers no
//! option for this: MariaDB's `innodb_flush_method=nosync` still syncs. So a seccomp filter answers in
//! the kernel's place. Who stores the data asks with [`failed`] whether the kernel could not write any
//! of it, which a sync would have said. Structures and numbers: seccomp(2), linux/filter.h.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What of `struct seccomp_data` is looked at.
const SYSCALL: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The audit number of the architecture whose system calls `libc` has; elsewhere children sync.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: u32 = 0;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Error number 0: the call returns 0.
const DONE: libc::sock_filter = step(RETURN, libc::SECCOMP_RET_ERRNO, 0, 0);
const PASS: libc::sock_filter = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);

const FILTER: [libc::sock_filter; 8] = [
    step(LOAD, ARCHITECTURE, 0, 0),
    step(EQUAL, NATIVE, 0, 4),
    step(LOAD, SYSCALL, 0, 0),
    step(EQUAL, libc::SYS_fsync as u32, 3, 0),
    step(EQUAL, libc::SYS_fdatasync as u32, 2, 0),
    step(EQUAL, libc::SYS_msync as u32, 1, 0),
    PASS,
    DONE,
];

/// Spares `command` its syncs, where the kernel can do that; and it gains no privileges.
pub fn spare(command: &mut Command) {
    // SAFETY: between fork and exec only prctl and a plain system call are made, which are
    // async-signal-safe; nothing is allocated and no lock is taken. The kernel copies the filter.
    unsafe {
        command.pre_exec(|| {
            let mut filter = FILTER;
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Without it the child syncs, and is only slower.
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &program,
            );
            Ok(())
        });
    }
}

/// The error with which the kernel failed to write some of `file` to its disk, if it did since somebody
/// was last told. Waits for nothing that has not begun.
///
/// # Errors
/// That error.
pub fn failed(file: &File) -> io::Result<()> {
    // SAFETY: a plain system call on a live descriptor.
    let done =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 1, libc::SYNC_FILE_RANGE_WAIT_BEFORE) };
    let e = io::Error::last_os_error();
    // Anything else is said of file systems and sandboxes that do not know the call.
    let lost = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::ENXIO];
    if done != 0 && lost.map(Some).contains(&e.raw_os_error()) { Err(e) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::{Child, Exit, command};

    #[test]
    fn a_sync_of_a_child_that_is_spared_succeeds_anywhere() {
        // What is no file cannot be synced: EINVAL, unless nobody is asked.
        let run = |spared: bool| {
            let mut sync = command("sync");
            sync.args(["--data", "/dev/null"]).stderr(std::process::Stdio::null());
            if spared {
                spare(&mut sync);
            }
            let mut child = Child::spawn(&mut sync).unwrap();
            loop {
                match child.try_wait() {
                    Some(exit) => break exit == Exit::Status(0),
                    None => std::thread::yield_now(),
                }
            }
        };
        assert!(run(true));
        assert!(!run(false), "this machine syncs anything: the test shows nothing");
    }

    #[test]
    fn a_file_that_was_written_has_no_error() {
        failed(&File::open("/proc/self/exe").unwrap()).unwrap();
        failed(&File::open("/").unwrap()).unwrap();
    }
}

//! The system calls that std does not wrap, each behind a safe function.
//!
//! The only file with `unsafe` code. It keeps no state and makes no decisions.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path};
use std::process::Command;
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Makes the kernel kill the command's process when we die, however we die, and makes its files
/// private, if they shall be. The signal is tied to the spawning thread, so call `spawn` from the main thread only.
/// It is set after the change of uid, which would clear it.
pub fn die_with_parent(command: &mut Command, private: bool) {
    // SAFETY: getpid cannot fail.
    let parent = unsafe { libc::getpid() };
    // SAFETY: between fork and exec only prctl, getppid, _exit and umask are called, which are
    // async-signal-safe; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // The parent may have died before prctl, and then the signal would never be sent.
            if libc::getppid() != parent {
                libc::_exit(127);
            }
            if private {
                libc::umask(0o077);
            }
            Ok(())
        });
    }
}

/// Sends `signal` to one process (`pid` > 0) or to a process group (`pid` < 0).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes plain numbers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Reaps exited children that are not `ours`: orphans inherited as PID 1 or subreaper. Never
/// blocks. A child in `ours` at the head of the queue stays for its own waiter, and those behind it
/// for the next call.
pub fn reap_orphans(ours: impl Fn(i32) -> bool) {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeros is a value.
        let mut ended: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the pointer is valid for the call, which does not reap.
        if unsafe { libc::waitid(libc::P_ALL, 0, &mut ended, look) } != 0 {
            return;
        }
        // SAFETY: after a successful waitid the field is that of a child, or 0.
        let pid = unsafe { ended.si_pid() };
        if pid == 0 || ours(pid) {
            return;
        }
        // SAFETY: a null pointer says that the status is not wanted.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } != pid {
            return;
        }
    }
}

/// Waits at most `patience` for process `pid`, a child of ours, to end; only a moment where the
/// kernel cannot tell.
pub fn wait_for_process(pid: u32, patience: Duration) {
    let moment = Duration::from_millis(20);
    // SAFETY: the call takes plain numbers and gives a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) } as RawFd;
    let patience = if fd < 0 { moment.min(patience) } else { patience };
    let wait = |fd: RawFd, time: Duration| {
        let mut ended = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let millis = time.as_millis().clamp(1, 60_000) as libc::c_int;
        // SAFETY: the pointer is to one entry; a descriptor of -1 is passed over.
        unsafe { libc::poll(&mut ended, 1, millis) }
    };
    let ended = wait(fd, patience) > 0;
    if fd >= 0 {
        // SAFETY: the descriptor is ours and was not shared.
        drop(unsafe { File::from_raw_fd(fd) });
    }
    if ended {
        // It can be reaped now, unless a tracer holds it: then the caller must not spin.
        wait(-1, Duration::from_millis(1));
    }
}

/// Sets how long a read and a write on the socket `fd` may block; zero means forever.
pub fn set_socket_timeout(fd: RawFd, timeout: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_usec: timeout.subsec_micros() as libc::suseconds_t,
    };
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        // SAFETY: the pointer and the length describe `value`, which outlives the call.
        check(unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                option,
                (&raw const value).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        })?;
    }
    Ok(())
}

/// Duplicates the socket `fd`, so that one thread can shut down what another one waits for.
pub fn second_handle(fd: RawFd) -> io::Result<UnixStream> {
    // SAFETY: dup takes plain numbers.
    let second = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    check(second)?;
    // SAFETY: the descriptor is new and ours alone.
    Ok(unsafe { UnixStream::from_raw_fd(second) })
}

/// Makes reads of the pipe `file` nonblocking.
pub fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: fcntl takes plain numbers.
    let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
        .map(drop)
}

/// A file that is in memory only, for our own user, until we die. Other programs open it by a path
/// below `/proc`.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: the name is a valid C string, and the descriptor is new and ours alone.
    let file = unsafe {
        let fd = check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?;
        File::from_raw_fd(fd)
    };
    // It begins with a mode that clients refuse for an option file.
    file.set_permissions(Permissions::from_mode(0o600)).map(|()| file)
}

/// Waits until a read of `file` would return, also at its end; `false` after `patience`.
pub fn wait_readable(file: &File, patience: Duration) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is to one pollfd, and the descriptor is open during the call.
    match check(unsafe { libc::poll(&mut asked, 1, patience) }) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
        other => other.map(|ready| ready > 0),
    }
}

/// Writes one byte into the socket without blocking, to wake its reader. A full socket wakes it
/// anyway, so errors do not matter.
pub fn wake(socket: &UnixStream) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer is to one readable byte; the descriptor is open during the call.
    unsafe {
        libc::send(socket.as_raw_fd(), [0u8].as_ptr().cast(), 1, flags);
    }
}

/// Makes freed memory go back to the system at once. Otherwise glibc learns from the first large
/// buffer freed to keep such buffers in the heaps of threads, where they stay after the threads
/// exit: megabytes for each. Other C libraries need no such setting.
pub fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes plain numbers and is called before there are other threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        // What one thread gave back is for all: the lists of a million files are made and dropped by
        // one after the other.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Makes a write beyond the file size limit fail with an error, here and in all children, instead
/// of a fatal signal.
pub fn ignore_file_size_signal() {
    // SAFETY: signal takes plain numbers, and no handler is installed for this signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Flushes the file system of `file` to disk.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    check(unsafe { libc::syncfs(file.as_raw_fd()) }).map(drop)
}

/// Bytes an unprivileged process may still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    file_system_of(path).map(|fs| fs.f_bavail * fs.f_frsize)
}

/// True if the file system of `path`, or of the nearest directory above it that there is, counts its
/// inodes and has none left.
pub fn lacks_inodes(path: &Path) -> bool {
    let found = path.ancestors().find_map(|p| file_system_of(p).ok());
    found.is_some_and(|fs| fs.f_files > 0 && fs.f_favail == 0)
}

/// True if the file system of `dir` is one of those that note each change of a file, also through
/// memory, at once and with a time that no program sets: the usual ones for local disks. Not tmpfs,
/// which notes no change through memory, and servers map their redo log there; nor ZFS, which does
/// when it writes back.
pub fn keeps_change_times(dir: &File) -> io::Result<bool> {
    // SAFETY: statfs is plain data for which all zeros is a value.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and the pointer valid for the call.
    check(unsafe { libc::fstatfs(dir.as_raw_fd(), &mut answer) })?;
    // ext4 (and ext2 and ext3, whose times in whole seconds are noticed), XFS, btrfs, F2FS, bcachefs:
    // linux/magic.h, and the sources of the last one. Each has a page_mkwrite that sets the times.
    let kinds = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e];
    Ok(kinds.contains(&(answer.f_type as u64 & 0xffff_ffff)))
}

fn file_system_of(path: &Path) -> io::Result<libc::statvfs> {
    let path = c_string(path.as_os_str())?;
    // SAFETY: statvfs is plain data for which all zeros is a value.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut answer) })?;
    Ok(answer)
}

/// No core file of ours, which would hold passwords; and as many open files as we may have, since a
/// server that lacks them calls tables damaged, up to a number for which none takes much memory.
pub fn set_limits() {
    let set = |what, soft: fn(libc::rlimit) -> u64| {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is valid for both calls.
        unsafe {
            if libc::getrlimit(what, &mut now) == 0 {
                libc::setrlimit(what, &libc::rlimit { rlim_cur: soft(now), ..now });
            }
        }
    };
    set(libc::RLIMIT_CORE, |_| 0);
    set(libc::RLIMIT_NOFILE, |now| now.rlim_cur.max(now.rlim_max.min(16_384)));
}

/// Starts writing back what was written to `file` so far without waiting, so that the final fsync
/// finds little to do. A hint: errors do not matter.
pub fn start_writeback(file: &File, offset: u64, length: u64) {
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as i64,
            length as i64,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// The first byte at or after `offset` outside a hole; `None` if only a hole follows. File systems
/// without holes return `offset`.
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset as i64, libc::SEEK_DATA) };
    if at >= 0 {
        return Ok(Some(at as u64));
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        e if e.raw_os_error() == Some(libc::EINVAL) => Ok(Some(offset)),
        e => Err(e),
    }
}

/// Punches a hole of `length` bytes at `offset`, inside the file. Fails with `EOPNOTSUPP` where the
/// file system does not support it.
pub fn punch_hole(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, length as i64) })
        .map(drop)
}

/// Opens `path`, relative and made of normal components, below the open directory `dir`, following
/// no symbolic link. `flags` are those of open(2), `mode` that of a new file.
pub fn open_below(dir: &File, path: &Path, flags: i32, mode: u32) -> io::Result<File> {
    let mut at: Option<File> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (flags, mode) = match components.peek() {
            Some(_) => (libc::O_DIRECTORY | libc::O_PATH, 0),
            None => (flags, mode),
        };
        at = Some(open_at(at.as_ref().unwrap_or(dir), name, flags, mode)?);
    }
    at.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn open_at(dir: &File, name: &OsStr, flags: i32, mode: u32) -> io::Result<File> {
    let name = c_string(name)?;
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a valid C string and the directory is open during the call.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })?;
    // SAFETY: the descriptor was just opened and has no other owner.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Creates the directory `path`, relative and made of normal components, below `dir`. Its parent
/// must exist and be reachable without symbolic links.
pub fn mkdir_below(dir: &File, path: &Path, mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(p) if p != Path::new("") => {
            Some(open_below(dir, p, libc::O_DIRECTORY | libc::O_PATH, 0)?)
        }
        _ => None,
    };
    let name = c_string(name)?;
    let at = parent.as_ref().unwrap_or(dir).as_raw_fd();
    // SAFETY: the name is a valid C string and the directory is open during the call.
    check(unsafe { libc::mkdirat(at, name.as_ptr(), mode) }).map(drop)
}

/// Seconds that our own time zone is east of UTC at a moment.
pub fn local_offset(at: i64) -> Option<i32> {
    // SAFETY: tm is plain data for which all zeros is a value, and both pointers are valid.
    unsafe {
        let mut time: libc::tm = std::mem::zeroed();
        let found = libc::localtime_r(&at, &mut time);
        (!found.is_null()).then_some(time.tm_gmtoff as i32)
    }
}

/// The clock that the kernel sets times of files by, since 1970.
pub fn file_clock() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut now) };
    Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec as u32)
}

/// True when running as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Clock ticks per second, the unit of `/proc/PID/stat`.
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes a plain number.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// The uid and gid of a user, from the system's user database.
pub fn user_by_name(name: &str) -> Option<(u32, u32)> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a valid C string; the answer is read before any other call that may
    // overwrite it, and only the main thread looks users up.
    unsafe {
        let entry = libc::getpwnam(name.as_ptr());
        (!entry.is_null()).then(|| ((*entry).pw_uid, (*entry).pw_gid))
    }
}

/// The name of a user, from the system's user database.
pub fn user_name(uid: u32) -> Option<String> {
    // SAFETY: getpwuid takes a plain number; its answer, a C string, is copied before any other
    // call that may overwrite it, and only the main thread looks users up.
    unsafe {
        let entry = libc::getpwuid(uid);
        let name = (!entry.is_null()).then(|| CStr::from_ptr((*entry).pw_name))?;
        name.to_str().ok().map(String::from)
    }
}

/// The process that holds a write lock (fcntl, not flock) on the file, as servers do on their data
/// files; its pid is 0 or less where we cannot see it.
pub fn write_lock_holder(file: &File) -> io::Result<Option<i32>> {
    // SAFETY: flock is plain data for which all zeros is a value: the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_RDLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open and the pointer valid for the call, which only queries.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) })?;
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
}

//! Notifications to a service manager: the protocol of `sd_notify(3)`, without its library.
//!
//! `READY=1` once, `STATUS=` with the phase and its progress, `WATCHDOG=1` from the loop itself
//! (so that a stuck loop is killed and a long step is not), `STOPPING=1` when a stop begins, and
//! from then on `EXTEND_TIMEOUT_USEC=`, since a shutdown that makes progress may take long. A
//! manager that does not listen is no error.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

/// The least time between two statuses.
const STATUS: Duration = Duration::from_secs(1);
/// The least time between two extensions, and how long each is.
const EXTEND: Duration = Duration::from_secs(10);
const EXTENSION: Duration = Duration::from_secs(60);

/// The connection to the service manager, if there is one.
pub struct Notifier {
    line: Option<(UnixDatagram, SocketAddr)>,
    /// The longest time between two signs that the loop turns.
    watchdog: Option<Duration>,
    next_watchdog: Instant,
    next_status: Instant,
    next_extension: Option<Instant>,
    status: String,
}

impl Notifier {
    /// Tells the manager that `NOTIFY_SOCKET` names about the start of the pass.
    pub fn start() -> Notifier {
        let line = env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name));
        let number = |name| env::var(name).ok();
        let watchdog =
            watchdog(number("WATCHDOG_USEC").as_deref(), number("WATCHDOG_PID").as_deref());
        let (next_watchdog, next_status) = (Instant::now(), Instant::now());
        let (next_extension, status) = (None, String::new());
        let notifier =
            Notifier { line, watchdog, next_watchdog, next_status, next_extension, status };
        notifier.send("READY=1");
        notifier
    }

    /// A stop has begun: asks for more time from now on, while the loop turns.
    pub fn stopping(&mut self) {
        if self.next_extension.is_none() {
            self.send("STOPPING=1");
            self.next_extension = Some(Instant::now());
        }
    }

    /// Called at every turn of the loop. `status` is called only when it is to be sent.
    pub fn tick(&mut self, status: impl FnOnce() -> String) {
        if self.line.is_none() {
            return;
        }
        let now = Instant::now();
        if let Some(every) = self.watchdog
            && now >= self.next_watchdog
        {
            self.next_watchdog = now + every / 3;
            self.send("WATCHDOG=1");
        }
        if self.next_extension.is_some_and(|at| now >= at) {
            self.next_extension = Some(now + EXTEND);
            self.send(&format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
        if now >= self.next_status {
            self.next_status = now + STATUS;
            let status = status();
            if status != self.status {
                self.send(&format!("STATUS={status}"));
                self.status = status;
            }
        }
    }

    fn send(&self, text: &str) {
        if let Some((socket, manager)) = &self.line {
            // Without waiting: a full queue may lose a status but must not hold up the loop.
            let _ = socket.send_to_addr(text.as_bytes(), manager);
        }
    }
}

/// A non-blocking socket, and the manager's address: a path, or an abstract name after an `@`.
fn connect(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(Path::new(name)),
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}

/// The time after which the manager kills a silent process, if that is this one.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let microseconds = microseconds?.parse().ok().filter(|us| *us > 0 && ours)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_of_another_process_is_ignored() {
        let us = std::process::id().to_string();
        assert_eq!(watchdog(Some("3000000"), None), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), Some(&us)), Some(Duration::from_secs(3)));
        for (usec, pid) in
            [(Some("3000000"), Some("1")), (Some("0"), None), (Some("soon"), None), (None, None)]
        {
            assert_eq!(watchdog(usec, pid), None);
        }
    }

    #[test]
    fn a_notify_name_must_be_a_path_or_abstract() {
        assert!(connect(OsStr::new("")).is_none() && connect(OsStr::new("vsock:2:1")).is_none());
        assert!(connect(OsStr::new("@rollforward")).is_some());
    }
}

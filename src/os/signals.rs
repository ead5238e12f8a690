//! Signals as bytes on one pipe, and a record of the one that asked us to stop.
//!
//! TERM and INT request a stop, and so does every other signal that would end us without a last word;
//! CHLD only wakes us, and HUP is ignored so that logging out does not stop a nightly run; what would go
//! on for good heeds it ([`Signals::heed_hup`]). Only this file uses signal-hook. [`Signals::wait`] is the
//! program's one blocking call.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU,
};
use signal_hook::{flag, low_level::pipe};

use crate::os::process;

/// What else ends a process that does not handle it: a key, a limit of processor time, what is meant for
/// another program. Unless whoever started us wants it ignored. ABRT stays a crash: the watchdog of a service
/// manager wants the core.
const OTHERS: [i32; 7] = [SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU];

/// The receiving end.
pub struct Signals {
    wake: UnixStream,
    waker: UnixStream,
    pending: Arc<AtomicUsize>,
    /// HUP was ignored when we were started, as by nohup.
    was_hup_ignored: bool,
    /// INT is for somebody else.
    spares_int: bool,
    /// The first signal that requested a stop, and how many did.
    stop: Option<(i32, u32)>,
}

/// From now on TERM, INT and HUP end the process at once with 128 and the signal's number, also while it
/// waits for someone to read its output. For commands that only read.
///
/// # Errors
/// When the system refuses a handler.
pub fn end_at_once() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&always))?;
    }
    Ok(())
}

impl Signals {
    /// Takes over these signals for the whole process.
    ///
    /// # Errors
    /// When the system refuses a socket pair or a handler.
    pub fn install() -> io::Result<Signals> {
        let was_hup_ignored = process::ignores(SIGHUP);
        let (wake, waker) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        let pending = Arc::new(AtomicUsize::new(0));
        let others = OTHERS.into_iter().filter(|signal| !process::ignores(*signal));
        for signal in [SIGTERM, SIGINT].into_iter().chain(others) {
            // The flag first: handlers run in order, and the code woken by the byte must see it.
            flag::register_usize(signal, Arc::clone(&pending), signal as usize)?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        pipe::register(SIGCHLD, waker.try_clone()?)?;
        flag::register_usize(SIGHUP, Arc::new(AtomicUsize::new(0)), 1)?;
        Ok(Signals { wake, waker, pending, was_hup_ignored, spares_int: false, stop: None })
    }

    /// From now on HUP requests a stop, too, unless whoever started us wants it ignored: for what would
    /// stay for good when its terminal is closed.
    ///
    /// # Errors
    /// As [`Signals::install`].
    pub fn heed_hup(&self) -> io::Result<()> {
        if !self.was_hup_ignored {
            flag::register_usize(SIGHUP, Arc::clone(&self.pending), SIGHUP as usize)?;
            pipe::register(SIGHUP, self.waker.try_clone()?)?;
        }
        Ok(())
    }

    /// A writer whose bytes end a [`Signals::wait`], for worker threads.
    pub fn waker(&self) -> Option<UnixStream> {
        self.waker.try_clone().ok()
    }

    /// From now on INT asks for no stop, or does again: on a terminal the key for it reaches the user's
    /// program, too, which may go on.
    pub fn spare_int(&mut self, spare: bool) {
        self.stop();
        self.spares_int = spare;
    }

    /// The signal that asked us to stop, if any.
    pub fn stop(&mut self) -> Option<i32> {
        let signal = self.pending.swap(0, Ordering::SeqCst) as i32;
        if signal != 0 && !(signal == SIGINT && self.spares_int) {
            let (first, count) = self.stop.unwrap_or((signal, 0));
            self.stop = Some((first, count + 1));
        }
        self.stop.map(|(first, _)| first)
    }

    /// The number of stop requests so far; a second one means stop now.
    pub fn stops(&mut self) -> u32 {
        self.stop();
        self.stop.map_or(0, |(_, count)| count)
    }

    /// Blocks until a signal or a waker's byte arrives or `timeout` passes. Returns true if
    /// something arrived; what it was, the caller asks afterwards.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        // A time-out of zero would block forever.
        let timeout = timeout.max(Duration::from_micros(100));
        if self.wake.set_read_timeout(Some(timeout)).is_err() {
            return true;
        }
        // One read is enough: leftover bytes end the next wait at once. An interrupted read counts
        // as a wake-up.
        let mut bytes = [0; 256];
        match self.wake.read(&mut bytes) {
            Ok(_woken) => true,
            Err(e) => e.kind() == io::ErrorKind::Interrupted,
        }
    }
}

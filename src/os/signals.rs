//! Signals as bytes on one pipe, and a note of which one told us to stop.
//!
//! TERM and INT ask for a stop, CHLD only wakes, HUP is swallowed so that the end of a login
//! session does not end a nightly run. The only user of signal-hook. [`Signals::wait`] is the
//! one blocking call of the program.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// The receiving end.
pub struct Signals {
    wake: UnixStream,
    waker: UnixStream,
    pending: Arc<AtomicUsize>,
    /// The first signal that asked for a stop, and how many did.
    stop: Option<(i32, u32)>,
}

impl Signals {
    /// Takes over TERM, INT, CHLD and HUP for the whole process.
    ///
    /// # Errors
    /// When the system refuses a socket pair or a handler.
    pub fn install() -> io::Result<Signals> {
        let (wake, waker) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        let pending = Arc::new(AtomicUsize::new(0));
        for signal in [SIGTERM, SIGINT] {
            // The flag first: handlers run in order, and whoever the byte wakes must see it.
            flag::register_usize(signal, Arc::clone(&pending), signal as usize)?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        pipe::register(SIGCHLD, waker.try_clone()?)?;
        flag::register_usize(SIGHUP, Arc::new(AtomicUsize::new(0)), 1)?;
        Ok(Signals { wake, waker, pending, stop: None })
    }

    /// A writer whose every byte ends a [`Signals::wait`], for worker threads that are done.
    pub fn waker(&self) -> Option<UnixStream> {
        self.waker.try_clone().ok()
    }

    /// The signal that asks us to stop, if one came.
    pub fn stop(&mut self) -> Option<i32> {
        let signal = self.pending.swap(0, Ordering::SeqCst) as i32;
        if signal != 0 {
            let (first, count) = self.stop.unwrap_or((signal, 0));
            self.stop = Some((first, count + 1));
        }
        self.stop.map(|(first, _)| first)
    }

    /// How many came that ask for a stop: a second one means that patience is over.
    pub fn stops(&mut self) -> u32 {
        self.stop();
        self.stop.map_or(0, |(_, count)| count)
    }

    /// Blocks until a signal or a waker's byte arrives or `timeout` is over, and forgets what
    /// arrived: the caller asks for the facts afterwards. Says whether anything woke it.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        // A time-out of zero would mean for ever.
        let timeout = timeout.max(Duration::from_micros(100));
        if self.wake.set_read_timeout(Some(timeout)).is_err() {
            return true;
        }
        // One read is enough: what is left over ends the next wait at once. An interrupted
        // read is a wake-up like any other.
        let mut bytes = [0; 256];
        match self.wake.read(&mut bytes) {
            Ok(_woken) => true,
            Err(e) => e.kind() == io::ErrorKind::Interrupted,
        }
    }
}

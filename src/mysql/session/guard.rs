//! The boundary around the `mysql` crate: a panic in it is a trouble of the session, and a call that
//! a peer draws out is cut off.
//!
//! The crate bounds each read and not the call: who sends a byte now and then holds it for ever.
//! And it trusts what it parses: malformed packets make it panic.

use std::any::Any;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::mysql::trouble::Trouble;
use crate::os::memory;

/// Runs `call`, and turns a panic in it into a trouble.
pub(super) fn contained<T>(call: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(of_panic(&*panic)))
}

/// The trouble that a panic of the crate stands for.
fn of_panic(panic: &(dyn Any + Send)) -> Trouble {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    // The crate knows this login by name, but is built without it.
    if text.contains("ed25519") {
        return Trouble::Refused(
            "it asks for client_ed25519, which is not supported: give the account another login \
             method there, such as mysql_native_password"
                .into(),
        );
    }
    Trouble::Lost("its answer is malformed".into())
}

/// Runs `call` to its end or for `patience`, whichever comes first. What still runs then is left to
/// itself: each of its reads is bounded, and nobody waits for its result.
pub(super) fn within<T: Send + 'static>(
    patience: Duration,
    call: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (done, waiting) = channel();
    let thread = thread::Builder::new().name("login".into()).spawn(move || {
        let _ = done.send(contained(|| memory::bounded(call)));
    });
    match thread {
        Ok(_) => waiting.recv_timeout(patience).unwrap_or(Err(Trouble::TimedOut)),
        Err(e) => Err(Trouble::Lost(format!("cannot start a thread: {e}"))),
    }
}

/// Runs `call`, on a thread that nobody joins, and shuts `line` down after `patience`, which ends its reads.
/// No patience (zero) is endless patience.
pub(super) fn cut_off_after<T>(
    patience: Duration,
    line: Option<UnixStream>,
    call: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let Some(line) = line.filter(|_| !patience.is_zero()) else { return contained(call) };
    let (done, waiting) = channel::<()>();
    thread::scope(|scope| {
        let watch = thread::Builder::new().name("deadline".into()).spawn_scoped(scope, move || {
            let late = waiting.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = line.shutdown(Shutdown::Both);
            }
            late
        });
        let result = contained(|| memory::bounded(call));
        drop(done);
        match watch.map(|watch| watch.join()) {
            Ok(Ok(true)) => Err(Trouble::TimedOut),
            _ => result,
        }
    })
}

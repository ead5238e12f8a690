//! A bound on single allocations while an untrusted answer is read.
//!
//! The `mysql` crate reserves room for as many columns as an answer announces. Where that is more than
//! the machine has, Rust ends the program, and no error is ever seen. So the allocator looks at each
//! size: on a thread that reads such an answer, one that no true answer needs is never returned from.
//! The thread stays asleep for good, which the one that waits for the answer is told.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// More than any single piece of an answer: those have bounds of their own, which are lower.
const MOST: usize = 256 << 20;

thread_local! {
    static BOUNDED: Cell<bool> = const { Cell::new(false) };
}

/// Threads that were put to sleep.
static ASLEEP: AtomicU32 = AtomicU32::new(0);

/// The system's allocator with that bound.
struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

fn check(size: usize) {
    if size > MOST && BOUNDED.try_with(Cell::get).unwrap_or(false) {
        ASLEEP.fetch_add(1, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, or never returns.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs `call` with the bound on this thread. It must be a thread that nobody joins.
pub fn bounded<T>(call: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            BOUNDED.set(self.0);
        }
    }
    let _reset = Reset(BOUNDED.replace(true));
    call()
}

/// How many threads were put to sleep so far.
pub fn asleep() -> u32 {
    ASLEEP.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn an_absurd_size_is_never_returned_from() {
        let (sender, receiver) = channel();
        let before = asleep();
        thread::spawn(move || {
            bounded(|| {
                let _ = sender.send(Vec::<u8>::with_capacity(1 << 20).capacity());
                let _ = sender.send(Vec::<u8>::with_capacity(1 << 45).capacity());
            })
        });
        assert_eq!(receiver.recv().unwrap(), 1 << 20);
        assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
        assert!(asleep() > before);
    }
}

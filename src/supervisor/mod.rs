//! The one loop that waits, what it watches, and the breaker that counts failures.

pub mod breaker;
pub mod main_loop;
pub mod watched;

//! The main loop, what it watches, and the circuit breaker that counts failures.

pub mod breaker;
pub mod main_loop;
pub mod watched;

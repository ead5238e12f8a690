//! rollforward
#![allow(dead_code)]

mod breaker;
mod checkpoint;
mod clock;
mod error;
mod gtid;
mod process;
mod session;
mod signals;
mod sys;
fn main() {}

//! rollforward

mod clock;
mod error;
mod sys;
fn main() {}

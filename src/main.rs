//! rollforward
#![allow(dead_code)]

mod backup;
mod clock;
mod error;
mod lock;
mod manifest;
mod packs;
mod partial;
mod pool;
mod prune;
mod repository;
mod restore;
mod retention;
mod sys;
#[cfg(test)]
mod tests;
mod tree;
mod verify;
fn main() {}

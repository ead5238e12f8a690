//! The repository on real directories: content survives the round trip, and damage is named.

mod damage;
mod differences;
mod journal;
mod known;
mod lifecycle;
mod pins;
mod proofs;
mod roundtrip;
mod support;

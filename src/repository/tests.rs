//! The repository as a whole, on real directories: what goes in comes out, and damage is named.

mod damage;
mod lifecycle;
mod roundtrip;
mod support;

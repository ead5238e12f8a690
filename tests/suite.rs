//! All tests of the real binary, in one program: the harness is compiled and linked once.
//!
//! Each module is a file of tests; `scripts/suite` runs each in a process of its own, on the servers
//! that its line in `tests/TIERS` stands for.

// Tests wait and start programs as they like.
#![allow(clippy::disallowed_methods)]

#[macro_use]
mod support;

mod adopt;
mod chains;
mod cli;
mod clone;
mod components;
mod confinement;
mod container;
mod corpus;
mod damage;
mod deb;
mod disk;
mod dist;
mod environment;
mod estimates;
mod examine;
mod faults;
mod field;
mod follow;
mod followed;
mod formats;
mod gtid;
mod handover;
mod harness;
mod hooks;
mod hostile;
mod injection;
mod install;
mod journal;
mod kept;
mod leaks;
mod live;
mod load;
mod log;
mod login;
mod man;
mod many;
mod memory;
mod metrics;
#[macro_use]
mod mirror;
mod mirror_kills;
mod monitoring;
mod notify;
mod on_data;
mod open;
mod over;
mod pairs;
mod pass;
mod progress;
mod prove;
mod random;
mod relentless;
mod replication;
mod repository;
mod reset;
mod retention;
mod room;
mod scratch;
mod scripts;
mod secrets;
mod status;
mod stop;
mod stops;
mod stream;
mod supervision;
mod systemd;
mod tls;
mod torture;
mod undying;
mod until;
mod upgrade;
mod wire;

//! The operating system made safe: the only unsafe code, files, locks, processes, signals, threads.

pub mod cgroup;
pub mod clock;
pub mod confinement;
pub mod files;
pub mod in_use;
pub mod lock;
pub mod memory;
pub mod process;
pub mod random;
pub mod signals;
pub mod space;
pub mod stamp;
pub mod syncs;
pub mod sys;
pub mod terminal;
pub mod workers;

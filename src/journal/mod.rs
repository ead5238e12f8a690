//! Journals: relay logs as a record of transactions, joined and cut by position. No server.

pub mod checksum;
pub mod cut;
pub mod event;
pub mod group;
pub mod history;
pub mod join;
pub mod reading;
pub mod relay_logs;
pub mod scan;
pub mod tail;
pub mod when;
pub mod windows;

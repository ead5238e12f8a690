//! Journals: relay logs as a record of transactions, joined and cut by position. No server.

pub mod bytes;
pub mod checksum;
pub mod columns;
pub mod compressed;
pub mod cut;
pub mod details;
pub mod event;
pub mod group;
pub mod history;
pub mod join;
pub mod names;
pub mod scan;
pub mod statement;
pub mod when;
pub mod words;

//! Journals: relay logs as a record of transactions, joined and cut by position. No server.

mod body;
pub mod bytes;
pub mod checksum;
pub mod columns;
pub mod compressed;
pub mod cut;
pub mod details;
pub mod event;
pub mod group;
pub mod head;
pub mod history;
pub mod join;
pub mod names;
pub mod namesakes;
pub mod reading;
pub mod relay_logs;
pub mod scan;
pub mod statement;
pub mod tail;
pub mod when;
pub mod windows;
pub mod words;

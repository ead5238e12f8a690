//! `run` and `seed`, from the lock to the outcome.

pub mod attempts;
pub mod base;
mod beyond;
mod compare;
mod compare_rows;
pub mod data;
mod examine;
mod examined;
pub mod failure;
pub mod finished;
pub mod hooks;
pub mod in_hand;
pub mod inventory;
mod journal;
mod on_record;
mod open;
pub mod plan;
pub mod primary;
pub mod prove;
mod proving;
pub mod recover;
mod reread;
pub mod run;
mod settings;
pub mod upgrade;
mod ways_out;

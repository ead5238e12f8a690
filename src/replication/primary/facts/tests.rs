//! The judgement of positions, without a server.

use super::*;
use crate::error::Cause;
use crate::replication::values;

fn facts(state: &str, applied: &str) -> Facts {
    let position = |text| Position::parse(Flavor::MariaDb, text).unwrap();
    Facts {
        address: Address { host: "::1".into(), port: 3306 },
        flavor: Flavor::MariaDb,
        version: "10.11.19-MariaDB".into(),
        encrypted: false,
        position: position("0-2-80"),
        asked: Timestamp(0),
        clock: Timestamp(0),
        server_id: 2,
        settings: Vec::new(),
        keeps: None,
        unfiltered: true,
        greeted_after: Duration::ZERO,
        zone: Offsets::default(),
        history: History::MariaDb {
            state: BinlogState::parse(state).unwrap(),
            applied: position(applied),
        },
    }
}

#[test]
fn a_base_that_the_primary_never_had_is_diverged() {
    let base = |text| Position::parse(Flavor::MariaDb, text).unwrap();
    let primary = facts("0-1-50,0-2-80", "");
    assert!(primary.check_base(&base("0-1-50")).is_ok());
    let Err(Error::Diverged { errant, primary }) = primary.check_base(&base("0-3-70")) else {
        panic!("not diverged")
    };
    assert_eq!((errant.as_str(), primary.as_str()), ("0-3-70", "[::1]:3306 at 0-2-80"));
    // What it only applied counts, too.
    assert!(facts("0-2-80", "5-9-9").check_base(&base("5-9-9")).is_ok());
}

#[test]
fn zero_means_no_expiry_and_seconds_win_over_days() {
    let binlog_retention = |rows: &[(&str, &str)]| {
        values::binlog_retention(&rows.iter().map(|(n, v)| vec![*n, *v]).collect::<Vec<_>>())
            .map(|d| d.as_secs())
    };
    let (days, seconds) = ("expire_logs_days", "binlog_expire_logs_seconds");
    assert_eq!(binlog_retention(&[(seconds, "0"), (days, "0.000000")]), None);
    assert_eq!(binlog_retention(&[]), None);
    assert_eq!(binlog_retention(&[(days, "2")]), Some(172_800));
    assert_eq!(binlog_retention(&[(seconds, "90"), (days, "0.001042")]), Some(90));
}

#[test]
fn a_refusal_is_purged_only_where_the_positions_allow_it() {
    let base = |text| Position::parse(Flavor::MariaDb, text).unwrap();
    let primary = facts("0-1-50,0-2-80", "");
    assert_eq!(primary.explain_refusal(&base("0-1-3")).cause(), Cause::Purged);
    assert_eq!(primary.explain_refusal(&base("0-1-51")).cause(), Cause::Diverged);
}

/// Deleted from its log, or on another server: a plain replica goes on, too.
#[test]
fn a_domain_unknown_to_the_primary_is_no_divergence() {
    let base = |text| Position::parse(Flavor::MariaDb, text).unwrap();
    let primary = facts("0-1-50,0-2-80", "");
    let with = base("0-1-50,7-1-9");
    assert!(primary.check_base(&with).is_ok());
    assert_eq!(primary.without_deleted_domains(&with), Some(base("0-1-50")));
    // But not to a server that shares none, and not with one that is ahead in another.
    assert!(primary.check_base(&base("7-1-9")).is_err());
    assert!(primary.check_base(&base("0-1-51,7-1-9")).is_err());
    assert_eq!(primary.without_deleted_domains(&base("0-1-50")), None);
    // A replica may get there yet.
    assert_eq!(facts("0-1-50,0-2-80", "0-1-50").without_deleted_domains(&with), None);
}

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
        server: None,
        server_id: 2,
        settings: Vec::new(),
        keeps: None,
        unfiltered: true,
        greeted_after: Duration::ZERO,
        zone: Offsets::default(),
        history: History::MariaDb {
            state: BinlogState::parse(state).unwrap(),
            applied: position(applied),
            unlogged: position(""),
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

/// A replica that was promoted without having logged what it applied, or was reset.
#[test]
fn what_is_in_no_log_of_the_primary_is_purged() {
    let base = |text| Position::parse(Flavor::MariaDb, text).unwrap();
    let primary = facts("7-2-80", "0-1-50,3-1-9");
    assert!(primary.check_base(&base("0-1-50,7-2-3")).is_ok());
    // Of a domain that the base does not have, it may have all with the data.
    assert!(primary.check_base(&base("7-2-3")).is_ok());
    let behind = primary.check_base(&base("0-1-49,7-2-3")).unwrap_err();
    assert_eq!(behind.cause(), Cause::Purged);
    assert!(behind.to_string().contains("it has 0-1-50 and no log of it"), "{behind}");
}

/// A replica that ceased to log what it applies, and was promoted later.
#[test]
fn what_a_log_leaves_out_in_its_midst_is_purged() {
    let position = |text| Position::parse(Flavor::MariaDb, text).unwrap();
    let mut primary = facts("0-1-50,0-2-80", "0-1-60");
    let after = |primary: &Facts, base| primary.check_base(&position(base)).map_err(|e| e.cause());
    // What filters left out of the log is no gap.
    assert_eq!(after(&primary, "0-1-50"), Ok(()));
    let History::MariaDb { unlogged, .. } = &mut primary.history else { panic!("of MySQL") };
    *unlogged = position("0-1-60");
    assert_eq!(after(&primary, "0-1-50"), Err(Cause::Purged));
    for base in ["0-1-60", "0-2-61", "0-2-80"] {
        assert_eq!(after(&primary, base), Ok(()), "{base}");
    }
}

#[test]
fn a_log_that_begins_behind_the_replica_leaves_a_gap() {
    let from = Position::parse(Flavor::MariaDb, "0-1-49,7-2-3").unwrap();
    let gap = |primary: &Facts, first: &str| {
        let gap = primary.gap(&from, "binlog.000001", &Gtid::parse(first).unwrap());
        gap.map(|error| (error.cause(), error.to_string()))
    };
    let primary = facts("0-2-80,7-2-80", "");
    for first in ["0-1-49", "0-1-50", "0-2-50", "3-2-80"] {
        assert_eq!(gap(&primary, first), None, "{first}");
    }
    let (cause, text) = gap(&primary, "0-2-51").unwrap();
    assert_eq!(cause, Cause::Purged);
    assert!(text.contains("its binlog.000001 begins with 0-2-51"), "{text}");
    // It numbers its own as it likes, and had applied no more than the base has.
    assert_eq!(gap(&facts("0-2-80", "0-1-49"), "0-2-60"), None);
    assert!(gap(&facts("0-2-80", "0-1-50"), "0-2-60").is_some());
}

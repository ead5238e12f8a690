//! Positions of both flavors, checked against the servers' answers and by counting.

use super::*;

const U: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const V: &str = "b1f5a6b0-0000-11e1-9e33-c80aa9429562";

fn ma(text: &str) -> Position {
    Position::parse(Flavor::MariaDb, text).unwrap()
}
fn my(text: &str) -> Position {
    let text = text.replace('U', U).replace('V', V);
    Position::parse(Flavor::MySql, &text).unwrap()
}

#[test]
fn mariadb_contains_by_domain_and_sequence() {
    // The answers of MASTER_GTID_WAIT in MariaDB 10.11 at 0-1-100,5-2-7.
    let here = ma("0-1-100,5-2-7");
    for (goal, reached) in [
        ("0-1-99", true),
        ("0-7-100", true),
        ("5-2-7,0-1-100", true),
        ("0-1-100,6-1-1", false),
        ("0-1-101", false),
        ("", true),
    ] {
        assert_eq!(here.contains(&ma(goal)), reached, "{goal}");
    }
}

#[test]
fn mariadb_state_tells_what_a_primary_never_had() {
    let state = BinlogState::parse("0-1-50,0-2-80,3-1-9").unwrap();
    assert!(state.lacks(&ma("0-1-50,3-1-9")).is_empty());
    assert!(state.lacks(&ma("0-2-79")).is_empty());
    assert_eq!(state.lacks(&ma("0-1-51")), ma("0-1-51"));
    assert_eq!(state.lacks(&ma("0-9-10,3-1-2")), ma("0-9-10"));
    assert_eq!(state.lacks(&ma("7-1-1")), ma("7-1-1"));
}

#[test]
fn mysql_sets_with_gaps_several_sources_and_tags() {
    let here = my("U:1-100:102,V:1-5,V:nightly:1-3");
    assert!(here.contains(&my("V:2:nightly:3,U:50-60")));
    assert!(!here.contains(&my("U:101")));
    assert!(!here.contains(&my("V:nightly:4")));
    assert_eq!(my("U:1-3:4:5-9").to_string(), format!("{U}:1-9"));
    assert_eq!(here.to_string(), format!("{U}:1-100:102,{V}:1-5:nightly:1-3"));
    assert_eq!(my("U:b:1,U:a:2,V:c:3").to_string(), format!("{U}:a:2:b:1,{V}:c:3"));
    assert_eq!(my("U:1-10,V:1").minus(&my("U:3:5-6,V:1-9")), my("U:1-2:4:7-10"));
    assert_eq!(my("U:1-4").distance_to(&my("U:1-10,V:3")), 7);
    assert_eq!(my("U:1-5,\nV:1-2"), my("V:1-2,U:1-5"));
}

#[test]
fn what_is_no_position_is_refused() {
    for bad in ["0-1", "0-1-2-3", "a-1-2", "0--2", "0-1-2,0-1-3", "4294967296-1-1", "+0-1-2"] {
        assert!(Position::parse(Flavor::MariaDb, bad).is_err(), "{bad}");
    }
    for bad in ["x:1", U, "U:", "U:0", "U:5-3", "U:1-", "U:9223372036854775807", "U:1:ta-g:2"] {
        let text = bad.replace("U:", &format!("{U}:"));
        assert!(Position::parse(Flavor::MySql, &text).is_err(), "{bad}");
    }
}

#[test]
fn subtraction_and_containment_agree_with_counting() {
    // Every pair of subsets of 1..=6, checked against the definition.
    let set = |bits: u32| {
        let runs: Vec<String> =
            (1..=6).filter(|n| bits >> n & 1 == 1).map(|n| n.to_string()).collect();
        if runs.is_empty() { my("") } else { my(&format!("U:{}", runs.join(":"))) }
    };
    for a in (0..128).step_by(2) {
        for b in (0..128).step_by(2) {
            assert_eq!(set(a).contains(&set(b)), a & b == b);
            assert_eq!(set(a).minus(&set(b)), set(a & !b));
            assert_eq!(set(a).distance_to(&set(b)), u64::from((b & !a).count_ones()));
        }
    }
}

#[test]
fn both_are_united_by_domain_and_by_source() {
    assert_eq!(ma("0-1-100,1-1-5").and(&ma("0-2-90,1-3-7,2-1-1")), ma("0-1-100,1-3-7,2-1-1"));
    assert_eq!(my("U:1-5:9").and(&my("U:6-7,V:1,U:tag:2")), my("U:1-7:9,V:1,U:tag:2"));
    assert_eq!(ma("0-1-1").and(&my("U:1")), ma("0-1-1"));
}

#[test]
fn numbers_tell_only_where_each_domain_has_one_server() {
    assert!(ma("0-1-100,7-2-5").tells(&ma("0-1-90,3-9-9,7-2-5")));
    assert!(!ma("0-1-100,7-2-5").tells(&ma("0-1-90,7-3-4")));
    assert!(my("U:1-5").tells(&my("V:7")));
}

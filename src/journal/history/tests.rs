//! Windows and ways to moments, of made-up repositories.

use super::*;
use crate::repository::manifest::Header;
use crate::repository::manifest::journal::Span;

/// A backup: its position, when its data was as of in seconds, and its journal's spans `(from, to,
/// earliest, latest)`.
fn backup(
    position: &str,
    as_of: i64,
    base: Option<usize>,
    spans: &[(&str, &str, i64, i64)],
) -> Summary {
    let time = |seconds: i64| Timestamp(seconds).precise();
    let span = |(from, to, first, last): &(&str, &str, i64, i64)| Span {
        from: from.to_string(),
        to: to.to_string(),
        times: Some((time(*first), time(*last))),
    };
    Summary {
        header: Header {
            flavor: "mariadb".into(),
            version: "10.11.19-MariaDB".into(),
            position: position.into(),
            data_as_of: Timestamp(as_of),
            started: Timestamp(as_of),
            base: base.map(|n| format!("b{n}")),
            open_tables: 0,
            primary_log: None,
            settings: Vec::new(),
        },
        finished: Timestamp(as_of),
        size: 1,
        stored: 1,
        packs: Vec::new(),
        files: 1,
        spans: spans.iter().map(span).collect(),
        journal_size: 100,
        journal_packs: Vec::new(),
        gap: None,
        as_of: Some(time(as_of)),
        last_log: None,
    }
}

fn history(backups: &[Summary]) -> History {
    let mut history = History::default();
    for (number, summary) in backups.iter().enumerate() {
        history.add(format!("b{number}"), summary);
    }
    history
}

/// Two days with journals, one without, and another with.
fn sample() -> History {
    let without = Summary {
        gap: Some("the pass ran with --no-journal".into()),
        ..backup("0-1-40", 400, Some(2), &[])
    };
    history(&[
        backup("0-1-10", 100, None, &[]),
        backup(
            "0-1-20",
            200,
            Some(0),
            &[("0-1-10", "0-1-15", 110, 150), ("0-1-15", "0-1-20", 120, 190)],
        ),
        backup("0-1-30", 300, Some(1), &[("0-1-20", "0-1-30", 205, 250)]),
        without,
        backup("0-1-50", 500, Some(3), &[("0-1-40", "0-1-50", 410, 490)]),
    ])
}

fn to(seconds: i64) -> Result<Route, OutOfReach> {
    sample().route(&Moment::Time(Timestamp(seconds).precise()))
}

#[test]
fn a_time_leads_to_the_journal_that_passes_it() {
    assert_eq!(to(100), Ok(Route::Along(0, vec![1])));
    assert_eq!(to(189), Ok(Route::Along(0, vec![1])));
    // All of the second backup is before it.
    assert_eq!(to(190), Ok(Route::Along(1, vec![2])));
    assert_eq!(to(249), Ok(Route::Along(1, vec![2])));
    assert_eq!(to(250), Ok(Route::Exactly(2)));
    assert_eq!(to(300), Ok(Route::Exactly(2)));
    assert_eq!(to(400), Ok(Route::Along(3, vec![4])));
    assert_eq!(to(500), Ok(Route::Exactly(4)));
}

#[test]
fn what_follows_a_later_time_is_after_it() {
    // The clock was an hour ahead for a moment.
    let history = history(&[
        backup("0-1-10", 100, None, &[]),
        backup("0-1-20", 200, Some(0), &[("0-1-10", "0-1-20", 110, 3700)]),
        backup("0-1-30", 300, Some(1), &[("0-1-20", "0-1-30", 210, 290)]),
        backup("0-1-30", 400, Some(2), &[]),
    ]);
    let to = |seconds| history.route(&Moment::Time(Timestamp(seconds).precise()));
    for seconds in [100, 150, 200, 250, 300, 350, 400, 3699] {
        assert_eq!(to(seconds), Ok(Route::Along(0, vec![1])), "{seconds}");
    }
    assert!(to(3701).is_err());
}

#[test]
fn a_time_out_of_reach_has_neighbours_that_are_not() {
    let out = |seconds| to(seconds).unwrap_err();
    assert_eq!((out(99).before, out(99).after), (None, Some(0)));
    let gap = out(301);
    assert_eq!((gap.before, gap.after), (Some(2), Some(3)));
    assert!(gap.why.contains("--no-journal"), "{}", gap.why);
    assert_eq!((out(501).before, out(501).after), (Some(4), None));
    let none = History::default().route(&Moment::Time(Micros(0))).unwrap_err();
    assert_eq!((none.before, none.after), (None, None));
}

#[test]
fn a_gtid_leads_to_the_journal_that_has_it() {
    let gtid = |n: u32| Gtid::parse(&format!("0-1-{n}")).unwrap();
    let after = |n| sample().route(&Moment::After(gtid(n)));
    assert_eq!(after(11), Ok(Route::Along(0, vec![1])));
    assert_eq!(after(20), Ok(Route::Along(0, vec![1])));
    assert_eq!(sample().route(&Moment::Before(gtid(21))), Ok(Route::Along(1, vec![2])));
    // The position of a backup without a journal.
    assert_eq!(after(10), Ok(Route::Exactly(0)));
    assert!(sample().route(&Moment::Before(gtid(10))).is_err());
    assert_eq!(after(40), Ok(Route::Exactly(3)));
    let out = |n| after(n).unwrap_err();
    assert_eq!((out(9).before, out(9).after), (None, Some(0)));
    assert_eq!((out(35).before, out(35).after), (Some(2), Some(3)));
    assert_eq!((out(51).before, out(51).after), (Some(4), None));
}

/// Reset after the second backup: the chain that follows counts from the beginning.
fn two_chains() -> [Summary; 5] {
    let log = |made: &str| PrimaryLog::parse(&format!("0123456789abcdef binlog.000001 {made}"));
    let mut all = [
        backup("0-1-10", 100, None, &[]),
        backup("0-1-20", 200, Some(0), &[("0-1-10", "0-1-20", 110, 190)]),
        backup("0-1-5", 300, None, &[]),
        backup("0-1-20", 400, Some(2), &[("0-1-5", "0-1-20", 310, 390)]),
        backup("0-1-30", 500, Some(3), &[("0-1-20", "0-1-30", 410, 490)]),
    ];
    for (number, summary) in all.iter_mut().enumerate() {
        let made = if number < 2 { "2026-11-21T10:00:00Z" } else { "2026-11-22T10:00:00Z" };
        summary.header.primary_log = log(made);
    }
    all
}

#[test]
fn a_gtid_of_two_transactions_is_the_newest() {
    let gtid = Gtid::parse("0-1-15").unwrap();
    let all = two_chains();
    // Before the newest chain has got so far.
    let first = history(&all[..3]);
    let route = first.route(&Moment::Before(gtid.clone())).unwrap();
    assert_eq!(route, Route::Along(0, vec![1]));
    let text = first.ambiguity(&gtid, &route).unwrap();
    assert!(text.contains("the journal of b1, before the chain of b2 began"), "{text}");
    let mut all = history(&all);
    let having = all.having(&gtid);
    assert_eq!((having.newest, having.others), (vec![3], vec![1]));
    let route = all.route(&Moment::Before(gtid.clone())).unwrap();
    assert_eq!(route, Route::Along(2, vec![3]));
    let text = all.ambiguity(&gtid, &route).unwrap();
    assert!(text.contains("the journal of b1, from before"), "{text}");
    // Without a way to it, there is none to the other one.
    let mut damaged = all.clone();
    damaged.spoil_journal("b3");
    assert!(damaged.route(&Moment::Before(gtid.clone())).is_err());
    assert!(damaged.route(&Moment::After(Gtid::parse("0-1-20").unwrap())).is_ok());
    all.spoil_data("b2");
    assert!(all.route(&Moment::Before(gtid.clone())).is_err());
    // What two journals of one chain have is one.
    let sample = sample();
    let route = sample.route(&Moment::After(gtid.clone())).unwrap();
    assert_eq!(sample.ambiguity(&gtid, &route), None);
}

/// Without `gtid_strict_mode`, a log of several servers.
#[test]
fn a_gtid_passed_by_another_servers_number_has_no_namesake() {
    let mut history = history(&[
        backup("0-1-900", 100, None, &[]),
        backup("0-1-1000", 200, Some(0), &[("0-1-900", "0-1-1000", 110, 190)]),
        backup("0-2-990", 300, Some(1), &[("0-1-1000", "0-2-990", 210, 290)]),
        backup("0-1-1010", 400, Some(2), &[("0-2-990", "0-1-1010", 310, 390)]),
    ]);
    let moment = Moment::After(Gtid::parse("0-1-1000").unwrap());
    assert_eq!(history.route(&moment), Ok(Route::Along(2, vec![3])));
    history.rule_out(3);
    let route = history.route(&moment).unwrap();
    assert_eq!(route, Route::Along(0, vec![1]));
    assert_eq!(history.ambiguity(&Gtid::parse("0-1-1000").unwrap(), &route), None);
}

#[test]
fn no_journal_leads_on_from_another_chain() {
    let all = two_chains();
    let mut history = History::default();
    // The base was pruned.
    for number in [0, 1, 2, 4] {
        history.add(format!("b{number}"), &all[number]);
    }
    let gap = history.points[3].leads_from.clone().unwrap_err();
    assert!(gap.contains("b3, which is not there"), "{gap}");
}

#[test]
fn windows_end_where_no_journal_leads_on() {
    let sample = sample();
    let windows: Vec<_> = sample.windows().into_iter().map(|w| (w.ends, w.gap)).collect();
    let gap = "the pass ran with --no-journal".to_string();
    assert_eq!(windows, [((0, 2), "a new chain begins".to_string()), ((3, 4), gap)]);
}

#[test]
fn the_ends_of_a_window_can_be_had() {
    let time = |seconds: i64| Timestamp(seconds).precise();
    // In the second of the last transaction, there may have been more.
    let last = Summary {
        as_of: Some(time(149)),
        ..backup("0-1-20", 150, Some(0), &[("0-1-10", "0-1-20", 110, 150)])
    };
    let history = history(&[backup("0-1-10", 100, None, &[]), last]);
    let [first, last] = &history.points[..] else { panic!() };
    assert_eq!((first.began(), last.until()), (time(100), time(149)));
    for end in [first.began(), last.until()] {
        assert_eq!(history.route(&Moment::Time(end)), Ok(Route::Along(0, vec![1])));
    }
    assert!(history.route(&Moment::Time(last.began())).is_err());
    // A backup without what leads to it is itself.
    let alone = backup("0-1-20", 149, Some(0), &[("0-1-10", "0-1-20", 110, 150)]);
    assert_eq!(self::history(&[alone]).points[0].until(), time(150));
}

#[test]
fn what_is_pruned_or_damaged_leaves_a_gap() {
    let all = [
        backup("0-1-10", 100, None, &[]),
        backup("0-1-20", 200, Some(0), &[("0-1-10", "0-1-20", 110, 150)]),
        backup("0-1-30", 300, Some(1), &[("0-1-20", "0-1-30", 205, 250)]),
    ];
    let without = |gone: usize, damaged: bool| {
        let mut history = History::default();
        for (number, summary) in all.iter().enumerate() {
            match (number == gone, damaged) {
                (false, _) => history.add(format!("b{number}"), summary),
                (true, true) => history.damaged.push(("b1".into(), history.points.len())),
                (true, false) => {}
            }
        }
        history.windows()
    };
    let pruned = without(1, false);
    assert_eq!(pruned.len(), 2);
    assert!(pruned[1].gap.contains("b1"), "{}", pruned[1].gap);
    assert!(without(1, true)[1].gap.contains("b1 is damaged"));
    // An idle pass has no relay logs to keep, which is no reason.
    let mut idle = history(&all[..1]);
    idle.add("b2".into(), &backup("0-1-20", 300, Some(1), &[]));
    let gap = &idle.windows()[1].gap;
    assert_eq!(gap, "the next journal leads on from b1, which is not there");
    let mut cut = history(&all[..1]);
    cut.damaged.push(("b1".into(), 1));
    let beyond = cut.route(&Moment::Time(Timestamp(190).precise())).unwrap_err();
    assert_eq!(beyond.why, "it is after all that is stored, but b1 is damaged");
    cut.add("b2".into(), &all[2]);
    assert_eq!(
        cut.points[1].leads_from,
        Err("the next journal leads on from b1, which is damaged".into())
    );
    let moved = backup("0-1-30", 300, Some(0), &[("0-1-29", "0-1-30", 205, 250)]);
    let moved = history(&[all[0].clone(), moved]);
    assert_eq!(
        moved.points[1].leads_from,
        Err("the next journal begins at 0-1-29, and not where b0 is".into())
    );
    // What is joined by position does not depend on names.
    let mut history = history(&all[..1]);
    history
        .add("renamed".into(), &backup("0-1-20", 200, Some(7), &[("0-1-10", "0-1-20", 110, 150)]));
    assert_eq!(history.windows().len(), 1);
}

/// Four backups with journals, and what became of each: good, its data damaged, or all of it.
fn chain(states: [&str; 4]) -> History {
    let all = [
        backup("0-1-10", 100, None, &[]),
        backup("0-1-20", 200, Some(0), &[("0-1-10", "0-1-20", 110, 150)]),
        backup("0-1-30", 300, Some(1), &[("0-1-20", "0-1-30", 205, 250)]),
        backup("0-1-40", 400, Some(2), &[("0-1-30", "0-1-40", 305, 350)]),
    ];
    let mut history = History::default();
    for (number, (summary, state)) in all.iter().zip(states).enumerate() {
        match state {
            "good" => history.add(format!("b{number}"), summary),
            _ => history.add_damaged(format!("b{number}"), summary, state == "data"),
        }
    }
    history
}

#[test]
fn journals_lead_over_damaged_backups() {
    let time = |seconds| Moment::Time(Timestamp(seconds).precise());
    let gtid = |n: u32| Moment::After(Gtid::parse(&format!("0-1-{n}")).unwrap());
    let history = chain(["good", "data", "data", "good"]);
    for (moment, route) in [
        (time(120), Route::Along(0, vec![1])),
        // All that is in the second one, which is not there.
        (time(200), Route::Along(0, vec![1, 2])),
        (time(310), Route::Along(0, vec![1, 2, 3])),
        (time(400), Route::Exactly(3)),
        (gtid(10), Route::Exactly(0)),
        (gtid(20), Route::Along(0, vec![1])),
        (gtid(35), Route::Along(0, vec![1, 2, 3])),
    ] {
        assert_eq!(history.route(&moment), Ok(route), "{moment:?}");
    }
    let windows = history.windows();
    assert_eq!(windows.iter().map(|w| w.ends).collect::<Vec<_>>(), [(0, 3)]);
    // At its end, too.
    let history = chain(["good", "good", "data", "data"]);
    assert_eq!(history.route(&time(400)), Ok(Route::Along(1, vec![2, 3])));
    assert!(history.route(&time(401)).is_err());
}

#[test]
fn nothing_leads_over_a_damaged_journal() {
    let time = |seconds| Moment::Time(Timestamp(seconds).precise());
    let history = chain(["good", "good", "all", "good"]);
    let out = history.route(&time(310)).unwrap_err();
    assert_eq!((out.before, out.after), (Some(1), Some(2)));
    let windows = history.windows();
    assert_eq!(windows.iter().map(|w| w.ends).collect::<Vec<_>>(), [(0, 1), (2, 2)]);
    assert!(windows[1].gap.contains("b2 is damaged"), "{}", windows[1].gap);
    // What has no good backup before it is no window.
    let history = chain(["all", "data", "data", "good"]);
    assert_eq!(history.windows().iter().map(|w| w.ends).collect::<Vec<_>>(), [(0, 0)]);
    assert!(history.route(&time(310)).is_err());
}

#[test]
fn what_turns_out_to_be_damaged_is_gone_around() {
    let time = |seconds| Moment::Time(Timestamp(seconds).precise());
    let mut history = chain(["good"; 4]);
    assert_eq!(history.route(&time(310)), Ok(Route::Along(2, vec![3])));
    history.spoil_data("b2");
    assert_eq!(history.route(&time(310)), Ok(Route::Along(1, vec![2, 3])));
    history.spoil_journal("b2");
    assert!(history.route(&time(310)).is_err());
}

#[test]
fn a_journal_that_leads_over_a_backup_closes_its_gap() {
    // The second pass kept none, and the third began at the first backup again.
    let mut history = history(&[backup("0-1-10", 100, None, &[])]);
    let without = backup("0-1-20", 200, Some(0), &[]);
    history.add("b1".into(), &Summary { gap: Some("none".into()), ..without });
    history.add("b2".into(), &backup("0-1-30", 300, Some(0), &[("0-1-10", "0-1-30", 110, 290)]));
    let windows = history.windows();
    assert_eq!(windows.iter().map(|w| w.ends).collect::<Vec<_>>(), [(0, 2)]);
    for seconds in [120, 250] {
        let moment = Moment::Time(Timestamp(seconds).precise());
        assert_eq!(history.route(&moment), Ok(Route::Along(0, vec![2])), "{seconds}");
    }
}

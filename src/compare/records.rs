//! Turns as they are on record: one line for each table, in `proofs/NAME` of the newest backup.
//!
//! They go from backup to backup: the scratch directory may be gone by the next night. The oldest come
//! first, since a record that grows too large loses those, and what is not on record is looked at first.

use crate::compare::names::TableName;
use crate::compare::rotation::{Ended, Turn, Turns};
use crate::os::clock::{Timestamp, parse_duration};
use crate::repository::proofs::Record;

/// The word for the line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of `CHECK TABLE`.
    Check,
    /// Of the comparison with the primary.
    Compare,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Check => "check-turn",
            Kind::Compare => "compare-turn",
        }
    }
}

/// The turns among `records`. Of several of one table the last one counts. One that is dated in the future,
/// since a clock was wrong, was long ago: the table would not have its turn until then.
pub fn read(kind: Kind, records: &[Record]) -> Turns {
    let now = Timestamp::now();
    let turn = |record: &Record| {
        let table = TableName::new(record.get("schema")?, record.get("table")?);
        let ended = match record.get("result")? {
            "right" => Ended::Right,
            "wrong" => Ended::Wrong(record.get("what").unwrap_or_default().into()),
            "cut" => Ended::Cut,
            "part" => Ended::Part(record.get("at")?.into()),
            "long" => Ended::TooLong(parse_duration(record.get("than")?)?),
            _ => return None,
        };
        let last = Some(record.time()?).filter(|last| !last.is_future(now));
        Some((table, Turn { last: last.unwrap_or(Timestamp(0)), ended }))
    };
    records.iter().filter(|r| r.kind() == kind.word()).filter_map(turn).collect()
}

/// True for the turn of a table in which nothing was found: it tells whose turn is next, and is no news.
pub fn is_no_news(record: &Record) -> bool {
    [Kind::Check, Kind::Compare].iter().any(|kind| record.kind() == kind.word())
        && matches!(record.get("result"), Some("right" | "cut" | "part"))
}

/// The lines for `turns`.
pub fn write(kind: Kind, turns: &Turns) -> Vec<Record> {
    let mut turns: Vec<_> = turns.iter().collect();
    turns.sort_by_key(|(_, turn)| turn.last);
    let line = |(table, turn): (&TableName, &Turn)| {
        let record = Record::new(kind.word(), turn.last)
            .with("schema", &table.schema)
            .with("table", &table.name);
        match &turn.ended {
            Ended::Right => record.with("result", "right"),
            Ended::Wrong(what) => record.with("result", "wrong").with("what", what),
            Ended::Cut => record.with("result", "cut"),
            Ended::Part(at) => record.with("result", "part").with("at", at),
            Ended::TooLong(time) => {
                record.with("result", "long").with("than", format!("{}ms", time.as_millis()))
            }
        }
    };
    turns.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn turns_survive_being_put_on_record() {
        let all = [
            Ended::Right,
            Ended::Wrong("Corrupt = bad\n".into()),
            Ended::Cut,
            Ended::Part("31:6162".into()),
            Ended::TooLong(Duration::from_secs(60)),
        ];
        let turns: Turns = all
            .into_iter()
            .enumerate()
            .map(|(n, ended)| {
                let turn = Turn { last: Timestamp(1000 - n as i64), ended };
                (TableName::new("a.b c", &format!("t={n}\u{e4}")), turn)
            })
            .collect();
        let records = write(Kind::Check, &turns);
        assert_eq!(read(Kind::Check, &records), turns);
        assert!(read(Kind::Compare, &records).is_empty());
        assert!(records.windows(2).all(|pair| pair[0].time() <= pair[1].time()));
        let tomorrow = Timestamp(Timestamp::now().0 + 90_000);
        let later = Record::new("check-turn", tomorrow).with("schema", "a").with("table", "b");
        let read_back = read(Kind::Check, &[later.with("result", "right")]);
        assert!(read_back.values().all(|turn| turn.last == Timestamp(0)) && read_back.len() == 1);
        let odd = Record::new("check-turn", Timestamp(1)).with("schema", "a").with("table", "b");
        assert!(read(Kind::Check, &[odd.with("result", "odd")]).is_empty());
    }
}

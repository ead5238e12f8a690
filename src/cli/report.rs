//! The report for an auditor: backups with what is on record of them, passes with their ends.
//!
//! It only reads the repository. What is on record is untrusted: it is shown and never acted on.

use std::time::Duration;

use crate::cli::output::{columns, object, quote};
use crate::compare::records::is_no_news;
use crate::error::Result;
use crate::os::clock::Timestamp;
use crate::os::process::{holds_lock, start_time};
use crate::repository::directory::Repository;
use crate::repository::manifest::Summary;
use crate::repository::proofs::{PASS, PROOF, Record};
use crate::text::{bytes, count, harmless, short};

/// Keys whose values are numbers.
const NUMBERS: [&str; 8] = [
    "status",
    "pid",
    "restore_seconds",
    "start_seconds",
    "check_seconds",
    "tables",
    "unchecked",
    "bytes",
];

struct Backup {
    name: String,
    /// `None` if it cannot be read.
    manifest: Option<Summary>,
    damage: Option<String>,
    /// Within the time of the report, and worth a line: there may be a turn of each of many tables.
    records: Vec<Record>,
}

/// What is to be reported.
pub struct Report {
    root: String,
    since: Timestamp,
    until: Timestamp,
    backups: Vec<Backup>,
    passes: Vec<Record>,
}

impl Report {
    /// Reads all that happened in `repo` in the last `time`.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn read(repo: &Repository, time: Duration) -> Result<Report> {
        let until = Timestamp::now();
        let since = Timestamp(until.0 - time.as_secs() as i64);
        let is_recent = |t: Option<Timestamp>| t.is_some_and(|t| t > since);
        let mut backups = Vec::new();
        for name in repo.names()? {
            let Some((manifest, damage)) = repo.look_at(&name)? else { continue };
            let mut records = repo.records(&name);
            records.retain(|record| is_recent(record.time()) && !is_no_news(record));
            let stored = name.get(..16).and_then(Timestamp::parse_compact);
            if is_recent(stored) || !records.is_empty() {
                backups.push(Backup { name, manifest, damage, records });
            }
        }
        let mut passes = repo.passes();
        passes.retain(|pass| {
            pass.kind() == PASS && (is_recent(pass.time()) || is_recent(pass.time_of("end")))
        });
        let root = repo.root().display().to_string();
        Ok(Report { root, since, until, backups, passes })
    }

    /// For people: one page.
    pub fn text(&self) -> String {
        let (since, until) = (self.since.rfc3339(), self.until.rfc3339());
        let mut text = format!("Backups of {}, {since} to {until}\n\n", harmless(&self.root));
        text += &self.backups_text();
        text += "\n";
        text += &self.passes_text();
        text
    }

    fn backups_text(&self) -> String {
        let titles = [
            "BACKUP",
            "STATE",
            "DATA AS OF",
            "SIZE",
            "PROOF",
            "RESTORE",
            "START",
            "TABLES",
            "RESULT",
        ];
        let mut rows = vec![titles.map(String::from)];
        let mut remarks = String::new();
        let mut proven = 0;
        for backup in &self.backups {
            let Backup { name, manifest, damage, records } = backup;
            let mut cells = vec![
                name.clone(),
                if damage.is_some() { "damaged" } else { "complete" }.into(),
                manifest.as_ref().map_or("-".into(), |m| m.header.data_as_of.rfc3339()),
                manifest.as_ref().map_or("-".into(), |m| bytes(m.size)),
            ];
            if let Some(damage) = damage {
                remarks += &format!("{name}: damaged: {}\n", harmless(damage));
            }
            let proofs: Vec<&Record> = records.iter().filter(|r| r.kind() == PROOF).collect();
            proven += usize::from(proofs.last().is_some_and(|p| p.get("result") == Some("ok")));
            for proof in &proofs {
                let result = value(proof, "result");
                let part = std::mem::replace(&mut cells, vec![String::new(); 4]);
                let [name, state, as_of, size] = part.try_into().unwrap_or_default();
                let (restored, started) = (time(proof, "restore"), time(proof, "start"));
                let (when, tables) = (value(proof, "time"), value(proof, "tables"));
                rows.push([
                    name,
                    state,
                    as_of,
                    size,
                    when.clone(),
                    restored,
                    started,
                    tables,
                    result.clone(),
                ]);
                if let Some(what) = proof.get("what") {
                    remarks += &format!(
                        "{}: proof at {when}: {result}: {}\n",
                        backup.name,
                        harmless(what)
                    );
                }
            }
            if proofs.is_empty() {
                let [name, state, as_of, size] = cells.try_into().unwrap_or_default();
                let none = || "-".to_string();
                rows.push([name, state, as_of, size, none(), none(), none(), none(), none()]);
            }
            for other in records.iter().filter(|r| r.kind() != PROOF) {
                let pairs: Vec<String> = other
                    .pairs()
                    .filter(|(key, _)| *key != "time")
                    .map(|(key, value)| format!("{key} {}", harmless(value)))
                    .collect();
                let (kind, when) = (other.kind(), value(other, "time"));
                remarks += &format!("{name}: {kind} at {when}: {}\n", pairs.join(", "));
            }
        }
        let damaged = self.backups.iter().filter(|b| b.damage.is_some()).count();
        let all = count(self.backups.len(), "backup");
        format!("{all}, {proven} proven, {damaged} damaged\n{}{remarks}", columns(&rows))
    }

    fn passes_text(&self) -> String {
        let titles = ["BEGUN", "ENDED", "COMMAND", "STATUS", "CAUSE", "BACKUP"];
        let mut rows = vec![titles.map(String::from)];
        let mut remarks = String::new();
        let (mut well, mut idle) = (0, 0);
        for pass in &self.passes {
            if !is_due(pass) {
                idle += 1;
                continue;
            }
            let begun = value(pass, "time");
            let (end, status) = match pass.get("end") {
                Some(_) => (value(pass, "end"), value(pass, "status")),
                None if is_running(pass) => ("running".into(), "-".into()),
                None => ("no end: killed".into(), "-".into()),
            };
            well += usize::from(status == "0");
            if let Some(what) = pass.get("what") {
                let cause = value(pass, "cause");
                remarks += &format!("{begun}: {cause}: {}\n", harmless(what));
            }
            let (command, cause) = (value(pass, "command"), value(pass, "cause"));
            rows.push([begun, end, command, status, cause, value(pass, "backup")]);
        }
        let all = count(rows.len() - 1, "pass");
        let idle = match idle {
            0 => String::new(),
            n => format!("; nothing was due at {}", count(n as u64, "other run")),
        };
        format!("{all}, {well} with status 0{idle}\n{}{remarks}", columns(&rows))
    }

    /// For programs: one object.
    pub fn json(&self) -> String {
        let backups = self.backups.iter().map(|backup| {
            let m = backup.manifest.as_ref();
            let text = |value: Option<String>| value.map_or("null".into(), |v| quote(&v));
            let (proofs, others): (Vec<&Record>, Vec<&Record>) =
                backup.records.iter().partition(|r| r.kind() == PROOF);
            object(&[
                ("name", quote(&backup.name)),
                ("state", quote(if backup.damage.is_some() { "damaged" } else { "complete" })),
                ("damage", text(backup.damage.clone())),
                ("data_as_of", text(m.map(|m| m.header.data_as_of.rfc3339()))),
                ("finished", text(m.map(|m| m.finished.rfc3339()))),
                ("version", text(m.map(|m| m.header.version.clone()))),
                ("size", m.map_or("null".into(), |m| m.size.to_string())),
                ("proofs", array(proofs.into_iter().map(|r| members(r, false)))),
                ("records", array(others.into_iter().map(|r| members(r, true)))),
            ])
        });
        let passes = self.passes.iter().map(|pass| {
            let text = |key: &str| pass.get(key).map_or("null".into(), quote);
            object(&[
                ("begun", text("time")),
                ("ended", text("end")),
                ("command", text("command")),
                ("status", pass.get("status").and_then(number).unwrap_or("null".into())),
                ("cause", text("cause")),
                ("message", text("what")),
                ("base", text("base")),
                ("backup", text("backup")),
                ("due", is_due(pass).to_string()),
                ("running", is_running(pass).to_string()),
            ])
        });
        let whole = object(&[
            ("repository", quote(&self.root)),
            ("since", quote(&self.since.rfc3339())),
            ("until", quote(&self.until.rfc3339())),
            ("backups", array(backups)),
            ("passes", array(passes)),
        ]);
        whole + "\n"
    }
}

/// A value for people; a dash if there is none.
fn value(record: &Record, key: &str) -> String {
    record.get(key).map_or("-".into(), harmless)
}

/// The duration of a step of a proof, for people.
fn time(proof: &Record, step: &str) -> String {
    let seconds = proof.get(&format!("{step}_seconds")).and_then(|s| s.parse::<f64>().ok());
    let time = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.map_or("-".into(), short)
}

/// False for a pass that found nothing to do.
fn is_due(pass: &Record) -> bool {
    pass.get("due") != Some("no")
}

/// True if the process of a pass without an end is alive and holds a lock.
fn is_running(pass: &Record) -> bool {
    let pid = pass.get("pid").and_then(|p| p.parse::<u32>().ok());
    let alive = pid.filter(|pid| start_time(*pid).is_some());
    pass.get("end").is_none() && alive.is_some_and(|pid| holds_lock(pid).unwrap_or(true))
}

/// A record as an object.
fn members(record: &Record, with_kind: bool) -> String {
    let mut all = Vec::new();
    if with_kind {
        all.push(("kind", quote(record.kind())));
    }
    for (key, value) in record.pairs().filter(|(key, _)| *key != "kind") {
        let as_number = NUMBERS.contains(&key).then(|| number(value)).flatten();
        all.push((key, as_number.unwrap_or_else(|| quote(value))));
    }
    object(&all)
}

/// The text of a decimal number as JSON has it.
fn number(text: &str) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.len() < 20 && t.bytes().all(|b| b.is_ascii_digit());
    let plain = whole == "0" || !whole.starts_with('0');
    (digits(whole) && digits(part) && plain).then(|| text.to_string())
}

fn array(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "[]".into() } else { format!("[\n    {}\n  ]", items.join(",\n    ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_record_are_numbers_of_json() {
        for (text, is_number) in [
            ("0", true),
            ("0.125", true),
            ("143", true),
            ("007", false),
            (".5", false),
            ("1.", false),
            ("-1", false),
            ("1e9", false),
            ("", false),
        ] {
            assert_eq!(number(text).is_some(), is_number, "{text}");
        }
    }
}

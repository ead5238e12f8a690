//! The output of `list`, `verify` and `status`, for people and programs.

use crate::cli::status::{Newest, Status};
use crate::error::{Error, Result};
use crate::os::clock::Timestamp;
use crate::report::keys::NUMBERS;
use crate::repository::directory::Repository;
use crate::repository::manifest::Summary;
use crate::repository::pins::Pin;
use crate::repository::proofs::{Record, proven};
use crate::repository::prune::candidate;
use crate::repository::retention::{self, Candidate, Policy};
use crate::repository::verify::Report;
use crate::text::{bytes, count, harmless, is_harmful};

/// A backup as `list` shows it.
pub struct Entry {
    name: String,
    /// `None` if it cannot be read.
    manifest: Option<Summary>,
    damage: Option<String>,
    /// When it was last proven.
    proven: Option<Timestamp>,
    /// Unless its time is over.
    pin: Option<Pin>,
    /// Why retention keeps it.
    kept_by: Vec<&'static str>,
}

/// All backups, oldest first, as `policy` keeps them.
///
/// # Errors
/// When the repository cannot be read.
pub fn entries(repo: &Repository, policy: Policy) -> Result<Vec<Entry>> {
    let now = Timestamp::now();
    let mut entries = Vec::new();
    for name in repo.names()? {
        let Some((manifest, damage)) = repo.look_at(&name)? else { continue };
        let proven = proven(&repo.records(&name)).and_then(Record::time);
        let pin = repo.pin_of(&name).filter(|pin| pin.end() > now);
        entries.push(Entry { name, manifest, damage, proven, pin, kept_by: Vec::new() });
    }
    judge(&mut entries, repo, &policy);
    Ok(entries)
}

/// Says of each entry why `policy` keeps it. One whose manifest cannot be read is never removed.
fn judge(entries: &mut [Entry], repo: &Repository, policy: &Policy) {
    let readable = entries.iter().filter_map(|entry| {
        let candidate = candidate(repo, entry.name.clone(), entry.manifest.as_ref()?);
        Some(Candidate { complete: entry.damage.is_none(), ..candidate })
    });
    let candidates: Vec<Candidate> = readable.collect();
    let mut fates = retention::judge(policy, Timestamp::now(), &candidates).into_iter();
    for entry in entries {
        entry.kept_by = match entry.manifest {
            Some(_) => fates.next().unwrap_or_default().kept_by,
            None => vec!["unreadable"],
        };
    }
}

/// For people: one line each.
pub fn table(entries: &[Entry]) -> String {
    let titles = [
        "NAME",
        "STATE",
        "DATA AS OF",
        "SIZE",
        "ADDED",
        "PROVEN",
        "KEPT BY",
        "VERSION",
        "POSITION",
    ];
    let mut rows = vec![titles.map(String::from)];
    for entry in entries {
        let state = if entry.damage.is_some() { "damaged" } else { "complete" };
        let name = entry.name.clone();
        // The day is enough for people.
        let proven = entry.proven.map_or("-".into(), |t| t.rfc3339()[..10].to_string());
        let none = || "-".to_string();
        let kept_by = if entry.kept_by.is_empty() { none() } else { entry.kept_by.join(",") };
        rows.push(match &entry.manifest {
            Some(m) => [
                name,
                state.into(),
                m.header.data_as_of.rfc3339(),
                bytes(m.size),
                bytes(m.stored),
                proven,
                kept_by,
                m.header.version.clone(),
                m.header.position.clone(),
            ],
            None => [name, state.into(), none(), none(), none(), proven, kept_by, none(), none()],
        });
    }
    let mut text = columns(&rows);
    for entry in entries {
        if let Some(damage) = &entry.damage {
            text += &format!("{}: {damage}\n", entry.name);
        }
        if let Some(pin) = &entry.pin {
            text += &format!("{}: {}\n", entry.name, harmless(&pin.text()));
        }
    }
    text
}

/// Rows in columns, the last of which is as wide as it is.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let length = |cell: &String| cell.chars().count();
    let width = |column: usize| rows.iter().map(|r| length(&r[column])).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let (mut line, mut pad) = (String::new(), 0);
        for (cell, width) in row.iter().zip(widths) {
            // Not by a format, whose widths end at 65,535: a position may be longer.
            line.extend(std::iter::repeat_n(' ', pad));
            line += cell;
            pad = width - length(cell) + 2;
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// For programs: an array of objects.
pub fn json(entries: &[Entry]) -> String {
    let objects: Vec<String> = entries
        .iter()
        .map(|entry| {
            let m = entry.manifest.as_ref();
            let text = |f: fn(&Summary) -> &str| m.map_or("null".into(), |m| quote(f(m)));
            let time =
                |f: fn(&Summary) -> Timestamp| m.map_or("null".into(), |m| quote(&f(m).rfc3339()));
            let number = |f: fn(&Summary) -> u64| m.map_or("null".into(), |m| f(m).to_string());
            let base = m.and_then(|m| m.header.base.as_deref()).map_or("null".into(), quote);
            let state = if entry.damage.is_some() { "damaged" } else { "complete" };
            let pin = |f: fn(&Pin) -> Option<String>| {
                entry.pin.as_ref().and_then(f).map_or("null".into(), |text| quote(&text))
            };
            object(&[
                ("name", quote(&entry.name)),
                ("state", quote(state)),
                ("flavor", text(|m| &m.header.flavor)),
                ("version", text(|m| &m.header.version)),
                ("position", text(|m| &m.header.position)),
                ("data_as_of", time(|m| m.header.data_as_of)),
                ("finished", time(|m| m.finished)),
                ("files", number(|m| m.files)),
                ("size", number(|m| m.size)),
                ("stored", number(|m| m.stored)),
                ("base", base),
                ("proven", entry.proven.map_or("null".into(), |t| quote(&t.rfc3339()))),
                ("pinned", entry.pin.is_some().to_string()),
                ("pin_reason", pin(|pin| Some(pin.reason.clone()))),
                ("pinned_until", pin(|pin| pin.until.map(Timestamp::rfc3339))),
                ("kept_by", strings(entry.kept_by.iter().copied())),
            ])
        })
        .collect();
    if objects.is_empty() { "[]\n".into() } else { format!("[\n  {}\n]\n", objects.join(",\n  ")) }
}

/// Logs the result of a verify. Damage is an error.
///
/// # Errors
/// [`Error::BackupDamaged`] naming the first damaged backup.
pub fn report_verify(report: &Report) -> Result<()> {
    for damage in &report.damaged {
        let files: Vec<String> =
            damage.files.iter().take(5).map(|f| f.display().to_string()).collect();
        let more = damage.files.len().saturating_sub(files.len());
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        log::warn!(
            "backup-damaged: pack {}: {}; affected: {}{and} in {}",
            damage.pack,
            damage.what,
            files.join(", "),
            damage.backups.join(", ")
        );
    }
    let mut bad = report.backups.iter().filter(|b| !b.ok);
    match bad.next() {
        Some(first) => {
            let others = bad.count();
            let and = if others > 0 { format!(" (and {others} more)") } else { String::new() };
            Err(Error::BackupDamaged {
                backup: format!("{}{and}", first.name),
                what: first.what.clone(),
            })
        }
        None => {
            log::debug!("{} verified, no damage", count(report.backups.len(), "backup"));
            Ok(())
        }
    }
}

/// The report as a JSON object.
pub fn verify_json(report: &Report) -> String {
    let backups: Vec<String> = report
        .backups
        .iter()
        .map(|b| {
            object(&[("name", quote(&b.name)), ("ok", b.ok.to_string()), ("what", quote(&b.what))])
        })
        .collect();
    let damaged: Vec<String> = report
        .damaged
        .iter()
        .map(|d| {
            object(&[
                ("pack", quote(&d.pack)),
                ("what", quote(&d.what)),
                ("backups", strings(d.backups.iter().map(String::as_str))),
                ("files", {
                    let files: Vec<String> =
                        d.files.iter().map(|f| f.display().to_string()).collect();
                    strings(files.iter().map(String::as_str))
                }),
            ])
        })
        .collect();
    let ok = report.backups.iter().all(|b| b.ok);
    let whole = object(&[
        ("ok", ok.to_string()),
        ("packs", report.packs_read.to_string()),
        ("bytes", report.bytes.to_string()),
        ("backups", format!("[{}]", backups.join(", "))),
        ("damaged", format!("[{}]", damaged.join(", "))),
    ]);
    whole + "\n"
}

/// The result of `status` as a JSON object: the keys of the checkpoint, and what was checked.
pub fn status_json(status: &Status) -> String {
    status_json_of(&[], status)
}

/// The same with more texts.
pub fn status_json_of(texts: &[(&str, &str)], status: &Status) -> String {
    let mut members: Vec<(&str, String)> = Vec::new();
    members.extend(texts.iter().map(|(key, text)| (*key, quote(text))));
    for (key, value) in &status.facts {
        let value = match key.as_str() {
            "message" => quote(value.trim_matches('\'')),
            key if NUMBERS.iter().any(|number| number.name() == key) => value.clone(),
            _ => quote(value),
        };
        members.push((key, value));
    }
    // False if something expected is missing, null if nothing was checked.
    let nowhere = if status.facts.is_empty() { "null" } else { "false" };
    let truth = |b: Option<bool>| b.map_or(nowhere.into(), |b| b.to_string());
    members.push(("alive", truth(status.alive)));
    members.push(("answers", truth(status.answers)));
    let newest = status.newest.as_ref();
    members.push(("newest", newest.map_or("null".into(), |n| quote(&n.name))));
    let seconds = |newest: Option<&Newest>| {
        newest.and_then(|n| n.age).map_or("null".into(), |age| age.as_secs().to_string())
    };
    let age = seconds(newest);
    members.push(("newest_age_seconds", age));
    let proven = status.proven.as_ref();
    members.push(("newest_proven", proven.map_or("null".into(), |n| quote(&n.name))));
    let age = seconds(proven);
    members.push(("newest_proven_age_seconds", age));
    let until = status.recoverable_until.map(|time| quote(&time.rfc3339()));
    members.push(("recoverable_until", until.unwrap_or("null".into())));
    members.push(("verdict", quote(status.verdict.name())));
    members.push(("text", quote(&status.text)));
    object(&members)
}

/// An array of strings.
fn strings<'a>(list: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = list.map(quote).collect();
    format!("[{}]", quoted.join(", "))
}

pub(super) fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(k, v)| format!("{}: {v}", quote(k))).collect();
    format!("{{{}}}", members.join(", "))
}

/// A JSON string, RFC 8259.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if is_harmful(c) => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quote("a\"b\\c\nd"), "\"a\\\"b\\\\c\\u000ad\"");
        assert_eq!(object(&[("k", "1".into())]), "{\"k\": 1}");
        assert_eq!(json(&[]), "[]\n");
    }

    #[test]
    fn a_column_may_be_of_any_width() {
        let row = |first: &str, last: &str| [first.to_string(), last.into()];
        let long = "x".repeat(70_000);
        let text = columns(&[row("A", "B"), row("\u{e4}bc", &long), row(&long, "")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("A{}  B", " ".repeat(69_999)));
        assert_eq!(lines[1], format!("\u{e4}bc{}  {long}", " ".repeat(69_997)));
        assert_eq!(lines[2], long);
    }
}

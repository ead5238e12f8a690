//! `log`: which transactions the journals hold.
//!
//! Journal after journal is read out of the packs, and each transaction is printed as soon as its last
//! event is read: nothing is restored, and nothing is held in memory but the transaction being read.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::cli::output::{object, quote};
use crate::cli::question::Question;
use crate::cli::reach::{check_found, check_reach, spans};
use crate::cli::windows::{Gap, gaps};
use crate::error::{Error, Result};
use crate::journal::cut::Moment;
use crate::journal::details::Details;
use crate::journal::group::{Group, Transaction};
use crate::journal::history::{History, Point};
use crate::journal::scan::{End, scan_with};
use crate::mysql::gtid::Gtid;
use crate::mysql::position::Position;
use crate::mysql::settings;
use crate::os::clock::Micros;
use crate::os::signals;
use crate::pass::moment::check_flavor;
use crate::repository::contents::Contents;
use crate::repository::directory::{Repository, damaged};
use crate::repository::journals::Stores;
use crate::text::{count, harmless, shell, system_text};

/// So many times what there is is read again, if it changes meanwhile.
const REREAD: u32 = 5;
/// Where the command at the end restores to: a place that the user has to choose.
const TARGET: &str = "/var/lib/mysql-restored";

/// Prints the transactions. Returns the exit status.
///
/// # Errors
/// [`Error::OutOfReach`] if no journal has anything of the time asked for; [`Error::BackupDamaged`], after
/// all else is printed, for the first journal that cannot be read.
pub fn print(path: &Path, question: &Question) -> Result<u8> {
    signals::end_at_once().map_err(|e| Error::io("handle signals for", path, e))?;
    let stores = Stores::new(Repository::open(path)?)?;
    let repo = &stores.backups;
    let mut history = History::read(repo)?;
    if history.points.is_empty() && history.damaged.is_empty() {
        repo.find(None)?;
    }
    if let Some(until) = &question.until {
        check_flavor(&history, until)?;
    }
    check_reach(&history, question.since, question.until.as_ref())?;
    for Gap { from, to, why } in gaps(&history) {
        let is_asked_for = question.since.is_none_or(|since| to >= since)
            && !matches!(question.until, Some(Moment::Time(until)) if from > until);
        if is_asked_for {
            let (from, to) = (from.rfc3339(), to.rfc3339());
            log::warn!("no journal from {from} to {to}: {}", harmless(&why));
        }
    }
    let out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut listing = Listing {
        question,
        out,
        shown: 0,
        read: 0,
        last: None,
        passes: Vec::new(),
        met: false,
        broken: None,
        led: Vec::new(),
        damage: None,
    };
    let mut again = 0;
    while let Err((at, e)) = listing.all(&stores, &history) {
        // A pass or a follower may have removed it since, and have put something else in its place.
        let now = History::read(repo)?;
        again += 1;
        let is_gone = matches!(e, Error::NoBackup { .. });
        if !is_gone || again > REREAD || !now.has_what_follows(&history, at) {
            return Err(e);
        }
        listing.go_on_in(&now, &history);
        history = now;
    }
    let first = listing.damage.take();
    if first.is_none() && listing.broken.is_none() {
        // Before the command: on a terminal, that is the last line.
        let (shown, read) = (listing.shown, count(listing.read, "transaction"));
        match listing.out.flush() {
            Ok(()) => log::info!("{shown} of {read}; {}", spans(&history)),
            Err(e) => listing.broken = Some(e),
        }
    }
    if let Some(last) = &listing.last
        && question.table.is_some()
        && question.ddl
        && !question.json
    {
        let repo = shell(&harmless(&repo.root().display().to_string()));
        let means: String = question.means.iter().map(|word| format!(" {word}")).collect();
        let until = just_before(&history, last);
        if !until.starts_with("before:") {
            log::warn!(
                "a later transaction has the name {}, too, since the primary was reset or replaced: the \
                 command names a time before the one that is shown",
                last.0
            );
        }
        listing.write(&format!(
            "rollforward restore --repo {repo} --to {TARGET} --until {until}{means}\n"
        ));
    }
    let flushed = listing.out.flush();
    if let Some(e) = listing.broken.or(flushed.err()) {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Ok(0);
        }
        let doing = "write to standard output".into();
        return Err(Error::Io { doing, source: e });
    }
    if let Some(e) = first {
        return Err(e);
    }
    match &question.until {
        Some(Moment::After(gtid) | Moment::Before(gtid)) if !listing.met => {
            check_found(&history, gtid)
        }
        _ => Ok(()),
    }
    .map(|()| 0)
}

/// The moment before a transaction; by its time, where a newer one has its name.
fn just_before(history: &History, (gtid, time, at): &(Gtid, Micros, usize)) -> String {
    if !history.having(gtid).others.contains(at) {
        return format!("before:{gtid}");
    }
    // What times are written with.
    let step = if matches!(gtid, Gtid::MariaDb(_)) { 1_000_000 } else { 1 };
    Micros(time.0 - step).rfc3339()
}

/// What is being printed.
struct Listing<'a, W: Write> {
    question: &'a Question,
    out: BufWriter<W>,
    /// Transactions.
    shown: u64,
    read: u64,
    /// The last one that was shown, its time, and the journal that has it.
    last: Option<(Gtid, Micros, usize)>,
    /// The journals whose transaction of the name with which all ends is another one, from before.
    passes: Vec<usize>,
    /// The transaction with which all ends has come.
    met: bool,
    /// Nobody reads on.
    broken: Option<io::Error>,
    /// What was listed.
    led: Vec<Led>,
    /// The first journal that cannot be read.
    damage: Option<Error>,
}

/// How the way along a journal went on.
#[derive(PartialEq, Eq)]
enum Next {
    /// With the next journal.
    Journal,
    /// No further.
    Nothing,
}

/// What an earlier journal led over.
struct Led {
    journal: Option<String>,
    from: Position,
    to: Position,
    /// The latest time in it.
    latest: Option<Micros>,
}

/// The same, as far as it matters to a transaction.
type Span<'a> = (&'a Position, &'a Position, Option<Micros>);

impl<W: Write> Listing<'_, W> {
    /// What there is has changed from `before` while it was listed.
    fn go_on_in(&mut self, now: &History, before: &History) {
        if let Some((_, _, at)) = &mut self.last {
            let journal = before.points.get(*at).map(|point| &point.journal_of);
            let is_it = |point: &Point| Some(&point.journal_of) == journal;
            *at = now.points.iter().position(is_it).unwrap_or(usize::MAX);
        }
    }

    /// Prints what all journals have that have not led anywhere yet. On a failure, also of which point.
    fn all(&mut self, stores: &Stores, history: &History) -> Result<(), (usize, Error)> {
        if let Some(Moment::After(gtid) | Moment::Before(gtid)) = &self.question.until {
            self.passes = history.having(gtid).others;
        }
        for (at, point) in history.points.iter().enumerate() {
            let Ok(from) = point.leads_from else { continue };
            let from = &history.points[from].position;
            // A part that ends where a backup is leads to that, too.
            let is_it = |led: &Led| led.journal == point.journal_of && led.to == point.position;
            if point.journal_size == 0 || self.led.iter().any(is_it) {
                continue;
            }
            let is_before = |since| point.latest.is_some_and(|latest| latest < since);
            if !self.question.since.is_some_and(is_before) {
                let led = std::mem::take(&mut self.led);
                let listed = self.journal(stores, (at, point), from, &led);
                self.led = led;
                match listed {
                    Ok(Next::Journal) => {}
                    Ok(Next::Nothing) => break,
                    Err(e @ Error::BackupDamaged { .. }) => match self.damage {
                        None => self.damage = Some(e),
                        Some(_) => log::warn!("{}: {e}", e.cause()),
                    },
                    Err(e) => return Err((at, e)),
                }
            }
            let (journal, to, latest) = (point.journal_of.clone(), &point.position, point.latest);
            self.led.push(Led { journal, from: from.clone(), to: to.clone(), latest });
        }
        Ok(())
    }

    fn journal(
        &mut self,
        stores: &Stores,
        (number, point): (usize, &Point),
        from: &Position,
        led: &[Led],
    ) -> Result<Next> {
        let Some(name) = &point.journal_of else { return Ok(Next::Journal) };
        let held = stores.hold(name)?;
        let is_received = held.is_received();
        let wrong = |what| damaged(&held.name, what);
        // Where two backups grew from one, what led to the second is partly what led to the first.
        let mut overlaps: Vec<Span<'_>> = led
            .iter()
            .filter(|led| !from.contains(&led.to))
            .map(|led| (&led.from, &led.to, led.latest))
            .collect();
        // What was received may begin before the backup that it leads on from, and go on beyond this one.
        let first = held.manifest.journal.logs.first().filter(|_| is_received);
        let begin = first.map(|entry| Position::parse(from.flavor(), &entry.span.from));
        let begin = begin.transpose().map_err(wrong)?.unwrap_or_else(|| from.clone());
        overlaps.push((&begin, from, None));
        let settings = &held.manifest.header.settings;
        let folds = settings::value(settings, "lower_case_table_names").is_some_and(|v| v != "0");
        let (mut position, mut group, mut details) =
            (begin.clone(), Group::default(), Details::default());
        for entry in &held.manifest.journal.logs {
            let at = |text: &str| Position::parse(from.flavor(), text).map_err(wrong);
            let name = entry.file.path.display();
            if at(&entry.span.from)? != position {
                return Err(wrong(format!("{name} does not begin at {position}")));
            }
            let mut log = Contents::open(stores.of(&held), &held, &entry.file)?;
            let mut next = Next::Journal;
            let mut take = |transaction: Transaction, details: &mut Details| {
                let found = details.take();
                if !is_received || point.position.has(&transaction.gtid) {
                    next = self.take(number, &transaction, &found, (&overlaps, folds));
                }
                position.add(&transaction.gtid);
                next == Next::Journal && self.broken.is_none()
            };
            let ended = scan_with(0, &mut log, &mut group, &mut details, &mut take);
            group.torn.clear();
            let ended = ended.map_err(|e| {
                let failed = log.failure();
                failed.unwrap_or_else(|| wrong(format!("{name}: {}", system_text(&e))))
            })?;
            match ended {
                End::Enough if self.broken.is_some() => return Ok(Next::Nothing),
                End::Enough => return Ok(self.after_enough()),
                End::Torn { at, why } => return Err(wrong(format!("{name}: at byte {at}: {why}"))),
                End::Whole => {}
            }
            if at(&entry.span.to)? != position {
                return Err(wrong(format!("{name} does not lead to {}", entry.span.to)));
            }
        }
        Ok(Next::Journal)
    }

    /// A time ends each journal by itself; a transaction ends them all.
    fn after_enough(&self) -> Next {
        match self.question.until {
            Some(Moment::Time(_)) => Next::Journal,
            _ => Next::Nothing,
        }
    }

    /// Prints a transaction, if it is asked for.
    fn take(
        &mut self,
        number: usize,
        transaction: &Transaction,
        details: &Details,
        (overlaps, folds): (&[Span<'_>], bool),
    ) -> Next {
        let gtid = &transaction.gtid;
        let ends = match &self.question.until {
            Some(Moment::Time(time)) if transaction.time > *time => return Next::Nothing,
            Some(Moment::Before(until)) if gtid == until && !self.passes.contains(&number) => {
                self.met = true;
                return Next::Nothing;
            }
            Some(Moment::After(until)) => gtid == until && !self.passes.contains(&number),
            _ => false,
        };
        self.met |= ends;
        let ends = if ends { Next::Nothing } else { Next::Journal };
        // After a reset, another one has the name.
        let is_same = |latest: &Option<Micros>| latest.is_none_or(|at| transaction.time <= at);
        let mut overlaps = overlaps.iter().filter(|(_, _, latest)| is_same(latest));
        if overlaps.any(|(from, to, _)| to.has(gtid) && !from.has(gtid)) {
            return ends;
        }
        self.read += 1;
        let question = self.question;
        let is_asked_for = question.since.is_none_or(|since| transaction.time >= since)
            && (!question.ddl || !details.definitions.is_empty())
            && question.table.as_ref().is_none_or(|table| {
                details.touches(table, |a, b| if folds { is_same_folded(a, b) } else { a == b })
            });
        if is_asked_for {
            self.shown += 1;
            self.last = Some((gtid.clone(), transaction.time, number));
            let gtid = gtid.to_string();
            let time = transaction.time.rfc3339();
            let line = if question.json {
                json(&time, &gtid, details)
            } else {
                format!("{time}  {gtid}  {}", details.line())
            };
            self.write(&(line + "\n"));
        }
        ends
    }

    fn write(&mut self, line: &str) {
        if self.broken.is_none() {
            self.broken = self.out.write_all(line.as_bytes()).err();
        }
    }
}

/// True of names that are one where the case of letters does not count.
fn is_same_folded(a: &[u8], b: &[u8]) -> bool {
    let folded = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
    a.eq_ignore_ascii_case(b) || folded(a) == folded(b)
}

fn json(time: &str, gtid: &str, details: &Details) -> String {
    let tables: Vec<(String, String)> = details
        .tables
        .iter()
        .map(|(name, rows)| {
            (name.shown(), rows.map_or_else(|| "null".into(), |rows| rows.to_string()))
        })
        .collect();
    let tables: Vec<(&str, String)> =
        tables.iter().map(|(name, rows)| (name.as_str(), rows.clone())).collect();
    let ddl = match details.definitions.as_slice() {
        [] => "null".into(),
        all => quote(&all.join("; ")),
    };
    object(&[
        ("time", quote(time)),
        ("gtid", quote(gtid)),
        ("tables", object(&tables)),
        ("ddl", ddl),
        ("bytes", details.bytes.to_string()),
    ])
}

//! Relay logs that a receiver is still writing, read on as they grow.
//!
//! What was received is handed out in slices, each up to a whole transaction, and each a log by itself: a
//! slice that does not begin where its log does gets the beginning of that, which describes it.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoExt, Result};
use crate::journal::group::{Group, Place, Transaction};
use crate::journal::relay_logs::logs_in;
use crate::journal::scan::{CUT_SHORT, End, Mark, scan_on};
use crate::mysql::position::Position;
use crate::os::clock::Micros;
use crate::os::files;

/// The relay logs of one receiver.
pub struct Tail {
    dir: PathBuf,
    logs: Vec<Log>,
    group: Group,
    at: Position,
    /// The end of the last whole transaction, and of what was handed out.
    whole: Place,
    taken: Place,
    /// What has ended since then, by the log that it ended in.
    ended: Vec<Ended>,
    /// So many of the logs were emptied.
    emptied: usize,
}

struct Log {
    name: String,
    mark: Mark,
    /// Where a transaction begins of which the rest never came, if one does.
    torn: Option<u64>,
}

/// The transactions that ended in one log.
struct Ended {
    log: usize,
    from: Position,
    times: (Micros, Micros),
    count: u64,
}

/// A piece of a relay log, up to a whole transaction.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The log.
    pub path: PathBuf,
    /// From this byte on.
    pub begin: u64,
    /// Up to this one.
    pub end: u64,
    /// What describes the log before `begin`.
    mark: Mark,
    /// The position before the first transaction that ends in it.
    pub from: Position,
    /// The position after the last one.
    pub to: Position,
    /// The earliest and the latest time of these transactions, if there are any.
    pub times: Option<(Micros, Micros)>,
    /// How many they are.
    pub count: u64,
}

impl Tail {
    /// The relay logs in `dir`, of a receiver that began at `from`.
    pub fn new(dir: PathBuf, from: Position) -> Tail {
        let (whole, taken) = (Place::default(), Place::default());
        let (logs, group, ended) = (Vec::new(), Group::default(), Vec::new());
        Tail { dir, logs, group, at: from, whole, taken, ended, emptied: 0 }
    }

    /// The position after the last whole transaction.
    pub fn at(&self) -> &Position {
        &self.at
    }

    /// Bytes of whole transactions that were read and not handed out.
    pub fn waiting(&self) -> u64 {
        let between = self.logs.get(self.taken.log..=self.whole.log).unwrap_or_default();
        let length = |(n, log): (usize, &Log)| {
            let n = n + self.taken.log;
            let begin = if n == self.taken.log { self.taken.offset } else { 0 };
            let end = if n == self.whole.log { self.whole.offset } else { log.mark.offset };
            end.saturating_sub(begin)
        };
        between.iter().enumerate().map(length).sum()
    }

    /// Reads on. Each transaction that is whole now goes to `take`. True if there was anything.
    ///
    /// # Errors
    /// When a log cannot be read, or holds what no receiver writes.
    pub fn read(&mut self, mut take: impl FnMut(&Transaction)) -> Result<bool> {
        let dir = files::open_dir(&self.dir).doing("open", &self.dir)?;
        let names = logs_in(&dir).doing("read", &self.dir)?;
        for (_, name) in names {
            if !self.logs.iter().any(|log| log.name == name) {
                self.logs.push(Log { name, mark: Mark::default(), torn: None });
            }
        }
        let mut moved = false;
        // Those before the current one were read to their ends.
        for number in self.current()..self.logs.len() {
            let is_last = number + 1 == self.logs.len();
            moved |= self.read_log(number, is_last, &mut take)?;
        }
        Ok(moved)
    }

    fn current(&self) -> usize {
        self.logs.iter().rposition(|log| log.mark.offset > 0).unwrap_or(0)
    }

    fn read_log(
        &mut self,
        number: usize,
        is_last: bool,
        take: &mut impl FnMut(&Transaction),
    ) -> Result<bool> {
        let path = self.dir.join(&self.logs[number].name);
        let mut mark = std::mem::take(&mut self.logs[number].mark);
        let before = mark.offset;
        let mut open = files::open_no_link(&path).doing("read", &path)?;
        open.seek(SeekFrom::Start(before)).doing("read", &path)?;
        let mut group = std::mem::take(&mut self.group);
        let ended = scan_on(number, &mut mark, open, &mut group, &mut |transaction| {
            take(&transaction);
            self.end(&transaction);
            true
        });
        let wrong = |what: String| {
            let source = io::Error::other(what);
            let error = Error::Io { doing: format!("use {}", path.display()), source };
            // Another receiver may write a better one.
            Error::OnSuspectData(Box::new(error))
        };
        let moved = mark.offset > before;
        self.logs[number].mark = mark;
        for torn in group.torn.drain(..) {
            if torn.log == number {
                return Err(wrong("it has a transaction that breaks off within it".into()));
            }
            self.logs[torn.log].torn = Some(torn.offset);
            self.logs[torn.log + 1..number].iter_mut().for_each(|log| log.torn = Some(0));
        }
        self.group = group;
        match ended.doing("read", &path)? {
            End::Torn { why, .. } if is_last && why == CUT_SHORT => {}
            End::Torn { at, why } => return Err(wrong(format!("at byte {at}: {why}"))),
            End::Whole | End::Enough => {}
        }
        Ok(moved)
    }

    fn end(&mut self, transaction: &Transaction) {
        let log = transaction.end.log;
        let time = transaction.time;
        if self.ended.last().is_none_or(|last| last.log != log) {
            let from = self.at.clone();
            self.ended.push(Ended { log, from, times: (time, time), count: 0 });
        }
        self.at.add(&transaction.gtid);
        self.whole = transaction.end;
        if let Some(last) = self.ended.last_mut() {
            last.count += 1;
            last.times = (last.times.0.min(time), last.times.1.max(time));
        }
    }

    /// Hands out all whole transactions that were read since the last time, in order.
    pub fn take(&mut self) -> Vec<Slice> {
        let mut slices = Vec::new();
        if self.ended.is_empty() {
            return slices;
        }
        let mut ended = std::mem::take(&mut self.ended).into_iter().peekable();
        let mut at = ended.peek().map(|first| first.from.clone()).unwrap_or(self.at.clone());
        for number in self.taken.log..=self.whole.log {
            let log = &self.logs[number];
            let begin = if number == self.taken.log { self.taken.offset } else { 0 };
            let is_last = number == self.whole.log;
            let end = if is_last { self.whole.offset } else { log.torn.unwrap_or(log.mark.offset) };
            let from = at.clone();
            let mut count = 0;
            let mut times = None;
            if ended.peek().is_some_and(|ended| ended.log == number) {
                let Ended { times: both, count: all, .. } = ended.next().expect("it was peeked at");
                (times, count) = (Some(both), all);
                at = ended.peek().map_or(self.at.clone(), |next| next.from.clone());
            }
            // What follows the last transaction of a log describes the next one.
            let is_rest = count == 0 && log.mark.head.is_none_or(|head| end <= head);
            if begin < end && !is_rest {
                let path = self.dir.join(&log.name);
                let (mark, to) = (log.mark.clone(), at.clone());
                slices.push(Slice { path, begin, end, mark, from, to, times, count });
            }
        }
        self.taken = self.whole;
        slices
    }
}

impl Tail {
    /// Empties the logs of which all was handed out. Their names stay, since the server has them in its
    /// index.
    ///
    /// # Errors
    /// Those of writing.
    pub fn empty_taken(&mut self) -> Result<()> {
        while self.emptied < self.taken.log {
            let path = self.dir.join(&self.logs[self.emptied].name);
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
            options.open(&path).and_then(|log| log.set_len(0)).doing("write", &path)?;
            self.emptied += 1;
        }
        Ok(())
    }
}

impl Slice {
    /// Writes it to a new file, as a log by itself. Returns its size.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn write(&self, to: &Path) -> Result<u64> {
        write_slice(&self.path, (self.begin, self.end), &self.mark, to)
    }
}

/// Writes a log from the first byte to the second as a log by itself, described as `mark` says. Returns its
/// size.
///
/// # Errors
/// Those of reading and writing.
pub fn write_slice(path: &Path, (begin, end): (u64, u64), mark: &Mark, to: &Path) -> Result<u64> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut out = options.open(to).doing("create", to)?;
    let mut log = files::open_no_link(path).doing("read", path)?;
    let mut size = 0;
    let mut copy = |begin: u64, end: u64| -> Result<()> {
        log.seek(SeekFrom::Start(begin)).doing("read", path)?;
        let copied = io::copy(&mut (&log).take(end - begin), &mut out).doing("write", to)?;
        size += copied;
        if copied < end - begin {
            return Err(Error::io("read", path, io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    };
    if begin > 0 {
        copy(0, mark.head.unwrap_or(begin).min(begin))?;
        if let Some(format) = mark.format.clone().filter(|format| format.end <= begin) {
            copy(format.start, format.end)?;
        }
    }
    copy(begin, end)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::scan::scan;
    use crate::journal::scan::tests::{begin, transaction};
    use crate::mysql::flavor::Flavor;
    use std::fs;
    use std::io::Write as _;

    /// A directory of relay logs that grow.
    struct Logs(PathBuf);

    impl Logs {
        fn new(name: &str) -> (Logs, Tail) {
            let dir = std::env::temp_dir().join(format!("rf-tail-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            let from = Position::parse(Flavor::MariaDb, "0-1-1").unwrap();
            let tail = Tail::new(dir.clone(), from);
            (Logs(dir), tail)
        }

        fn add(&self, number: u32, bytes: &[u8]) {
            let path = self.0.join(format!("relay.{number:06}"));
            let mut log = OpenOptions::new().append(true).create(true).open(path).unwrap();
            log.write_all(bytes).unwrap();
        }

        /// The transactions in these slices, each of which is a log by itself.
        fn all(&self, slices: &[Slice]) -> Vec<String> {
            let (mut group, mut found) = (Group::default(), Vec::new());
            for (number, slice) in slices.iter().enumerate() {
                let to = self.0.join("slice");
                let size = slice.write(&to).unwrap();
                let log = fs::read(&to).unwrap();
                assert_eq!(log.len() as u64, size);
                let end = scan(number, log.as_slice(), &mut group, &mut |t| {
                    found.push(t.gtid.to_string());
                    true
                });
                assert_eq!(end.unwrap(), End::Whole);
                fs::remove_file(to).unwrap();
            }
            assert!(slices.windows(2).all(|two| two[0].to == two[1].from));
            found
        }
    }

    impl Drop for Logs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_grows_is_handed_out_whole_and_once() {
        let (logs, mut tail) = Logs::new("grows");
        let all = [begin(), transaction(0, 2, 10), transaction(5, 1, 10), transaction(0, 3, 9)];
        let mut found = Vec::new();
        // Whatever piece of it is there at a look.
        for (at, byte) in all.concat().into_iter().enumerate() {
            logs.add(1, &[byte]);
            if at % 7 == 0 {
                tail.read(|_| {}).unwrap();
                let slices = tail.take();
                assert!(slices.iter().all(|slice| slice.count == 1));
                found.extend(logs.all(&slices));
            }
        }
        tail.read(|_| {}).unwrap();
        assert!(tail.waiting() > 0 || found.len() == 3);
        found.extend(logs.all(&tail.take()));
        assert_eq!(found, ["0-1-2", "5-1-1", "0-1-3"]);
        assert_eq!((tail.at().to_string().as_str(), tail.waiting()), ("0-1-3,5-1-1", 0));
        assert!(tail.take().is_empty());
    }

    #[test]
    fn a_transaction_may_go_on_in_the_next_log() {
        let (logs, mut tail) = Logs::new("goes-on");
        let [two, three] = [2, 3].map(|n| transaction(0, n, 10));
        // It breaks off after its first event.
        let (first, rest) = three.split_at(19 + 19 + 4);
        logs.add(1, &[begin(), two, first.to_vec()].concat());
        tail.read(|_| {}).unwrap();
        assert_eq!(logs.all(&tail.take()), ["0-1-2"]);
        logs.add(2, &[begin(), rest.to_vec(), transaction(0, 4, 10)].concat());
        tail.read(|_| {}).unwrap();
        let slices = tail.take();
        assert_eq!(logs.all(&slices), ["0-1-3", "0-1-4"]);
        tail.empty_taken().unwrap();
        assert_eq!(fs::metadata(logs.0.join("relay.000001")).unwrap().len(), 0);
        // Nothing of it is missed afterwards.
        logs.add(2, &transaction(0, 5, 10));
        tail.read(|_| {}).unwrap();
        assert_eq!(logs.all(&tail.take()), ["0-1-5"]);
    }

    #[test]
    fn a_piece_that_comes_again_is_left_out() {
        let (logs, mut tail) = Logs::new("again");
        let [two, three] = [2, 3].map(|n| transaction(0, n, 10));
        logs.add(1, &[begin(), two, three[..42].to_vec()].concat());
        tail.read(|_| {}).unwrap();
        logs.add(2, &[begin(), three].concat());
        tail.read(|_| {}).unwrap();
        assert_eq!(logs.all(&tail.take()), ["0-1-2", "0-1-3"]);
    }

    #[test]
    fn damage_in_the_middle_is_an_error() {
        let (logs, mut tail) = Logs::new("damage");
        let mut log = [begin(), transaction(0, 2, 10)].concat();
        let at = log.len() - 3;
        log[at] ^= 1;
        logs.add(1, &log);
        assert!(tail.read(|_| {}).unwrap_err().is_temporary());
    }
}

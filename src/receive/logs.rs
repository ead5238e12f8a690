//! The primary's logs as a receiver meets them: whether what arrives goes on from what there is. See
//! `replication/received.rs`.

use crate::error::{Error, Result};
use crate::journal::head::Head;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::receive::receiver::Receiver;
use crate::replication::primary::{Facts, Primary};
use crate::replication::received::{
    Newest, check_lost, check_replaced, check_reset, log_of, made_later,
};
use crate::supervisor::main_loop::Supervisor;

/// What is known of them.
#[derive(Default)]
pub struct Logs {
    /// The newest backup.
    newest: Option<Newest>,
    /// A position, and the log that led there: of the newest backup, or when one was checked last.
    there: Option<(Position, PrimaryLog)>,
    /// A position that was received, nothing of it from a later log than this one.
    led: Option<(Position, PrimaryLog)>,
    /// The head that was checked last, and what its log had before the first transaction that this receiver
    /// was sent.
    checked: Option<Head>,
    start: Option<Position>,
    failed: bool,
}

impl Logs {
    /// A receiver begins, after the newest backup.
    pub fn begin(&mut self, newest: &Newest) {
        let of_backup = newest.log.clone().map(|log| (newest.position.clone(), log));
        let there = self.there.take().or(of_backup);
        *self = Logs {
            newest: Some(newest.clone()),
            there,
            led: newest.led.clone(),
            ..Logs::default()
        };
    }

    /// The log that has led to this position, if that was checked.
    pub fn that_led_to(&self, position: &Position) -> Option<&PrimaryLog> {
        self.led.as_ref().filter(|(to, _)| to == position).map(|(_, log)| log)
    }

    /// True if all that `receiver` has may be kept. The primary may be gone for good: what has arrived since
    /// the last check counts unless the logs themselves show that they begin anew.
    pub fn may_be_kept(&self, receiver: &Receiver) -> bool {
        let head = receiver.head().filter(|head| self.checked.as_ref() != Some(head));
        let facts = receiver.facts();
        let is_sound = |head: &Head| {
            let later = self.newest.as_ref().and_then(|newest| made_later(facts, head, newest));
            let begins_anew = later.is_some() || self.before(facts, head).is_some();
            !begins_anew && !self.may_have_a_gap(receiver, head)
        };
        !self.failed && head.is_none_or(is_sound)
    }

    /// True if the first that arrived may not be what follows, and nobody has said yet that it is.
    fn may_have_a_gap(&self, receiver: &Receiver, head: &Head) -> bool {
        let (from, firsts) = receiver.firsts();
        let gap = |first| receiver.facts().gap(from, &head.file, first);
        self.start.is_none() && firsts.values().find_map(gap).is_some()
    }

    /// The position with which the log of `head` has to begin, since it comes before what was there.
    fn before(&self, facts: &Facts, head: &Head) -> Option<(PrimaryLog, Position)> {
        let (base, earlier) = self.there.as_ref()?;
        let now = log_of(facts, head).filter(|now| now.begins_anew(earlier))?;
        (!facts.may_have_received(base)).then(|| (now, base.clone()))
    }

    /// True if `receiver` has come to another log than the one that was checked last.
    pub fn are_others(&self, receiver: &Receiver) -> bool {
        receiver.head().is_some_and(|head| self.checked.as_ref() != Some(head))
    }

    /// True if the last check has failed.
    pub fn have_failed(&self) -> bool {
        self.failed
    }

    /// Checks what has arrived since the last time.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the primary was reset, [`Error::Purged`] if it did not send all; an error
    /// after which another connection tells.
    pub fn check(
        &mut self,
        primary: &Primary,
        supervisor: &mut Supervisor,
        receiver: &mut Receiver,
    ) -> Result<()> {
        let checked = self.check_all(primary, supervisor, receiver);
        self.failed = checked.is_err();
        checked
    }

    fn check_all(
        &mut self,
        primary: &Primary,
        supervisor: &mut Supervisor,
        receiver: &mut Receiver,
    ) -> Result<()> {
        if let Some(head) = receiver.head().cloned()
            && self.checked.as_ref() != Some(&head)
        {
            self.check_head(primary, supervisor, receiver, &head)?;
            self.checked = Some(head);
        }
        let log = self.checked.as_ref().and_then(|head| log_of(receiver.facts(), head));
        self.led = log.map(|log| (receiver.tail.at().clone(), log)).or(self.led.take());
        let (Some(start), Some(head)) = (&self.start, &self.checked) else { return Ok(()) };
        let (from, firsts) = receiver.firsts();
        let beyond = from.domains_beyond(start);
        let mut firsts = beyond.iter().filter_map(|domain| firsts.get(domain));
        let gap = firsts.find_map(|first| receiver.facts().gap(from, &head.file, first));
        gap.map_or(Ok(()), Err)
    }

    fn check_head(
        &mut self,
        primary: &Primary,
        supervisor: &mut Supervisor,
        receiver: &mut Receiver,
        head: &Head,
    ) -> Result<()> {
        let facts = receiver.facts().clone();
        // By a name that means another server now: the next connection is asked for.
        if head.server != facts.server_id {
            return Ok(());
        }
        let mut ask_of = |file: &str, offset: Option<u32>| {
            let (facts, file) = (facts.clone(), file.to_string());
            let ask = move |primary: &Primary| match offset {
                Some(offset) => primary.log_position(&facts, &file, offset),
                None => primary.log_start(&facts, &file),
            };
            primary.question(supervisor, receiver, ask)
        };
        if let (Some((led, then)), Some(now)) = (&self.led, log_of(&facts, head))
            && let Some(next) = then.next_before(&now)
            && let Some(start) = unless_gone(ask_of(&next, None))?
        {
            check_lost(&facts, &next, &start, led)?;
        }
        let mut ask = |offset| ask_of(&head.file, offset);
        if let Some((now, base)) = self.before(&facts, head) {
            // If it does not say now, it is asked again.
            let Some(start) = ask(None)? else { return Ok(()) };
            check_reset(&facts, &now, &start, &base)?;
        }
        if let (Some(later), Some(begin)) =
            (self.newest.as_ref().and_then(|newest| made_later(&facts, head, newest)), head.begin)
            && let Some(start) = unless_gone(ask(None))?
            && let Some(sent) = unless_gone(ask(Some(begin)))?
        {
            check_replaced(&facts, &later, &start, &sent)?;
        }
        let is_first = self.checked.as_ref().is_none_or(|checked| checked.begin.is_none());
        let is_same = |checked: &Head| (&checked.file, checked.made) == (&head.file, head.made);
        let is_another = !is_first && !self.checked.as_ref().is_some_and(is_same);
        // MySQL tells of itself what it lacks, and a primary that is gone tells nothing.
        let start = match facts.flavor {
            Flavor::MariaDb if is_first && head.begin.is_some() => unless_gone(ask(head.begin))?,
            Flavor::MariaDb if is_another => unless_gone(ask(None))?,
            _ => None,
        };
        let (at, log) = (receiver.tail.at(), log_of(&facts, head));
        if is_first {
            self.start = start;
        } else if let Some(start) = start
            && !at.domains_beyond(&start).is_empty()
        {
            // Where it went on is known exactly of a first one only.
            let text = "its binary log begins anew".into();
            let primary = facts.address.to_string();
            return Err(Error::PrimaryUnreachable { primary, text });
        }
        if let Some(log) = log {
            self.there = Some((at.clone(), log));
        }
        Ok(())
    }
}

/// The answer; none of a primary that cannot be asked.
fn unless_gone(answer: Result<Option<Position>>) -> Result<Option<Position>> {
    match answer {
        Err(e) if e.blames_primary() => Ok(None),
        answer => answer,
    }
}

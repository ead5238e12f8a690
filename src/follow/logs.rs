//! The primary's logs as a follower meets them: whether what arrives goes on from what it has. See
//! `replication/received.rs`.

use crate::error::{Error, Result};
use crate::journal::head::Head;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::pass::plan::Plan;
use crate::receive::receiver::Receiver;
use crate::replication::primary::Primary;
use crate::replication::received::{check_reset, log_of};
use crate::repository::journals::redundant::Stored;
use crate::supervisor::main_loop::Supervisor;

/// What is known of them.
#[derive(Default)]
pub(super) struct Logs {
    /// A position, and the log that led there: of the newest backup, or when one was checked last.
    there: Option<(Position, PrimaryLog)>,
    /// The head that was checked last, and what its log had before the first transaction that this receiver
    /// was sent.
    checked: Option<Head>,
    start: Option<Position>,
    failed: bool,
}

impl Logs {
    /// A receiver begins, and `newest` is the newest backup.
    pub(super) fn begin(&mut self, newest: &Stored) {
        let of_backup = newest.primary_log.clone().map(|log| (newest.position.clone(), log));
        let there = self.there.take().or(of_backup);
        *self = Logs { there, ..Logs::default() };
    }

    /// True if all that `receiver` has may be kept.
    pub(super) fn are_checked(&self, receiver: &Receiver) -> bool {
        !self.failed && self.checked.as_ref() == receiver.head()
    }

    /// True if the last check has failed.
    pub(super) fn have_failed(&self) -> bool {
        self.failed
    }

    /// Checks what has arrived since the last time.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the primary was reset, [`Error::Purged`] if it did not send all; an error
    /// after which another connection tells.
    pub(super) fn check(
        &mut self,
        plan: &Plan,
        supervisor: &mut Supervisor,
        receiver: &mut Receiver,
    ) -> Result<()> {
        let checked = self.check_all(plan, supervisor, receiver);
        self.failed = checked.is_err();
        checked
    }

    fn check_all(
        &mut self,
        plan: &Plan,
        supervisor: &mut Supervisor,
        receiver: &mut Receiver,
    ) -> Result<()> {
        if let Some(head) = receiver.head().cloned()
            && self.checked.as_ref() != Some(&head)
        {
            self.check_head(plan, supervisor, receiver, &head)?;
            self.checked = Some(head);
        }
        let (Some(start), Some(head)) = (&self.start, &self.checked) else { return Ok(()) };
        let (from, firsts) = receiver.firsts();
        let beyond = from.domains_beyond(start);
        let mut firsts = beyond.iter().filter_map(|domain| firsts.get(domain));
        let gap = firsts.find_map(|first| receiver.facts().gap(from, &head.file, first));
        gap.map_or(Ok(()), Err)
    }

    fn check_head(
        &mut self,
        plan: &Plan,
        supervisor: &mut Supervisor,
        receiver: &mut Receiver,
        head: &Head,
    ) -> Result<()> {
        let (facts, file) = (receiver.facts().clone(), head.file.clone());
        // By a name that means another server now: the next connection is asked for.
        if head.server != facts.server_id {
            return Ok(());
        }
        let ask = {
            let facts = facts.clone();
            move |primary: &Primary| primary.log_start(&facts, &file)
        };
        let start = plan.primary.question(supervisor, receiver, ask)?;
        let is_first = self.checked.as_ref().is_none_or(|checked| checked.begin.is_none());
        if let Some(begin) = head.begin.filter(|_| is_first) {
            let (facts, file) = (facts.clone(), head.file.clone());
            let ask = move |primary: &Primary| primary.log_position(&facts, &file, begin);
            self.start = plan.primary.question(supervisor, receiver, ask)?;
        }
        let at = receiver.tail.at();
        let log = log_of(&facts, head);
        if let (Some(now), Some((base, earlier)), Some(start)) = (&log, &self.there, &start)
            && now.begins_anew(earlier)
            && !facts.may_have_received(base)
        {
            check_reset(&facts, now, start, base)?;
        }
        let is_same = |checked: &Head| (&checked.file, checked.made) == (&head.file, head.made);
        let is_another = !is_first && !self.checked.as_ref().is_some_and(is_same);
        if let Some(start) = start.as_ref().filter(|_| is_another)
            && !at.domains_beyond(start).is_empty()
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

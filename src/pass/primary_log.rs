//! From which log of the primary a pass has its transactions, and whether they go on from the base.

use crate::error::Result;
use crate::journal::join::Part;
use crate::mysql::flavor::Flavor;
use crate::mysql::position::Position;
use crate::mysql::primary_log::PrimaryLog;
use crate::pass::attempts::Attempts;
use crate::replication::primary::{Facts, Primary};
use crate::replication::received::{
    Newest, Received, check_lost, check_replaced, check_reset, head_of, log_of, logs, made_later,
};

impl Attempts<'_> {
    /// Judges the relay logs that a catch-up from the position `from` has left, and keeps on record with
    /// which log of the primary of `facts` they begin.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the primary was reset, [`Error::Purged`] if it did not send all.
    ///
    /// [`Error::Diverged`]: crate::error::Error::Diverged
    /// [`Error::Purged`]: crate::error::Error::Purged
    pub(crate) fn check_primary_log(&mut self, facts: &Facts, from: &Position) -> Result<()> {
        // MySQL tells of itself what it lacks.
        if facts.flavor == Flavor::MariaDb {
            // Also what an earlier receiver got, before a kill.
            for segment in self.log_keeper().segments(facts.flavor).unwrap_or_default() {
                if let Some(received) = Received::in_logs(facts, &segment.logs) {
                    self.check_gap(facts, &segment.from, &received)?;
                }
            }
        }
        let received = Received::in_logs(facts, &logs(&self.scratch.data()));
        let Some(received) = received else { return Ok(()) };
        if facts.flavor == Flavor::MariaDb {
            self.check_gap(facts, from, &received)?;
        }
        let Some(now) = received.primary_log(facts) else { return Ok(()) };
        self.check_replaced(facts, &received)?;
        self.check_lost(facts, &now)?;
        if let Some(base) = self.bases.current()
            && let Some(log) = received.begins_anew(facts, base.primary_log())
            && !facts.may_have_received(&base.position)
        {
            let base = base.position.clone();
            // If it does not say now, it is asked again next time.
            let Some(start) = self.log_position(facts, &log.file, None)? else { return Ok(()) };
            check_reset(facts, &log, &start, &base)?;
        }
        self.primary_log = Some(now);
        Ok(())
    }

    /// Whether another machine has taken the place of the primary of the base, with earlier data.
    fn check_replaced(&mut self, facts: &Facts, received: &Received) -> Result<()> {
        let Some(base) = self.bases.current() else { return Ok(()) };
        let (position, log, as_of) =
            (base.position.clone(), base.primary_log(), base.manifest.as_of);
        let first = received.first();
        let newest = Newest { position, log, as_of, led: None };
        let Some(later) = made_later(facts, first, &newest) else { return Ok(()) };
        let Some(begin) = first.begin else { return Ok(()) };
        let start = self.log_position(facts, &first.file, None)?;
        let sent = self.log_position(facts, &first.file, Some(begin))?;
        start.zip(sent).map_or(Ok(()), |(start, sent)| check_replaced(facts, &later, &start, &sent))
    }

    /// Whether a crash took from the primary the end of the log that led to the base: the log after that
    /// would begin with it.
    fn check_lost(&mut self, facts: &Facts, now: &PrimaryLog) -> Result<()> {
        let Some(base) = self.bases.current() else { return Ok(()) };
        let position = base.position.clone();
        let last = base.manifest.last_log.as_ref();
        let Some(next) = last.and_then(|last| last.next_before(now)) else { return Ok(()) };
        let start = self.log_position(facts, &next, None)?;
        start.map_or(Ok(()), |start| check_lost(facts, &next, &start, &position))
    }

    /// The log of the primary that the last part of a journal is from; that of the base, where there is none.
    pub(super) fn log_that_led(&self, last: Option<&Part>) -> Option<PrimaryLog> {
        let Some(last) = last else { return self.bases.current()?.manifest.last_log.clone() };
        log_of(self.facts.as_ref()?, &head_of(&last.path)?)
    }

    fn check_gap(&mut self, facts: &Facts, from: &Position, received: &Received) -> Result<()> {
        let Some(begin) = received.first().begin else { return Ok(()) };
        match self.log_position(facts, &received.first().file, Some(begin))? {
            Some(start) => received.check_gap(facts, from, &start),
            None => Ok(()),
        }
    }

    /// At the beginning of a log, or at an offset in it.
    fn log_position(
        &mut self,
        facts: &Facts,
        file: &str,
        offset: Option<u32>,
    ) -> Result<Option<Position>> {
        let (facts, file) = (facts.clone(), file.to_string());
        let ask = move |primary: &Primary| match offset {
            Some(offset) => primary.log_position(&facts, &file, offset),
            None => primary.log_start(&facts, &file),
        };
        match self.ask_aside(ask) {
            // It was there until the goal was reached, which is enough for a pass.
            Err(e) if e.blames_primary() => {
                log::debug!("{}: {e}", e.cause());
                Ok(None)
            }
            answer => answer,
        }
    }
}

//! Questions to both servers, each on a thread of its own beside the loop.

use crate::compare::definitions::SAME;
use crate::error::Result;
use crate::mysql::position::Position;
use crate::mysql::session::Session;
use crate::mysql::trouble::Trouble;
use crate::replication::primary::{Facts, Primary, refused};
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::Supervisor;

use std::time::Duration;

/// Asks the primary of `facts`, while `mysqld` is watched. Each query may take as long as a list of all
/// tables may.
///
/// # Errors
/// As [`Primary::question`]; those of the session as [`refused`] has them.
pub fn ask_primary<T: Send + 'static>(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    (primary, facts): (&Primary, &Facts),
    question: impl FnOnce(&mut Session) -> Result<T, Trouble> + Send + 'static,
) -> Result<T> {
    let facts = facts.clone();
    primary.question(supervisor, mysqld, move |primary| {
        let mut session = primary.open(&facts)?;
        session.set_timeout(primary.listing);
        let answer = session.run(SAME).and_then(|()| question(&mut session));
        answer.map_err(|t| refused(&facts.address, t))
    })
}

/// Asks the private server, on its session for long statements. What the server itself refuses is the
/// inner error, and the session stays usable.
///
/// # Errors
/// A stop, or what became of the server.
pub fn ask_private<T: Send + 'static>(
    supervisor: &mut Supervisor,
    mysqld: &mut Mysqld,
    question: impl FnOnce(&mut Session) -> Result<T, Trouble> + Send + 'static,
) -> Result<Result<T, Trouble>> {
    let mut session = mysqld.lend()?;
    // It is watched, and pinged: this one may take its time.
    session.set_timeout(Duration::ZERO);
    let asked = supervisor.aside(mysqld, move || {
        let answer = session.run(SAME).and_then(|()| question(&mut session));
        Ok((session, answer))
    })?;
    let lost = || mysqld.lost("answer to a comparison", Trouble::Lost(String::new()));
    let (session, answer) = asked.ok_or_else(lost)?;
    match answer {
        Ok(answer) => {
            mysqld.give_back(session);
            Ok(Ok(answer))
        }
        Err(refused @ Trouble::Server { .. }) => {
            mysqld.give_back(session);
            Ok(Err(refused))
        }
        Err(trouble) => Err(mysqld.lost("answer to a comparison", trouble)),
    }
}

/// The position of a primary, as it is now.
///
/// # Errors
/// Those of the session; a position that cannot be read is a lost session.
pub fn position(session: &mut Session, facts: &Facts) -> Result<Position, Trouble> {
    use crate::mysql::flavor::Flavor;
    let sql = match facts.flavor {
        Flavor::MariaDb => "SELECT @@global.gtid_binlog_pos",
        Flavor::MySql => "SELECT @@global.gtid_executed",
    };
    Position::parse(facts.flavor, session.query(sql)?.first()).map_err(Trouble::Lost)
}

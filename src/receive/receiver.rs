//! An empty private server that receives from the primary what follows a position, and applies nothing.
//!
//! Its relay logs are all that is wanted of it. So it holds no data, needs little memory, and is begun
//! anew wherever it has failed: from the position up to which its relay logs are needed no more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::journal::group::Transaction;
use crate::journal::head::Head;
use crate::journal::tail::Tail;
use crate::mysql::account::Account;
use crate::mysql::gtid::Gtid;
use crate::mysql::position::Position;
use crate::os::process::Activity;
use crate::os::random::random_server_id;
use crate::replication::catch_up;
use crate::replication::connection::Connection;
use crate::replication::kept_logs::NoLogs;
use crate::replication::primary::Facts;
use crate::replication::received;
use crate::replication::replica::{self, ReplicaStatus};
use crate::report::keys::Key;
use crate::scratch::working_directory::{Scratch, Stage};
use crate::server::initialize::install;
use crate::server::lifecycle::{Patience, explain, wait_until_ready};
use crate::server::mysqld::Mysqld;
use crate::server::setup::{RelayLogs, Setup};
use crate::supervisor::main_loop::Supervisor;
use crate::supervisor::watched::Watched;

/// What keeps it small: it has neither data nor sessions but ours. A log is begun every 64 MiB, so that
/// what is needed no more can go.
const SMALL: [&str; 7] = [
    "--innodb-buffer-pool-size=16M",
    "--key-buffer-size=64K",
    "--loose-aria-pagecache-buffer-size=1M",
    "--max-connections=10",
    "--table-open-cache=64",
    "--loose-temptable-max-ram=2M",
    "--max-relay-log-size=64M",
];

/// How a receiver is run.
pub struct Means<'a> {
    /// The server program.
    pub program: PathBuf,
    /// `--mysqld-option`s.
    pub options: &'a [String],
    /// `--ping-timeout`.
    pub ping_timeout: Duration,
    /// The time-outs of the server.
    pub patience: Patience,
    /// The account on the primary.
    pub account: Account,
}

/// A receiver at work.
pub struct Receiver {
    mysqld: Mysqld,
    facts: Facts,
    connection: Connection,
    from: Position,
    data: PathBuf,
    /// How many of the received logs have been looked at, and with what the last one of them begins.
    looked_at: usize,
    head: Option<Head>,
    /// The first transaction of each of MariaDB's domains.
    first: BTreeMap<u32, Gtid>,
    /// What it has received.
    pub tail: Tail,
}

impl Receiver {
    /// Starts one in `scratch`, which receives from the primary of `facts` what follows `from`. The empty
    /// server is made there first, unless an earlier one has left it.
    ///
    /// # Errors
    /// Those of the server.
    pub fn start(
        supervisor: &mut Supervisor,
        scratch: &mut Scratch,
        means: &Means<'_>,
        facts: &Facts,
        from: &Position,
    ) -> Result<Receiver> {
        let setup = setup(scratch, means, facts);
        if !scratch.is_ready() {
            scratch.discard(supervisor)?;
            scratch.make_data()?;
            install(supervisor, &setup, means.patience.start)?;
            scratch.set_stage(Stage::Ready, None)?;
        }
        let mysqld = begin(supervisor, scratch, means, facts, from, &setup);
        if matches!(mysqld, Err(Error::MysqldStart { .. } | Error::MysqldDied { .. })) {
            // It holds nothing that another one would not.
            scratch.set_stage(Stage::Partial, None)?;
        }
        let mysqld = mysqld?;
        let data = setup.data();
        let tail = Tail::new(data.clone(), from.clone());
        let (facts, from, connection) = (facts.clone(), from.clone(), Connection::default());
        Ok(Receiver {
            mysqld,
            facts,
            connection,
            from,
            data,
            looked_at: 0,
            head: None,
            first: BTreeMap::new(),
            tail,
        })
    }

    /// Reads on in what it has received. Each transaction that is whole now goes to `take`. True if there
    /// was anything.
    ///
    /// # Errors
    /// Those of reading; that of replication, and a connection that is gone for too long.
    pub fn look(&mut self, mut take: impl FnMut(&Transaction)) -> Result<bool> {
        // Before the logs: what came before it failed counts.
        let status = ReplicaStatus::read(&mut self.mysqld, self.facts.flavor)?;
        let first = &mut self.first;
        let moved = self.tail.read(|transaction| {
            if let Gtid::MariaDb(gtid) = &transaction.gtid {
                first.entry(gtid.domain).or_insert_with(|| transaction.gtid.clone());
            }
            take(transaction);
        })?;
        self.look_at_heads();
        if let Some(failure) = status.receiver_failure(&self.facts, self.tail.at()) {
            return Err(failure);
        }
        self.connection.check(&status, status.has_connected(), &self.facts)?;
        Ok(moved)
    }

    /// Each connection begins another relay log, and the server connects by itself.
    fn look_at_heads(&mut self) {
        let logs = received::logs(&self.data);
        while let Some(log) = logs.get(self.looked_at) {
            let head = received::head_of(log);
            let is_whole = head.as_ref().is_some_and(|head| head.begin.is_some());
            self.head = head.or(self.head.take());
            // There may be more of it the next time.
            if !is_whole && self.looked_at + 1 == logs.len() {
                break;
            }
            self.looked_at += 1;
        }
    }

    /// What `error` really means.
    pub fn explain(
        &mut self,
        supervisor: &mut Supervisor,
        error: Error,
        patience: Duration,
    ) -> Error {
        explain(supervisor, &mut self.mysqld, error, patience)
    }

    /// The log of the primary with which the last connection or the last log begins, once that can be told.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The position at which it began, and the first transaction that it got in each of MariaDB's domains.
    pub fn firsts(&self) -> (&Position, &BTreeMap<u32, Gtid>) {
        (&self.from, &self.first)
    }

    /// The primary that it receives from.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Ends it. Its logs stay.
    pub fn end(mut self, scratch: &mut Scratch) -> Result<Tail> {
        self.mysqld.kill();
        scratch.set_clean()?;
        Ok(self.tail)
    }
}

impl Watched for Receiver {
    fn ended(&mut self) -> Option<Error> {
        self.mysqld.ended()
    }

    fn ping(&mut self) -> Result<()> {
        self.mysqld.ping()
    }

    fn activity(&self) -> Option<Activity> {
        self.mysqld.activity()
    }

    fn maintain(&mut self) -> Result<()> {
        self.mysqld.maintain()
    }
}

/// Starts the server, and replication from `from` on.
fn begin(
    supervisor: &mut Supervisor,
    scratch: &mut Scratch,
    means: &Means<'_>,
    facts: &Facts,
    from: &Position,
    setup: &Setup,
) -> Result<Mysqld> {
    let flavor = facts.flavor;
    let mut mysqld = Mysqld::spawn(setup, false)?;
    scratch.set_running(&mysqld, false)?;
    supervisor.checkpoint.set(Key::Socket, setup.socket().display());
    wait_until_ready(supervisor, &mut mysqld, means.patience.start)?;
    let begun = catch_up::prepare(&mut mysqld, flavor, None).and_then(|(version, _)| {
        log::debug!("started a receiver {version} (pid {})", mysqld.pid());
        replica::forget(&mut mysqld, flavor, &NoLogs)?;
        // A domain that the primary has deleted from its log would be asked for in vain.
        let rest = facts.without_deleted_domains(from);
        replica::set_position(&mut mysqld, rest.as_ref().unwrap_or(from))?;
        replica::start(&mut mysqld, facts, &means.account, None, &NoLogs)
    });
    match begun {
        Ok(()) => Ok(mysqld),
        Err(e) => Err(explain(supervisor, &mut mysqld, e, means.patience.shutdown)),
    }
}

fn setup(scratch: &Scratch, means: &Means<'_>, facts: &Facts) -> Setup {
    let small = SMALL.iter().map(|option| (*option).to_string());
    Setup {
        program: means.program.clone(),
        flavor: facts.flavor,
        scratch: scratch.root().to_path_buf(),
        user: scratch.user(),
        options: small.chain(means.options.iter().cloned()).collect(),
        // Nothing is applied, and so nothing depends on the primary's.
        settings: Vec::new(),
        zone: None,
        server_id: random_server_id(facts.server_id),
        call_timeout: means.ping_timeout,
        needs_grant_tables: false,
        relay_logs: RelayLogs::Stay,
        data_size: Some(0),
    }
}

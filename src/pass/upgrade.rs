//! The upgrade of restored data to a newer series of its server, with `--allow-upgrade`.
//!
//! The server of a backup was shut down cleanly, so a newer one may start on its data. MySQL then
//! upgrades by itself, MariaDB needs its `mariadb-upgrade`. A slow shutdown follows, so that
//! nothing of the old format remains to be merged or purged. Then the pass continues as usual.
//! Partly upgraded data is never resumed, and the backup is not touched.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::mysql::flavor::Flavor;
use crate::mysql::version::Version;
use crate::os::process::{Activity, Child, Exit};
use crate::pass::attempts::Attempts;
use crate::pass::in_hand::{Data, InHand};
use crate::replication::primary::Facts;
use crate::report::keys::{Key, Phase};
use crate::scratch::working_directory::Stage;
use crate::server::lifecycle::{Patience, explain, shut_down, wait_until_ready};
use crate::server::mysqld::Mysqld;
use crate::server::setup::Setup;
use crate::server::tools::{client, complaint, output, spawn, tool};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Watched;
use crate::text::short;

/// The program that upgrades the system tables of MariaDB.
const TOOL: &str = "mariadb-upgrade";

impl Attempts<'_> {
    /// The versions of the base and of the private server, if the server is of a newer series.
    pub fn upgrade(&self) -> Option<(Version, Version)> {
        let base = &self.bases.current()?.manifest.header.version;
        newer_than(self.program_version.as_ref()?, base)
    }

    /// Fails if an upgrade is to be made and its program is missing.
    pub(crate) fn check_upgrade(&self, flavor: Flavor) -> Result<()> {
        match flavor {
            Flavor::MariaDb if self.upgrade().is_some() => {
                tool(&self.plan.server.program, TOOL).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Discards resumed data that belongs to another series of the server.
    pub(crate) fn check_series(&mut self) -> Result<()> {
        let base = self.bases.current().map(|base| base.manifest.header.version.as_str());
        let fits = self
            .program_version
            .as_ref()
            .is_none_or(|ours| is_of_series(ours, self.scratch.upgraded(), base));
        if self.hand.is_suspect() && !fits {
            self.discard("it belongs to another series of the server")?;
        }
        Ok(())
    }

    /// Upgrades data that was just restored, if it is of an older series.
    pub(crate) fn upgrade_data(&mut self, facts: &Facts) -> Result<()> {
        let Some((from, to)) = self.upgrade().filter(|_| self.scratch.upgraded().is_none()) else {
            return Ok(());
        };
        let name = self.bases.current().map(|b| b.name.clone());
        let shown = name.clone().unwrap_or_default();
        log::info!(
            "upgrading the data of {shown} from {from} to {to}; the backup itself is unchanged"
        );
        let began = Instant::now();
        self.supervisor.checkpoint.phase(Phase::Start);
        self.hand = InHand::Nothing;
        self.scratch.set_stage(Stage::Partial, name.as_deref())?;
        let mut setup = self.setup(facts.flavor, self.settings(facts)?, facts.server_id);
        // The tool opens sessions of its own, and loads the grant tables at the end.
        setup.needs_grant_tables = false;
        let done = self.upgrade_with(&setup);
        self.supervisor.checkpoint.forget_mysqld();
        if let Err(e) = done {
            if !matches!(e, Error::Interrupted { .. }) {
                log::warn!("{}: the upgrade of {shown} from {from} to {to} failed", e.cause());
            }
            return Err(e);
        }
        self.scratch.set_clean()?;
        self.scratch.set_stage(Stage::Ready, name.as_deref())?;
        self.scratch.set_upgraded(to.text())?;
        self.hand = InHand::Data(Data::fresh());
        log::info!("upgraded the data of {shown} to {to} in {}", short(began.elapsed()));
        Ok(())
    }

    fn upgrade_with(&mut self, setup: &Setup) -> Result<()> {
        let patience = self.plan.patience;
        self.forget_replication()?;
        let mut mysqld = Mysqld::spawn(setup, false)?;
        self.scratch.set_running(&mysqld, false)?;
        self.supervisor.checkpoint.set(Key::Socket, setup.socket().display());
        wait_until_ready(self.supervisor, &mut mysqld, patience.start)?;
        if setup.flavor == Flavor::MariaDb {
            run_tool(self.supervisor, setup, &mut mysqld, patience)?;
        }
        mysqld
            .run("SET GLOBAL innodb_fast_shutdown = 0")
            .map_err(|e| explain(self.supervisor, &mut mysqld, e, patience.shutdown))?;
        shut_down(self.supervisor, &mut mysqld, patience.shutdown).map(drop)
    }
}

/// The versions of `data` and server, if the server, `ours`, is of a newer series.
fn newer_than(ours: &Version, data: &str) -> Option<(Version, Version)> {
    let data = Version::parse(data)?;
    ours.is_newer_than(&data).then(|| (data, ours.clone()))
}

/// True if a server of version `ours` can resume the data: `upgraded` data must be of its series,
/// other data a `base` of its series, unless the version of that cannot be parsed.
fn is_of_series(ours: &Version, upgraded: Option<&str>, base: Option<&str>) -> bool {
    let is = |version: &str| Version::parse(version).map(|v| v.is_of_series(ours));
    match (upgraded, base) {
        (Some(version), _) => is(version).unwrap_or(false),
        (None, Some(base)) => is(base).unwrap_or(true),
        (None, None) => true,
    }
}

/// Runs the tool until it exits, which may take hours while there are signs of life.
fn run_tool(
    supervisor: &mut Supervisor,
    setup: &Setup,
    mysqld: &mut Mysqld,
    patience: Patience,
) -> Result<()> {
    let mut command = client(setup, TOOL)?;
    command
        .args(["--no-defaults", "--protocol=socket", "--host=localhost", "--socket=mysqld.sock"])
        .args(["--user=root", "--force"])
        // The private server has no TLS.
        .args(["--skip-write-binlog", "--skip-ssl", "--tmpdir=tmp"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // It creates a file in the data directory.
    let errors = setup.scratch.join("load.err");
    command.stderr(output(&errors)?);
    let tool = spawn(&mut command)?;
    let wait = Wait { every: Duration::from_millis(200), patience: Some(patience.start) };
    let ended = supervisor.wait_for(&mut Upgrading { tool, mysqld }, wait, |both, _| {
        Ok(both.tool.try_wait().map_or(Look::Still, Look::Done))
    });
    match ended.map_err(|e| explain(supervisor, mysqld, e, patience.shutdown))? {
        Some(Exit::Status(0)) => Ok(()),
        Some(exit) => Err(Error::MysqldStart {
            how: format!("{TOOL} failed: {exit}"),
            log: complaint(&errors),
        }),
        None => {
            Err(Error::MysqldHung { what: format!("end of {TOOL}"), after: Some(patience.start) })
        }
    }
}

/// The tool and the server that it upgrades.
struct Upgrading<'a> {
    tool: Child,
    mysqld: &'a mut Mysqld,
}

impl Watched for Upgrading<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn only_a_newer_series_upgrades() {
        let newer = |ours, data| newer_than(&version(ours), data).is_some();
        assert!(newer("11.8.3-MariaDB", "10.11.14-MariaDB"));
        assert!(!newer("10.11.19-MariaDB", "10.11.14-MariaDB"));
        assert!(!newer("10.11.19-MariaDB", "11.8.3-MariaDB"));
        assert!(!newer("9.7.4", "unknown"));
    }

    #[test]
    fn resumed_data_is_of_the_series_of_its_server() {
        let ours = version("11.8.3-MariaDB");
        assert!(is_of_series(&ours, Some("11.8.1-MariaDB"), Some("10.11.14-MariaDB")));
        assert!(!is_of_series(&ours, None, Some("10.11.14-MariaDB")));
        assert!(!is_of_series(&ours, Some("nonsense"), Some("11.8.1-MariaDB")));
        assert!(is_of_series(&ours, None, Some("nonsense")) && is_of_series(&ours, None, None));
    }
}

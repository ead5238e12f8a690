//! Creates the system tables of an empty server with the server's own tools.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, IoExt, Place, Result};
use crate::mysql::flavor::Flavor;
use crate::os::process::{self, Activity, Child, Exit};
use crate::server::setup::Setup;
use crate::server::tools::{last_errors, output, ran_out_of_space, spawn, tool};
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::Watched;

/// Creates the system tables of an empty server, with a root account without a password.
///
/// # Errors
/// [`Error::MysqldStart`] with the program's output, or [`Error::MysqldHung`].
pub fn install(supervisor: &mut Supervisor, setup: &Setup, patience: Duration) -> Result<()> {
    let (mut command, name) = match setup.flavor {
        Flavor::MariaDb => (mariadb(setup)?, "mariadb-install-db"),
        Flavor::MySql => (mysql(setup), "mysqld --initialize-insecure"),
    };
    command.stdin(Stdio::null());
    command.args(setup.made_with());
    setup.run_as(&mut command)?;
    if crate::os::sys::is_root() && setup.user.is_none() {
        command.arg("--user=root");
    }
    let errors = setup.scratch.join("load.err");
    let said = output(&errors)?;
    let both = said.try_clone().doing("open", &errors)?;
    command.stdout(said).stderr(both);
    let child = spawn(&mut command)?;
    let wait = Wait { every: Duration::from_millis(200), patience: Some(patience) };
    let exit = supervisor.wait_for(&mut Tool(child), wait, |tool, _| {
        Ok(tool.0.try_wait().map_or(Look::Still, Look::Done))
    })?;
    match exit {
        Some(Exit::Status(0)) => {
            // The loader's messages go here next, and MySQL prints more than errors.
            output(&errors).map(drop)
        }
        Some(_) if ran_out_of_space(&errors) => Err(Error::DiskFull {
            path: setup.data(),
            free: crate::os::sys::free_bytes(&setup.data()).ok(),
            needed: None,
            inodes: false,
            place: Place::Scratch,
        }),
        Some(exit) => Err(Error::MysqldStart {
            how: format!("{name} failed: {exit}"),
            log: last_errors(&errors),
        }),
        None => Err(Error::MysqldHung { what: format!("exit of {name}"), after: Some(patience) }),
    }
}

fn mariadb(setup: &Setup) -> Result<Command> {
    let program = tool(&setup.program, "mariadb-install-db")?;
    let mut command = process::command(&program);
    command.arg("--no-defaults");
    // Otherwise it would use the server and files of the system package.
    let real = program.canonicalize().unwrap_or(program);
    if let Some(base) = real.parent().and_then(Path::parent) {
        command.arg(format!("--basedir={}", base.display()));
    }
    command
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg("--skip-name-resolve");
    // Relative, since the script does not quote its arguments. And its server would remove the
    // temporary tables of all others that share a directory.
    command.args(["--datadir=./data", "--tmpdir=../tmp"]).current_dir(&setup.scratch);
    Ok(command)
}

fn mysql(setup: &Setup) -> Command {
    let mut command = process::command(&setup.program);
    command.args(["--no-defaults", "--initialize-insecure", "--mysqlx=OFF"]);
    command.arg(format!("--datadir={}", setup.data().display()));
    command.arg(format!("--tmpdir={}", setup.tmp().display())).current_dir(setup.place());
    // The default of some packages is a directory that does not exist.
    command.args(["--secure-file-priv=NULL", "--skip-log-bin"]);
    // A server with networking on a restored copy creates keys of its own.
    command.arg("--auto-generate-certs=OFF");
    command.arg("--loose-caching-sha2-password-auto-generate-rsa-keys=OFF");
    command.arg("--loose-sha256-password-auto-generate-rsa-keys=OFF");
    command
}

/// A child process that is waited for on its own.
pub struct Tool(pub Child);

impl Watched for Tool {
    fn activity(&self) -> Option<Activity> {
        Some(self.0.activity())
    }
}

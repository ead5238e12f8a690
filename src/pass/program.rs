//! The user's program on a throw-away server: what it is given, and that both end together.
//!
//! It runs as the user who runs us, with our streams, as under a shell, and finds an option file to log in
//! with in its environment. The clients of the servers' packages get that as their first argument. On a
//! terminal it stays in our process group, where the keys for signals and job control reach it; elsewhere
//! it has one of its own, which can be ended as a whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::process::{Child, Exit, command_of_user};
use crate::pass::hooks::find;
use crate::server::guest::{DEFAULTS_FILE, first_argument};
use crate::server::lifecycle::explain;
use crate::server::mysqld::Mysqld;
use crate::supervisor::main_loop::{Look, Supervisor, Wait};
use crate::supervisor::watched::{Nothing, Watched as _};
use crate::text::{short, system_text};

/// The longest time between two looks at it; its exit is noticed at once.
const LOOK: Duration = Duration::from_secs(1);

/// A program of the user's and its arguments.
pub struct Program {
    path: PathBuf,
    args: Vec<String>,
}

impl Program {
    /// The program that the first word names, a path or a name in `PATH`.
    ///
    /// # Errors
    /// [`Error::Configuration`] if there is no such program.
    pub fn new(words: Vec<String>) -> Result<Program> {
        let mut args = words.into_iter();
        let named = args.next().unwrap_or_default();
        let path = find(&named).map_err(Error::config)?;
        Ok(Program { path, args: args.collect() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn command(&self, option_file: &Path) -> Command {
        let mut command = command_of_user(&self.path);
        command.args(first_argument(&self.path, &self.args, option_file));
        command.args(&self.args).env(DEFAULTS_FILE, option_file);
        command
    }

    /// Runs it until it has exited, while `mysqld` is watched. Where that dies, or a stop arrives, the
    /// program is ended: by a signal, and killed when it is still there after `patience`.
    ///
    /// # Errors
    /// A stop; what became of the server.
    pub fn run(
        &self,
        supervisor: &mut Supervisor,
        mysqld: &mut Mysqld,
        option_file: &Path,
        patience: Duration,
    ) -> Result<Exit> {
        let at_terminal = File::open("/dev/tty").is_ok();
        let mut command = self.command(option_file);
        let child = Child::spawn_of_user(&mut command, !at_terminal);
        let mut child = child.map_err(|e| {
            let (path, text) = (self.path.display(), system_text(&e));
            Error::config(format!("{path} cannot be executed: {text}"))
        })?;
        supervisor.spare_int(at_terminal);
        let wait = Wait { every: LOOK, patience: None };
        let waited = supervisor
            .wait_for(mysqld, wait, |_, _| Ok(child.try_wait().map_or(Look::Still, Look::Done)));
        supervisor.spare_int(false);
        let error = match waited {
            // Without patience, only further signals end the wait.
            Ok(None) => Error::Interrupted { signal: libc::SIGTERM },
            Ok(Some(exit)) => {
                // It may have failed because the server has.
                match (exit, mysqld.ping().and_then(|()| mysqld.maintain())) {
                    (Exit::Status(0), _) | (_, Ok(())) => return Ok(exit),
                    (_, Err(error)) => error,
                }
            }
            Err(error) => error,
        };
        let error = match error {
            stop @ Error::Interrupted { .. } => stop,
            error => explain(supervisor, mysqld, error, patience),
        };
        end(&mut child, supervisor, &error, patience);
        Err(error)
    }
}

/// Ends the program because of `error`.
fn end(child: &mut Child, supervisor: &mut Supervisor, error: &Error, patience: Duration) {
    let signal = match error {
        Error::Interrupted { signal } => *signal,
        _ => libc::SIGTERM,
    };
    if child.try_wait().is_some() {
        return;
    }
    if !matches!(error, Error::Interrupted { .. }) {
        log::warn!("{}: {error}; ending the program", error.cause());
    }
    supervisor.begin_ending();
    child.signal_group(signal);
    let wait = Wait { every: LOOK, patience: Some(patience) };
    let ended = supervisor
        .wait_for(&mut Nothing, wait, |_, _| Ok(child.try_wait().map_or(Look::Still, Look::Done)));
    if !matches!(ended, Ok(Some(_))) {
        log::warn!("the program has not ended for {} and is killed", short(patience));
    }
    // What it started got the signal, too, and may still run.
    child.signal_group(libc::SIGKILL);
    child.kill();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_option_file_as_their_first_argument() {
        let line = |path: &str, args: &[&str]| {
            let args = args.iter().map(ToString::to_string).collect();
            let command = Program { path: path.into(), args }.command(Path::new("/f"));
            let args: Vec<String> =
                command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
            assert!(
                command.get_envs().any(|(k, v)| k == DEFAULTS_FILE && v == Some("/f".as_ref()))
            );
            args.join(" ")
        };
        assert_eq!(line("/usr/bin/mariadb-dump", &["shop"]), "--defaults-file=/f shop");
        assert_eq!(line("/x/mysql", &[]), "--defaults-file=/f");
        assert_eq!(line("/usr/bin/mydumper", &["-B", "shop"]), "-B shop");
        assert_eq!(line("/usr/bin/mysql", &["--no-defaults", "x"]), "--no-defaults x");
        assert_eq!(line("/usr/bin/mysql", &["--defaults-file=/g"]), "--defaults-file=/g");
    }
}

//! Runs the real binary, to its end or in the background, and reads its checkpoint.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{TempDir, alive, end, processes_under, server::tail, wait_for};
use rollforward::cli::usage;

/// A command line of the program, not yet started.
#[derive(Clone, Debug, Default)]
pub struct Rollforward {
    wrapper: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    scratch: Option<PathBuf>,
    without_user: bool,
}

/// The program that is tested.
const BINARY: &str = env!("CARGO_BIN_EXE_rollforward");
impl Rollforward {
    /// Tells one build of the program from another.
    pub fn build() -> String {
        let m = std::fs::metadata(BINARY).unwrap();
        format!("{}.{:09}", m.mtime(), m.mtime_nsec())
    }

    /// The program with these arguments and no others.
    pub fn new<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Rollforward {
        Rollforward::default().args(args)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Rollforward {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<std::ffi::OsStr>>(
        mut self,
        args: impl IntoIterator<Item = S>,
    ) -> Rollforward {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_os_string()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Rollforward {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Without `--mysqld-user`, which is added where the tests run as root.
    pub fn without_user(mut self) -> Rollforward {
        self.without_user = true;
        self
    }

    /// Runs it under another program, as `["strace", "-f", "-o", FILE]`.
    pub fn under<S: AsRef<std::ffi::OsStr>>(
        mut self,
        wrapper: impl IntoIterator<Item = S>,
    ) -> Rollforward {
        self.wrapper = wrapper.into_iter().map(|a| a.as_ref().to_os_string()).collect();
        self
    }

    /// Where its checkpoint is looked for: `DIR/checkpoint`.
    pub fn scratch(mut self, dir: &Path) -> Rollforward {
        self.scratch = Some(dir.to_path_buf());
        self
    }

    /// Starts it in the background. It dies with our thread.
    #[track_caller]
    pub fn spawn(&self) -> Running {
        let mut line: Vec<OsString> = self.wrapper.clone();
        line.push(BINARY.into());
        line.extend(self.args.iter().cloned());
        let first = self.args.first().and_then(|c| c.to_str());
        let passes = matches!(first, Some("run" | "seed" | "prove" | "open"));
        let named = self.args.iter().any(|w| w.to_string_lossy().starts_with("--mysqld-user"));
        if passes && super::is_root() && !self.without_user && !named {
            line.insert(self.wrapper.len() + 2, "--mysqld-user=root".into());
        }
        let mut command = Command::new(&line[0]);
        super::flavor::path_for(&mut command);
        command.args(&line[1..]).envs(self.env.iter().cloned());
        let output = TempDir::new("output");
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        super::die_with_us(&mut command);
        let started = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("{line:?}: {e}"));
        let scratch = self.scratch.clone();
        let wrapped = !self.wrapper.is_empty();
        Running { child, ended: None, output, line, scratch, wrapped, started }
    }

    /// Runs it to its end. Panics after `timeout` and shows all there is.
    #[track_caller]
    pub fn run_to_end(&self, timeout: Duration) -> Outcome {
        self.spawn().finish(timeout)
    }
}

/// How the program ended and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit status; 256 + n when it was killed by signal n.
    pub status: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// From start to end.
    pub wall: Duration,
    line: Vec<OsString>,
}

impl Outcome {
    /// Panics, showing everything, unless it ended with `status`.
    #[track_caller]
    pub fn expect(self, status: i32) -> Outcome {
        assert_eq!(self.status, status, "status; {self}");
        self.check_advice();
        self
    }

    /// Adds a line to the file that `ROLLFORWARD_TEST_REPORT` names, if it is set: the server, the
    /// test, the command, its status, cause, seconds and number of log lines, with tabs between.
    fn report(&self) {
        let Some(path) = std::env::var_os("ROLLFORWARD_TEST_REPORT") else { return };
        let last = self.stderr.lines().last().unwrap_or_default();
        let cause = last.split_once("error: ").and_then(|(_, said)| said.split_once(':'));
        let thread = std::thread::current();
        let line = format!(
            "{}\t{}\t{}\t{}\t{}\t{:.1}\t{}\n",
            super::flavor::chosen().name,
            thread.name().unwrap_or("?"),
            self.line
                .iter()
                .find(|w| usage::COMMANDS.iter().any(|c| w.to_string_lossy() == c.0))
                .map_or_else(|| "-".into(), |w| w.to_string_lossy()),
            self.status,
            cause.map_or("-", |(cause, _)| cause),
            self.wall.as_secs_f64(),
            self.stderr.lines().count()
        );
        let file = File::options().append(true).create(true).open(&path);
        file.and_then(|mut f| f.write_all(line.as_bytes())).expect("the report can be written");
    }

    /// The last line of a failure says what to do next.
    #[track_caller]
    fn check_advice(&self) {
        let last = self.stderr.lines().last().unwrap_or_default();
        let Some((_, said)) = last.split_once("error: ") else { return };
        let next = match said.split(':').next().unwrap_or_default() {
            "mysqld-died" | "mysqld-start" | "mysqld-hung" => "mysqld.log",
            "primary-unreachable" | "locked" | "interrupted" => "run again",
            "stalled" => "--stall-timeout",
            "replication-error" | "purged" | "diverged" => "rollforward seed",
            "backup-damaged" => "rollforward verify",
            "out-of-memory" => "--mysqld-option",
            _ => return,
        };
        assert!(said.contains(next), "nothing about `{next}` in the last line; {self}");
    }

    /// Panics unless standard error has `text` in it.
    #[track_caller]
    pub fn says(self, text: &str) -> Outcome {
        assert!(self.stderr.contains(text), "nothing about '{text}'; {self}");
        self
    }

    /// The lines of standard error.
    pub fn log(&self) -> Vec<&str> {
        self.stderr.lines().collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { status, stdout, stderr, wall, line } = self;
        write!(
            f,
            "{line:?} ended {status} after {wall:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// The program in the background. Killed on drop.
pub struct Running {
    child: Child,
    ended: Option<(ExitStatus, Instant)>,
    output: TempDir,
    line: Vec<OsString>,
    scratch: Option<PathBuf>,
    wrapped: bool,
    started: Instant,
}

impl Running {
    /// Its process; the wrapper's when it runs under one.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The checkpoint of this very pass; empty as long as there is none.
    pub fn checkpoint(&self) -> Checkpoint {
        let Some(scratch) = &self.scratch else { return Checkpoint::default() };
        let checkpoint = Checkpoint::read(&scratch.join("checkpoint")).unwrap_or_default();
        let pid = checkpoint.number("pid").unwrap_or(0) as i32;
        let ours = if self.wrapped { alive(pid) && pid > 1 } else { pid == self.pid() };
        if ours { checkpoint } else { Checkpoint::default() }
    }

    /// Waits until the checkpoint makes `cond` give a value. Panics when the program ends first.
    #[track_caller]
    pub fn wait_for_checkpoint<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut cond: impl FnMut(&Checkpoint) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + timeout;
        wait_for(what, timeout * 2, || {
            let ended = self.has_ended();
            let checkpoint = self.checkpoint();
            if let Some(value) = cond(&checkpoint) {
                return Some(value);
            }
            assert!(!ended, "it ended before {what}:\n{}", self.dump());
            assert!(Instant::now() < deadline, "{timeout:?} in vain for {what}:\n{}", self.dump());
            None
        })
    }

    /// Waits until it is in `phase`. Panics when it is too late for that, too.
    #[track_caller]
    pub fn wait_for_phase(&mut self, phase: &str, timeout: Duration) -> Checkpoint {
        let rank = |p: &str| {
            ["restore", "seed", "start", "catch-up", "stop", "backup", "prune"]
                .iter()
                .position(|q| *q == p)
        };
        let what = format!("phase {phase}");
        let found = self.wait_for_checkpoint(&what, timeout, |c| {
            let now = c.get("phase")?;
            let late = rank(now) > rank(phase) && rank(now) > rank("catch-up");
            (now == phase || late).then(|| c.clone())
        });
        let now = found.get("phase");
        assert!(now == Some(phase), "too late for {phase}:\n{}", self.dump());
        found
    }

    /// Waits until its log has `text` in it; when that was seen.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Instant {
        let what = format!("'{text}' in the log");
        let path = self.output.path().join("err");
        self.wait_for_checkpoint(&what, timeout, |_| {
            let log = fs::read(&path).unwrap_or_default();
            String::from_utf8_lossy(&log).contains(text).then(Instant::now)
        })
    }

    /// Waits for the pid of its live private server, with its socket.
    #[track_caller]
    pub fn wait_for_mysqld(&mut self, timeout: Duration) -> i32 {
        self.wait_for_checkpoint("a mysqld_pid and socket", timeout, |c| {
            let (pid, _) = (c.number("mysqld_pid")? as i32, c.get("socket")?);
            (pid > 1 && alive(pid)).then_some(pid)
        })
    }

    /// Sends it a signal; under a wrapper to the program itself.
    #[track_caller]
    pub fn kill(&self, signal: i32) {
        let pid = match self.checkpoint().number("pid") {
            Some(pid) if self.wrapped => pid as i32,
            _ => self.pid(),
        };
        super::kill(pid, signal);
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join("err")).unwrap_or_default())
            .into_owned()
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap().map(|status| (status, Instant::now()));
        }
        self.ended.is_some()
    }

    /// Waits for its end. After `timeout` it is killed, and all there is is shown.
    #[track_caller]
    pub fn finish(mut self, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        wait_for("the program to end", timeout * 2, || {
            let ended = self.has_ended();
            let late = !ended && Instant::now() > deadline;
            assert!(!late, "it did not end within {timeout:?}:\n{}", self.dump());
            ended.then_some(())
        });
        let (status, at) = self.ended.expect("just seen");
        let outcome = Outcome {
            status: status.code().unwrap_or_else(|| 256 + status.signal().unwrap_or(0)),
            stdout: fs::read(self.output.path().join("out"))
                .map(|b| String::from_utf8_lossy(&b).into_owned())
                .unwrap_or_default(),
            stderr: self.stderr(),
            wall: at - self.started,
            line: self.line.clone(),
        };
        outcome.report();
        outcome
    }

    /// All that is known of it, for a failure.
    pub fn dump(&self) -> String {
        let mut text = format!("{:?}\n--- stderr\n{}", self.line, tail(&self.err_path(), 80));
        if let Some(scratch) = &self.scratch {
            text += &dump_scratch(scratch);
        }
        text
    }

    fn err_path(&self) -> PathBuf {
        self.output.path().join("err")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            end(&mut self.child);
        }
    }
}

/// Checkpoint, server logs and processes of a scratch directory, for a failure.
pub fn dump_scratch(scratch: &Path) -> String {
    let mut text = String::from("\n--- checkpoint\n");
    text += &fs::read_to_string(scratch.join("checkpoint")).unwrap_or_else(|e| e.to_string());
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        text += &format!("--- {name}\n");
        if name.contains("log") || name.ends_with(".err") || name == "state" {
            text += &tail(&entry.path(), 60);
            text.push('\n');
        }
    }
    text += &format!("--- processes in it: {:?}\n", processes_under(scratch));
    text
}

/// A checkpoint as read: keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint(pub BTreeMap<String, String>);

impl Checkpoint {
    /// `None` when there is no such file. Panics on a line that is not `key=value`, since the
    /// file is replaced whole.
    #[track_caller]
    pub fn read(path: &Path) -> Option<Checkpoint> {
        let text = fs::read_to_string(path).ok()?;
        let pairs = text.lines().map(|line| match line.split_once('=') {
            Some((key, value)) => (key.to_string(), value.to_string()),
            None => panic!("not key=value in {}: {line}\n{text}", path.display()),
        });
        Some(Checkpoint(pairs.collect()))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The same as a number.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key)?.parse().ok()
    }
}

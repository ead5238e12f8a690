//! An S3 server on loopback with its objects in a directory, rclone's configuration for it, and
//! the script that mirrors: each ended by its id, with all it has started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::repository::{hex, packs_of};
use crate::support::server::{free_port, tail};
use crate::support::{
    PATIENCE, TempDir, alive, die_with_us, end, find_program, run_helper, wait_for, wait_until,
};
use sha2::{Digest as _, Sha256};

/// Key and secret: the server knows no others.
pub const SECRET: &str = "S3RVER";

const SUFFIX: &str = "._S3rver_object";

/// The program of the server; `None`, said loudly, where it or rclone cannot be had. Panics in CI.
pub fn server_program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = TempDir::new("s3-server");
        let file = |name: &str| File::create(dir.path().join(name)).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let mut script = Command::new(root.join("scripts/s3-server"));
        script.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        die_with_us(&mut script);
        let mut child = script.spawn().expect("sh");
        let status = wait_for("npm", 5 * PATIENCE, || child.try_wait().unwrap());
        let missing = if find_program("rclone").is_none() {
            "rclone is not installed ('make deps')".to_string()
        } else if !status.success() {
            format!("no S3 server: {}", read("err"))
        } else {
            return Some(read("out").trim().into());
        };
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        let _ = write!(std::io::stderr(), "\n*** SKIPPED, {missing}: the mirror ***\n");
        None
    });
    found.as_deref()
}

/// The server, and what the script needs to reach it.
pub struct S3 {
    child: Child,
    port: u16,
    program: &'static Path,
    dir: TempDir,
}

impl S3 {
    /// Starts one without any bucket.
    #[track_caller]
    pub fn start() -> Option<S3> {
        let program = server_program()?;
        let dir = TempDir::new("s3");
        let port = free_port();
        let obscured = run_helper(Command::new("rclone").args(["obscure", "-"]), "a-Passphrase");
        let text = format!(
            "[s3]\ntype = s3\nprovider = Other\nendpoint = http://127.0.0.1:{port}\n\
             access_key_id = {SECRET}\nsecret_access_key = {SECRET}\nforce_path_style = true\n\
             [mirror]\ntype = alias\nremote = s3:bucket/one\n\
             [here]\ntype = alias\nremote = {}\n\
             [secret]\ntype = crypt\nremote = s3:bucket/two\npassword = {obscured}\n",
            dir.path().join("here").display()
        );
        let write = |name: &str, mode, text: &str| {
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(mode).open(dir.path().join(name));
            file.unwrap().write_all(text.as_bytes()).unwrap();
        };
        write("rclone.conf", 0o600, &text);
        // In place of rclone: notes its arguments, kills the script at a call of choice, and does what it
        // is told first.
        let shim = "#!/bin/sh\ncd -P \"${0%/*}/..\" || exit\necho \"$*\" >>calls\n\
                    if [ \"$(wc -l <calls)\" -eq \"${KILL_AT:-0}\" ]; then kill -9 $PPID; exit 1; fi\n\
                    eval \"${DO:-}\"\n\
                    exec \"$RCLONE\" \"$@\"\n";
        fs::create_dir(dir.path().join("bin")).unwrap();
        write("bin/rclone", 0o755, shim);
        let ours = dir.path().join("bin/rollforward");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rollforward"), ours).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let child = S3::spawn(program, dir.path(), port);
        Some(S3 { child, port, program, dir })
    }

    fn spawn(program: &Path, dir: &Path, port: u16) -> Child {
        let log = File::options().append(true).create(true).open(dir.join("server.log")).unwrap();
        let mut node = Command::new("node");
        node.arg(program).args(["--no-vhost-buckets", "-a", "127.0.0.1", "-p", &port.to_string()]);
        node.arg("-d").arg(dir.join("data"));
        node.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        die_with_us(&mut node);
        let mut child = node.spawn().expect("node");
        wait_until("the S3 server", PATIENCE, || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", tail(&dir.join("server.log"), 20));
            TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1))
                .is_ok()
        });
        child
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Starts it again with the objects it had.
    pub fn restart(&mut self) {
        self.child = S3::spawn(self.program, self.dir.path(), self.port);
    }

    /// A path beside the server's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the objects of `mirror:PATH` lie, not all of them whole.
    pub fn store(&self, path: &str) -> PathBuf {
        self.path("data/bucket/one").join(path)
    }

    /// The objects of `mirror:PATH` by key, with the SHA-256 of their content.
    pub fn objects(&self, path: &str) -> BTreeMap<String, String> {
        S3::objects_below(&self.store(path))
    }

    /// All objects of all buckets.
    pub fn everything(&self) -> BTreeMap<String, String> {
        S3::objects_below(&self.path("data"))
    }

    // The server keeps other files beside each object, and makes them when it lists, too.
    fn objects_below(dir: &Path) -> BTreeMap<String, String> {
        files(dir)
            .into_iter()
            .filter_map(|(name, sum)| Some((name.strip_suffix(SUFFIX)?.to_string(), sum)))
            .collect()
    }

    /// Panics unless each manifest at `mirror:PATH` that is whole has all its packs there, whole.
    /// The names of the backups.
    #[track_caller]
    pub fn assert_valid(&self, path: &str) -> Vec<String> {
        let objects = self.objects(path);
        let repo = self.store(path);
        let mut names = Vec::new();
        for key in objects.keys() {
            let Some(name) = key.strip_prefix("backups/") else { continue };
            let file = format!("{name}{SUFFIX}");
            let text = fs::read_to_string(repo.join("backups").join(&file)).unwrap();
            let body = text.rfind("end ").map_or("", |at| &text[..at]);
            if text != crate::support::repository::seal(body) {
                // Cut off: not a backup.
                continue;
            }
            for pack in packs_of(&repo, &file) {
                let key = format!("packs/{}/{pack}", &pack[..2]);
                assert_eq!(objects.get(&key), Some(&pack), "{name}; {:#?}", self.calls());
            }
            assert!(objects.contains_key("format"), "{objects:?}");
            names.push(name.to_string());
        }
        names
    }

    /// With what rclone was called since the last `forget_calls`.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    /// Counts calls anew.
    pub fn forget_calls(&self) {
        let _ = fs::remove_file(self.path("calls"));
    }

    /// Starts the script with these arguments, in a process group of its own.
    #[track_caller]
    pub fn spawn_mirror<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        env: &[(&str, &str)],
    ) -> Mirror {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/mirror/rollforward-mirror");
        let path = std::env::var("PATH").unwrap();
        let output = TempDir::new("mirror");
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let mut command = Command::new(script);
        command.args(args).env_clear().process_group(0);
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("RCLONE", find_program("rclone").unwrap());
        command.env("RCLONE_CONFIG", self.path("rclone.conf"));
        // Not the quarter of an hour that a usual rclone is patient with a server.
        command.env("RCLONE_LOW_LEVEL_RETRIES", "2").env("RCLONE_RETRIES", "1");
        command.env("TMPDIR", output.path()).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        die_with_us(&mut command);
        let child = command.spawn().unwrap();
        Mirror { child, output }
    }

    /// Runs the script to its end; its status and what it said.
    #[track_caller]
    pub fn mirror<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> (i32, String) {
        self.spawn_mirror(args, &[]).finish()
    }

    /// The same, which must end 0.
    #[track_caller]
    pub fn mirror_well<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> String {
        let (status, said) = self.mirror(args);
        assert_eq!(status, 0, "{said}");
        said
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The script at work. It and its rclone are killed on drop.
pub struct Mirror {
    child: Child,
    output: TempDir,
}

impl Mirror {
    /// Its process, and the group of all it started.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; the status, 256 + n when killed by signal n, and standard error.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        let status =
            wait_for("the end of the mirror", 2 * PATIENCE, || self.child.try_wait().unwrap());
        let status = status.code().unwrap_or_else(|| 256 + status.signal().unwrap_or(0));
        let out = fs::read_to_string(self.output.path().join("out")).unwrap();
        assert_eq!(out, "", "nothing belongs on standard output");
        (status, fs::read_to_string(self.output.path().join("err")).unwrap())
    }

    /// Processes of its group that are still there.
    pub fn group(&self) -> Vec<i32> {
        let group = self.child.id().to_string();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok())
            .filter(|&pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let rest = stat.rsplit(") ").next().unwrap_or_default();
                rest.split(' ').nth(2) == Some(&group) && alive(pid)
            })
            .collect()
    }

    /// Kills all of it at once, as a power cut would.
    pub fn kill_all(&mut self) {
        for pid in self.group() {
            crate::support::try_kill(pid, libc::SIGKILL);
        }
        end(&mut self.child);
        wait_until("the end of what it started", PATIENCE, || self.group().is_empty());
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// The files below a directory by their path, with the SHA-256 of their content.
pub fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(path);
            } else if let Ok(content) = fs::read(&path) {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, hex(&Sha256::digest(content)));
            }
        }
    }
    found
}

//! The machinery: an image, its volumes with a scene on them, and two ways to run a program in it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PATIENCE;
use crate::support::{
    Checkpoint, NIGHTLY, PASSWORD, Rollforward, Running, Scene, TempDir, find_program, flavor,
    is_root, run_helper, skipped, try_helper, wait_for,
};

/// Who the program runs as. Nobody has this number.
pub const USER: u32 = 47_110;

/// How one becomes PID 1 of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In a user namespace, in which we are `USER`: anybody may, if the system lets them.
    UserNamespace,
    /// By root alone: `USER` in earnest.
    Root,
    /// The same, and the program is root.
    AsRoot,
}

impl Way {
    /// Those that this machine allows. Says loudly that there is none, and panics in CI.
    pub fn all() -> Vec<Way> {
        let mount = "mount -t proc proc /proc";
        let try_it = |args: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(args).args(["--mount", "--pid", "--fork", "sh", "-c", mount]);
            find_program("unshare").is_some() && try_helper(&mut command, "", PATIENCE).0
        };
        let mut ways = Vec::new();
        if fs::read(server()).is_ok_and(|program| program.starts_with(b"#!")) {
            // What scripts/servers unpacks: no image has the shell for it.
            skipped("the server is a script: containers");
            return ways;
        }
        ways.extend(try_it(&["--user", "--map-root-user"]).then_some(Way::UserNamespace));
        ways.extend((is_root() && try_it(&[])).then_some(Way::Root));
        if ways.is_empty() {
            assert!(std::env::var_os("CI").is_none(), "no namespaces, not even for root");
            skipped("neither user namespaces nor root: containers");
        }
        ways
    }

    /// The command line up to the program's own arguments.
    pub fn wrapper(self, image: &Path, work: &Path, helper: Option<&Path>) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["unshare".into()];
        if self == Way::UserNamespace {
            line.extend(["--user", "--map-root-user"].map(OsString::from));
        }
        if helper.is_some() {
            line.push("--net".into());
        }
        let rest = ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh"];
        line.extend(rest.map(OsString::from));
        line.push(root().join("tests/support/container.sh").into());
        line.push(
            match self {
                Way::UserNamespace => "user",
                Way::Root => "root",
                Way::AsRoot => "as-root",
            }
            .into(),
        );
        line.extend([USER.to_string().into(), image.into(), work.into()]);
        line.push(helper.map_or_else(OsString::new, OsString::from));
        line
    }
}

/// What goes into the image: the program, the server, and more where a test needs it.
pub fn image(dir: &TempDir, more: &[&str]) -> PathBuf {
    let root = dir.path().join("image");
    let mut collect = Command::new(super::root().join("dist/container/collect"));
    collect.arg(&root).arg(program()).arg(server());
    run_helper(collect.args(more), "");
    root
}

/// Where the source is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn server() -> PathBuf {
    find_program("mariadbd").expect("mariadbd").canonicalize().unwrap()
}

pub fn program() -> PathBuf {
    match std::env::var_os("ROLLFORWARD_STATIC") {
        Some(path) => root().join(path),
        None => env!("CARGO_BIN_EXE_rollforward").into(),
    }
}

/// The files of an image with their sizes.
pub fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            found.push((entry.path(), 0));
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), meta.len()));
        }
    }
    found.sort();
    found
}

/// A scene whose repository and scratch directory are volumes, and the image.
pub struct Container {
    pub scene: Scene,
    pub work: PathBuf,
    pub image: PathBuf,
    pub way: Way,
    pub helper: Option<PathBuf>,
    _dir: TempDir,
}

impl Container {
    /// With a first backup, made outside.
    pub fn seeded(name: &str, way: Way, more: &[&str]) -> Container {
        let mut scene = Scene::new(name);
        let work = scene.path("work");
        for volume in ["backup", "scratch", "etc/rollforward", "run/secrets/rollforward"] {
            fs::create_dir_all(work.join(volume)).unwrap();
        }
        scene.repo = work.join("backup/db1");
        scene.scratch = work.join("scratch/db1");
        scene.primary.fill("shop", 2, 2000);
        scene.seed();
        let dir = TempDir::new("image");
        let image = image(&dir, more);
        let secret = work.join("run/secrets/rollforward/password");
        fs::write(&secret, PASSWORD).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o400)).unwrap();
        let container = Container { scene, work, image, way, helper: None, _dir: dir };
        container.options(&format!("127.0.0.1:{}", container.scene.primary.port()), "");
        if way == Way::Root {
            own(&container.work);
        }
        container
    }

    /// The option file: everything but the password.
    pub fn options(&self, primary: &str, more: &str) {
        let text = format!(
            "[client]\nuser={}\n{}[rollforward]\nrepo=/backup/db1\nscratch=/scratch/db1\n\
             primary={primary}\npassword-file=/run/secrets/rollforward/password\nmysqld={}\n\
             backoff-base=50ms\nbackoff-cap=500ms\npoll-interval=200ms\njobs=2\n{more}",
            NIGHTLY.user,
            flavor::either("", "get-server-public-key\n"),
            server().display(),
        );
        let path = self.work.join("etc/rollforward/rollforward.cnf");
        fs::write(&path, text).unwrap();
        if self.way == Way::Root {
            own(&path);
        }
    }

    pub fn command(&self, name: &str) -> Rollforward {
        let wrapper = self.way.wrapper(&self.image, &self.work, self.helper.as_deref());
        let options = "--defaults-file=/etc/rollforward/rollforward.cnf";
        // In there it is not root.
        Rollforward::new([name, options]).under(wrapper).without_user()
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::read(&self.scene.scratch.join("checkpoint")).unwrap_or_default()
    }

    /// Waits until the pass in it has come into the catch-up; its PID 1, as we see it.
    #[track_caller]
    pub fn wait_for_catch_up(&self, pass: &mut Running) -> i32 {
        wait_for("the catch-up", PATIENCE, || {
            assert!(!pass.has_ended(), "it has ended: {}", pass.dump());
            let init = children(pass.pid()).into_iter().find(|c| c.name == "rollforward")?;
            let checkpoint = self.checkpoint();
            let ours = checkpoint.get("pid") == Some("1");
            (ours && checkpoint.get("phase") == Some("catch-up")).then_some(init.pid)
        })
    }
}

/// Gives everything below to `USER`.
pub fn own(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| own(&entry.path()));
    }
}

/// A child of some process.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub zombie: bool,
}

pub fn children(of: i32) -> Vec<Process> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let mut words = rest.split_whitespace();
        let zombie = words.next()? == "Z";
        let parent: i32 = words.next()?.parse().ok()?;
        let name = head.split_once('(')?.1.to_string();
        (parent == of).then_some(Process { pid, name, zombie })
    })
    .collect()
}

/// A line of `/proc/PID/status`.
#[track_caller]
pub fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_string()
}

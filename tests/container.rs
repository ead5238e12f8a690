//! As in a container: PID 1 in namespaces of its own, in a root with nothing but the program and
//! a server, which cannot be written to, as a user without a name.
//!
//! The root is what `dist/container/collect` makes for an image. The program in it is the one that
//! `ROLLFORWARD_STATIC` names, as the suite and `make image-test` do; else the one under test with
//! its libraries.

mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{
    Checkpoint, NIGHTLY, PASSWORD, Replica, Rollforward, Running, Scene, TempDir, alive,
    find_program, flavor, is_root, kill, run_helper, wait_for, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Who the program runs as. Nobody has this number.
const USER: u32 = 47_110;

/// How one becomes PID 1 of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In a user namespace, in which we are `USER`: anybody may, if the system lets them.
    UserNamespace,
    /// By root alone: `USER` in earnest.
    Root,
    /// The same, and the program is root.
    AsRoot,
}

/// What PID 1 does before it becomes the program: it puts the root together.
const SETUP: &str = r#"set -e
way=$1 root=$2 work=$3 helper=$4
shift 5
mount --bind "$root" "$root"
for volume in backup scratch etc run/secrets/rollforward; do
    mount --bind "$work/$volume" "$root/$volume"
done
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro,nosuid,nodev "$root"
if [ -n "$helper" ]; then
    perl "$helper" &
    until grep -q ':0035 ' /proc/net/udp; do
        kill -0 $!
        sleep 0.05
    done
fi
cd /
umask 022
case $way in
user)
    exec unshare --user --map-user=USER --map-group=USER --root="$root" --wd=/ \
        /usr/local/bin/rollforward "$@" ;;
root)
    exec chroot --userspec=USER:USER --groups= "$root" /usr/local/bin/rollforward "$@" ;;
as-root)
    exec chroot "$root" /usr/local/bin/rollforward "$@" ;;
esac"#;

impl Way {
    /// Those that this machine allows. Says loudly that there is none, and panics in CI.
    fn all() -> Vec<Way> {
        let mount = "mount -t proc proc /proc";
        let try_it = |args: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(args).args(["--mount", "--pid", "--fork", "sh", "-c", mount]);
            command.output().is_ok_and(|o| o.status.success())
        };
        let mut ways = Vec::new();
        ways.extend(try_it(&["--user", "--map-root-user"]).then_some(Way::UserNamespace));
        ways.extend((is_root() && try_it(&[])).then_some(Way::Root));
        if ways.is_empty() {
            assert!(std::env::var_os("CI").is_none(), "no namespaces, not even for root");
            eprintln!("\n*** SKIPPED, neither user namespaces nor root: containers ***\n");
        }
        ways
    }

    /// The command line up to the program's own arguments.
    fn wrapper(self, image: &Path, work: &Path, helper: Option<&Path>) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["unshare".into()];
        if self == Way::UserNamespace {
            line.extend(["--user", "--map-root-user"].map(OsString::from));
        }
        if helper.is_some() {
            line.push("--net".into());
        }
        let rest = ["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c"];
        line.extend(rest.map(OsString::from));
        line.push(SETUP.replace("USER", &USER.to_string()).into());
        line.push("setup".into());
        line.push(
            match self {
                Way::UserNamespace => "user",
                Way::Root => "root",
                Way::AsRoot => "as-root",
            }
            .into(),
        );
        line.extend([image.into(), work.into()]);
        line.push(helper.map_or_else(OsString::new, OsString::from));
        line
    }
}

/// What goes into the image: the program, the server, and more where a test needs it.
fn image(dir: &TempDir, more: &[&str]) -> PathBuf {
    let root = dir.path().join("image");
    let collect = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/container/collect");
    let mut collect = Command::new(collect);
    collect.arg(&root).arg(program()).arg(server());
    run_helper(collect.args(more), "");
    root
}

fn server() -> PathBuf {
    find_program("mariadbd").expect("mariadbd").canonicalize().unwrap()
}

fn program() -> PathBuf {
    match std::env::var_os("ROLLFORWARD_STATIC") {
        Some(path) => Path::new(env!("CARGO_MANIFEST_DIR")).join(path),
        None => env!("CARGO_BIN_EXE_rollforward").into(),
    }
}

/// The files of an image with their sizes.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
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
struct Container {
    scene: Scene,
    work: PathBuf,
    image: PathBuf,
    way: Way,
    helper: Option<PathBuf>,
    _dir: TempDir,
}

impl Container {
    /// With a first backup, made outside.
    fn seeded(name: &str, way: Way, more: &[&str]) -> Container {
        let mut scene = Scene::new(name);
        let work = scene.path("work");
        for volume in ["backup", "scratch", "etc/rollforward", "run/secrets/rollforward"] {
            fs::create_dir_all(work.join(volume)).unwrap();
        }
        scene.repo = work.join("backup/db1");
        scene.scratch = work.join("scratch/db1");
        scene.primary.fill("shop", 2, 2000);
        scene.seed_somehow();
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
    fn options(&self, primary: &str, more: &str) {
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

    fn command(&self, name: &str) -> Rollforward {
        let wrapper = self.way.wrapper(&self.image, &self.work, self.helper.as_deref());
        let options = "--defaults-file=/etc/rollforward/rollforward.cnf";
        Rollforward::new([name, options]).under(wrapper)
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::read(&self.scene.scratch.join("checkpoint")).unwrap_or_default()
    }

    /// Waits until the pass in it has come into the catch-up; its PID 1, as we see it.
    #[track_caller]
    fn wait_for_catch_up(&self, pass: &mut Running) -> i32 {
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
fn own(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| own(&entry.path()));
    }
}

/// A child of some process.
#[derive(Debug)]
struct Process {
    pid: i32,
    name: String,
    zombie: bool,
}

fn children(of: i32) -> Vec<Process> {
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
fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_string()
}

#[test]
fn a_pass_as_pid_1_needs_no_user_no_tmp_and_nothing_that_can_be_written() {
    need_server!();
    for way in Way::all() {
        let container = Container::seeded("image", way, &[]);
        let scene = &container.scene;
        let before = files(&container.image);
        let bytes: u64 = before.iter().map(|(_, size)| size).sum();
        println!("{way:?}, {}: {:.1} MB", program().display(), bytes as f64 / 1e6);
        for (path, size) in before.iter().filter(|(path, _)| !path.is_dir()) {
            println!("{size:>10} /{}", path.strip_prefix(&container.image).unwrap().display());
        }
        for absent in ["etc/passwd", "etc/nsswitch.conf", "tmp", "bin/sh", "usr/bin"] {
            assert!(!container.image.join(absent).exists(), "{absent} is in the image");
        }
        let replica = Replica::start(&scene.primary);
        scene.primary.slow_backlog("shop", 30, 0.1);
        let mut pass = container.command("run").spawn();
        let init = container.wait_for_catch_up(&mut pass);
        assert_eq!(status(init, "NSpid").split_whitespace().last(), Some("1"));
        assert_eq!(status(init, "CapEff"), "0000000000000000");
        let mounts = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
        let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).expect(&mounts);
        assert!(root.split(' ').nth(5).unwrap().split(',').any(|w| w == "ro"), "{root}");
        let map = fs::read_to_string(format!("/proc/{init}/uid_map")).unwrap();
        let owner = fs::metadata(container.scene.scratch.join("checkpoint")).unwrap().uid();
        let inside = match way {
            Way::Root | Way::AsRoot => owner.to_string(),
            Way::UserNamespace => map.split_whitespace().next().unwrap().to_string(),
        };
        assert_eq!(inside, USER.to_string(), "{map}");
        let ended = pass.finish(PATIENCE).expect(0);
        assert!(ended.stdout.is_empty() && ended.stderr.contains("stored "), "{ended}");
        assert_eq!(files(&container.image), before, "the image was written to");
        scene.assert_newest_equals(&replica);
        container.options("127.0.0.1:1", "");
        container.command("verify").run_to_end(PATIENCE).expect(0);
        assert_eq!(scene.leftover_processes(), [] as [i32; 0]);
    }
}

#[test]
fn term_to_pid_1_ends_143_with_a_checkpoint_and_the_next_container_goes_on() {
    need_server!();
    for way in Way::all() {
        let container = Container::seeded("term", way, &[]);
        container.scene.primary.slow_backlog("shop", 40, 0.1);
        let mut pass = container.command("run").spawn();
        let init = container.wait_for_catch_up(&mut pass);
        kill(init, libc::SIGTERM);
        pass.finish(PATIENCE).expect(143);
        let checkpoint = container.checkpoint();
        assert_eq!(checkpoint.get("state"), Some("stopped"), "{checkpoint:?}");
        assert_eq!(checkpoint.get("cause"), Some("interrupted"), "{checkpoint:?}");
        assert!(!alive(init) && container.scene.has_scratch_data());
        let ended = container.command("run").run_to_end(PATIENCE).expect(0);
        assert!(!ended.stderr.contains("restored "), "it did not go on with the data; {ended}");
        assert_eq!(container.scene.backups().len(), 2);
    }
}

#[test]
fn pid_1_reaps_orphans_and_loses_no_status_of_its_own_children() {
    need_server!();
    let Some(way) = Way::all().pop() else { return };
    let container = Container::seeded("orphans", way, &["/bin/sh", "/bin/sleep"]);
    // As many as 20 passes with one each. They end one after the other, some with the server.
    let orphans = r#"i=0
while [ $i -lt 20 ]; do
    i=$((i + 1))
    ( sleep 0.$((i % 10)) & )
done"#;
    let bury = |name: &str, rest: &str| {
        let version = format!(
            "case \" $* \" in *' --version '*) exec {0} \"$@\" ;; esac",
            server().display()
        );
        let path = container.work.join("etc").join(name);
        let text = format!(
            "#!/bin/sh\n{version}\n{orphans}\n{}\n",
            rest.replace("MYSQLD", &server().to_string_lossy())
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        if way == Way::Root {
            own(&path);
        }
        format!("--mysqld=/etc/{name}")
    };
    container.scene.primary.slow_backlog("shop", 60, 0.1);
    let mut pass = container.command("run").arg(bury("mysqld", "exec MYSQLD \"$@\"")).spawn();
    let init = container.wait_for_catch_up(&mut pass);
    // All have come to PID 1 and gone: what is left is the server, and it runs.
    let mut most = 0;
    wait_until("the orphans to be gone", Duration::from_secs(5), || {
        let left = children(init);
        most = most.max(left.len());
        left.len() == 1 && !left[0].zombie
    });
    println!("PID 1 had {most} children at a time");
    let server_pid = children(init)[0].pid;
    // Its death is still seen for what it is, and the pass goes on.
    kill(server_pid, libc::SIGKILL);
    pass.wait_for_log("it was killed by signal 9 (KILL)", PATIENCE);
    wait_until("a new server alone", PATIENCE, || {
        let left = children(init);
        left.len() == 1 && !left[0].zombie && left[0].pid != server_pid
    });
    pass.finish(PATIENCE).expect(0);

    // A status comes through, with orphans that end at the same moment.
    let options = [bury("ends", "sleep 0.3; exit 3"), "--max-failures=0".into()];
    let pass = container.command("run").args(options);
    pass.run_to_end(PATIENCE).expect(1).says("mysqld-start: ").says("it ended with status 3");
}

#[test]
fn names_are_looked_up_by_the_program_alone() {
    need_server!();
    for way in Way::all() {
        let mut container = Container::seeded("names", way, &[]);
        let port = container.scene.primary.port();
        let etc = container.work.join("etc");
        let run = |container: &Container, host: &str| {
            container.options(&format!("{host}:{port}"), "max-failures=0");
            container.command("run").run_to_end(PATIENCE)
        };
        // With nothing in /etc but the options.
        run(&container, "localhost").expect(0);
        run(&container, "[::1]").expect(75).says("onnection refused");
        run(&container, "primary.test").expect(75).says("failed to lookup address");
        fs::write(etc.join("hosts"), "127.0.0.1 primary.test\n").unwrap();
        run(&container, "primary.test").expect(0);
        // By a name server. The primary is not in that network: nobody listens there.
        fs::remove_file(etc.join("hosts")).unwrap();
        fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        container.helper = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/dns.pl"));
        run(&container, "primary.test").expect(75).says("onnection refused");
    }
}

#[test]
fn a_user_of_the_image_is_found_by_name() {
    need_server!();
    if !Way::all().contains(&Way::Root) {
        return;
    }
    let mut container = Container::seeded("by-name", Way::Root, &[]);
    container.way = Way::AsRoot;
    let user = ["--mysqld-user", "keeper"];
    let run = |container: &Container| container.command("run").args(user).run_to_end(PATIENCE);
    run(&container).expect(2).says("no user 'keeper' for --mysqld-user");
    let passwd = format!("keeper:x:{USER}:{USER}:::\n");
    fs::write(container.work.join("etc/passwd"), passwd).unwrap();
    container.scene.primary.slow_backlog("shop", 30, 0.1);
    let mut pass = container.command("run").args(user).spawn();
    let init = container.wait_for_catch_up(&mut pass);
    assert_eq!(status(init, "Uid").split_whitespace().next(), Some("0"));
    let server = children(init)[0].pid;
    assert_eq!(status(server, "Uid").split_whitespace().next(), Some(&*USER.to_string()));
    pass.finish(PATIENCE).expect(0);
}

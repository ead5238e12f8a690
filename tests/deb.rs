//! `make deb`: what the package holds, lintian's opinion of it, and its life from installation to
//! purge in a root of its own.

mod root;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Scene, TempDir, find_program, flavor, run_helper};
use root::Root;

const HIGHER: &str = "99.1-1";
/// The machine may have had it, too, or have policies of its own about services.
const CLEAN: &str = "dpkg -P rollforward 2>&1; userdel rollforward 2>&1 || true
    rm -rf /etc/rollforward /var/lib/rollforward /backup /usr/sbin/policy-rc.d";
const UNITS: [&str; 6] = [
    "rollforward@.service",
    "rollforward@.timer",
    "rollforward-failed@.service",
    "rollforward-follow@.service",
    "rollforward-prove@.service",
    "rollforward-prove@.timer",
];

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn skipped(why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    let line = format!("\n*** SKIPPED, {why}: the Debian package ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}

/// Says loudly that a test is skipped; panics where `CI` is set.
fn missing(programs: &[&str]) -> bool {
    let here = |p: &str| find_program(p).is_some() || Path::new("/bin").join(p).exists();
    let all = ["make", "dpkg-deb", "dpkg-shlibdeps", "strip", "cargo"];
    programs
        .iter()
        .chain(&all)
        .any(|p| !here(p) && skipped(&format!("{p} is not installed ('scripts/deps --deb')")))
}

/// Builds the package of our own binary in `dir`; `words` stand before `scripts/deb`. Packing the
/// program tightly takes ten seconds, and no test is about its size.
fn build(words: &str, dir: &Path) -> PathBuf {
    let mut sh = Command::new("sh");
    sh.args(["-euc", &format!("{words} scripts/deb \"$1\""), "sh"]).arg(dir).current_dir(sources());
    sh.env("BIN", env!("CARGO_BIN_EXE_rollforward")).env("DPKG_DEB_COMPRESSOR_LEVEL", "0");
    for name in ["MAKEFLAGS", "DEB_VERSION", "DEBFULLNAME", "DEBEMAIL", "SOURCE_DATE_EPOCH"] {
        sh.env_remove(name);
    }
    let said = run_helper(&mut sh, "");
    PathBuf::from(said.trim_end().lines().last().expect("the package's path"))
}

/// The package that most tests look at, built once.
fn package() -> &'static Path {
    static BUILT: OnceLock<(PathBuf, TempDir)> = OnceLock::new();
    &BUILT
        .get_or_init(|| {
            let dir = TempDir::new("deb");
            (build("", dir.path()), dir)
        })
        .0
}

fn dpkg_deb(args: &[&str]) -> String {
    run_helper(Command::new("dpkg-deb").args(args).arg(package()), "")
}

#[test]
fn a_package_built_twice_is_the_same_byte_by_byte() {
    if missing(&[]) {
        return;
    }
    let dir = TempDir::new("again");
    let words = "umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8 DPKG_DEB_THREADS_MAX=2;";
    let again = build(words, dir.path());
    assert_eq!(again.file_name(), package().file_name());
    assert!(fs::read(again).unwrap() == fs::read(package()).unwrap(), "they differ");
}

#[test]
fn lintian_finds_no_error_and_no_warning() {
    if missing(&["lintian"]) {
        return;
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--display-info"]).arg(package());
    // A program that was not optimised says nothing about how a release is hardened.
    let said = run_helper(&mut lintian, "");
    let wrong: Vec<_> =
        said.lines().filter(|l| l.starts_with("E:") || l.starts_with("W:")).collect();
    assert!(wrong.is_empty(), "{said}");
}

#[test]
fn everything_that_make_install_installs_is_in_the_package() {
    if missing(&[]) {
        return;
    }
    let dir = TempDir::new("staged");
    let mut make = Command::new("make");
    make.arg("-C").arg(sources()).args(["install", "PREFIX=/usr"]);
    make.arg(format!("DESTDIR={}", dir.path().display()));
    make.arg(format!("BIN={}", env!("CARGO_BIN_EXE_rollforward")));
    run_helper(make.env_remove("MAKEFLAGS"), "");
    let mut find = Command::new("find");
    find.arg(dir.path()).args(["!", "-type", "d", "-printf", "./%P %m\n"]);
    let staged = run_helper(&mut find, "");
    let listed = dpkg_deb(&["-c"]);
    let mut packed = BTreeSet::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[1], "root/root", "{line}");
        let mode = match words[0] {
            "drwxr-xr-x" => continue,
            "-rwxr-xr-x" => 755,
            "-rw-r--r--" => 644,
            _ => panic!("an odd mode: {line}"),
        };
        // What is elsewhere belongs to the administrator.
        assert!(words[5].starts_with("./usr/"), "{line}");
        packed.insert(format!("{} {mode}", words[5]));
    }
    for line in staged.lines() {
        let page = line.starts_with("./usr/share/man/");
        let name = if page { line.replace(" 644", ".gz 644") } else { line.to_string() };
        assert!(packed.contains(&name), "{name} is not in the package\n{listed}");
    }
    for page in fs::read_dir(sources().join("man")).unwrap().flatten() {
        let name = page.file_name().into_string().unwrap();
        let (_, section) = name.rsplit_once('.').unwrap();
        let name = format!("./usr/share/man/man{section}/{name}.gz 644");
        assert!(packed.contains(&name), "{name} is not in the package\n{listed}");
    }
    let doc = "./usr/share/doc/rollforward";
    for name in ["copyright", "changelog.Debian.gz", "crates.txt.gz", "examples/rollforward.cnf"] {
        assert!(packed.contains(&format!("{doc}/{name} 644")), "{name}\n{listed}");
    }
}

#[test]
fn the_package_fields_match_and_its_crates_are_named() {
    if missing(&["gzip"]) {
        return;
    }
    let version = dpkg_deb(&["--show", "--showformat=${Version}", "--"]);
    assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), "-1~20")), "{version}");
    let name = package().file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("rollforward_{version}_")), "{name}");
    let fields = dpkg_deb(&["-I"]);
    for field in ["Depends: libc6 (>= ", ", adduser\n", "Recommends: mariadb-server-core | "] {
        assert!(fields.contains(field), "{field}: {fields}");
    }
    let dir = TempDir::new("extracted");
    run_helper(Command::new("dpkg-deb").arg("-x").arg(package()).arg(dir.path()), "");
    let doc = dir.path().join("usr/share/doc/rollforward");
    let copyright = fs::read_to_string(doc.join("copyright")).unwrap();
    let mut gzip = Command::new("gzip");
    let texts = run_helper(gzip.arg("-dc").arg(doc.join("crates.txt.gz")), "");
    // Each crate that Cargo.toml asks for, and none that builds only.
    for name in ["mysql", "signal-hook", "getopts", "log", "simplelog", "zstd", "sha2", "libc"] {
        assert!(copyright.contains(&format!("\n  {name} ")), "{name}: {copyright}");
        assert!(texts.contains(&format!("\n== {name} ")), "{name} has no text");
    }
    assert!(!copyright.contains("\n  cc "), "{copyright}");
    let changelog = doc.join("changelog.Debian.gz");
    let changelog = run_helper(Command::new("gzip").arg("-dc").arg(changelog), "");
    assert!(changelog.starts_with(&format!("rollforward ({version}) ")), "{changelog}");
    for text in [&copyright, &texts, &fields, &changelog] {
        // No word that was to be replaced, and nothing of the place where it was built.
        let word = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_uppercase());
        assert!(!text.split('@').any(word), "{text}");
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")));
    }
}

/// What the machine itself knows of a package, a user and files by our name.
fn outside() -> String {
    let script =
        "dpkg-query -W rollforward 2>&1; getent passwd rollforward; getent group rollforward
        stat -c '%n %U:%G %a %Z' /etc/rollforward /var/lib/rollforward /usr/bin/rollforward \
            /usr/lib/systemd/system/rollforward@.service /usr/lib/sysusers.d/rollforward.conf 2>&1
        true";
    run_helper(Command::new("sh").args(["-c", script]), "")
}

#[test]
fn it_is_installed_upgraded_removed_and_purged_and_data_stays() {
    if missing(&["dpkg", "unshare", "nsenter", "systemd-analyze", "adduser"]) {
        return;
    }
    let before = outside();
    let packages = TempDir::new("packages");
    fs::copy(package(), packages.path().join("first.deb")).unwrap();
    let higher = build(&format!("DEB_VERSION={HIGHER}"), packages.path());
    fs::rename(higher, packages.path().join("higher.deb")).unwrap();
    let Some(root) = Root::new(packages.path()) else { return };
    root.sh(
        "dpkg -P rollforward 2>&1; userdel rollforward 2>&1 || true; rm -f /usr/sbin/policy-rc.d
             rm -rf /etc/rollforward /var/lib/rollforward /backup",
    );

    root.sh("dpkg -i /mnt/first.deb");
    assert_eq!(
        root.sh("rollforward --version").trim_end(),
        concat!("rollforward ", env!("CARGO_PKG_VERSION"))
    );
    // The files are those of the list, as its sums say.
    assert_eq!(root.sh("dpkg --verify rollforward"), "");
    let user = root.sh("getent passwd rollforward");
    let (_, user_is) = user.split_once(":Backups by rollforward").expect(&user);
    assert_eq!(user_is.trim_end(), ":/var/lib/rollforward:/usr/sbin/nologin");
    assert!(root.sh("id -u rollforward").trim().parse::<u32>().unwrap() < 1000, "{user}");
    assert_eq!(
        root.sh("stat -c '%n %U:%G %a' /etc/rollforward /var/lib/rollforward"),
        "/etc/rollforward root:rollforward 750\n/var/lib/rollforward rollforward:rollforward 750\n"
    );
    root.sh(&format!(
        "cd /usr/lib/systemd/system; systemd-analyze verify --recursive-errors=no --man=no {}",
        UNITS.join(" ")
    ));
    assert_eq!(root.sh("find /etc/systemd -name 'rollforward*'"), "", "something is enabled");

    // What an administrator makes of it: the example as option file, modes of his own, a timer.
    root.sh("cd /etc/rollforward
             install -m 640 -g rollforward /usr/share/doc/rollforward/examples/rollforward.cnf db1.cnf
             chmod 710 /etc/rollforward
             install -d -o rollforward -g rollforward -m 700 /backup /backup/db1
             for name in db1 db2; do install -d -o rollforward -m 700 /var/lib/rollforward/$name; done
             echo data >/var/lib/rollforward/db1/data; echo pack >/backup/db1/pack
             systemctl --root=/ enable rollforward@db1.timer 2>&1
             [ -L /etc/systemd/system/timers.target.wants/rollforward@db1.timer ]");
    root.sh("runuser -u rollforward -- cat /etc/rollforward/db1.cnf");
    root.sh("! runuser -u nobody -- cat /etc/rollforward/db1.cnf 2>&1");
    let theirs = root.theirs();
    assert!(theirs.contains("etc/rollforward/db1.cnf root:rollforward 640"), "{theirs}");

    // From here on a service manager seems to run, and what it is told is written down.
    root.sh("mkdir -p /run/systemd/system
             printf '#!/bin/sh\necho \"$@\" >>/tmp/told\n' >/usr/local/sbin/systemctl
             chmod 755 /usr/local/sbin/systemctl");
    let told = || {
        root.sh(
            "grep rollforward@ /tmp/told || true; grep -c daemon-reload /tmp/told; rm /tmp/told",
        )
    };
    root.sh("dpkg -i /mnt/higher.deb");
    assert_eq!(root.sh("dpkg-query -W rollforward"), format!("rollforward\t{HIGHER}\n"));
    assert_eq!(root.theirs(), theirs, "after the upgrade");
    assert_eq!(told(), "2\n", "an upgrade stops no pass");

    root.sh("dpkg -r rollforward");
    root.no_trace_of_the_program();
    assert_eq!(root.theirs(), theirs, "after the removal");
    let all = "rollforward@*.timer rollforward@*.service rollforward-prove@*.timer \
               rollforward-prove@*.service rollforward-follow@*.service";
    assert_eq!(told(), format!("stop {all}\n1\n"));
    let link = "/etc/systemd/system/timers.target.wants/rollforward@db1.timer";
    root.sh(&format!("[ -L {link} ]"));

    // Installed again it goes on where it was, and purge takes away only what is empty.
    root.sh("dpkg -i /mnt/first.deb");
    assert_eq!(root.theirs(), theirs, "after the second installation");
    root.sh(&format!("[ -e {link} ]; dpkg -P rollforward"));
    root.no_trace_of_the_program();
    root.sh(&format!("[ ! -L {link} ]"));
    let left: Vec<_> =
        theirs.lines().filter(|l| !l.starts_with("var/lib/rollforward/db2 ")).collect();
    assert_eq!(root.theirs().lines().collect::<Vec<_>>(), left, "after the purge");
    assert_eq!(root.sh("getent passwd rollforward"), user, "the owner of the data");

    // Without systemd the user comes from adduser and is the same but for the number.
    root.sh("rm -rf /run/systemd /etc/rollforward/* /var/lib/rollforward/* /backup
             rm $(command -v systemd-sysusers)
             userdel rollforward; dpkg -i /mnt/first.deb");
    let by_adduser = root.sh("getent passwd rollforward");
    assert!(by_adduser.contains(":Backups by rollforward"), "{by_adduser}");
    assert!(by_adduser.ends_with(":/var/lib/rollforward:/usr/sbin/nologin\n"), "{by_adduser}");
    root.sh("dpkg -P rollforward");
    root.no_trace_of_the_program();
    assert_eq!(
        root.sh("ls -d /etc/rollforward /var/lib/rollforward 2>&1 || true")
            .matches("cannot access")
            .count(),
        2
    );

    drop(root);
    assert_eq!(outside(), before, "the machine itself was touched");
}

#[test]
fn the_installed_program_backs_up_and_purge_keeps_backups() {
    need_server!();
    // Another server lies where that user may not be able to go.
    if flavor::chosen().bin.is_some() || missing(&["dpkg", "unshare", "nsenter", "setpriv"]) {
        return;
    }
    let scene = Scene::new("deb-pass");
    scene.primary.fill("shop", 2, 200);
    let packages = TempDir::new("packages");
    fs::copy(package(), packages.path().join("first.deb")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_rollforward"), packages.path().join("rollforward")).unwrap();
    let account = fs::read_to_string(&scene.dump).unwrap();
    let options = "[rollforward]\nrepo=/backup/db1\nscratch=/var/lib/rollforward/db1\n\
                   first-backup=dump\njobs=2\n";
    fs::write(packages.path().join("db1.cnf"), format!("{account}\n{options}")).unwrap();
    let Some(root) = Root::new(packages.path()) else { return };
    root.sh(CLEAN);
    root.sh("dpkg -i /mnt/first.deb
             install -m 640 -g rollforward /mnt/db1.cnf /etc/rollforward/db1.cnf
             install -d -o rollforward -g rollforward -m 700 /backup");
    // As cron would, without a unit. Nothing in between, so that it dies with us.
    root.sh("exec setpriv --reuid=rollforward --regid=rollforward --init-groups --pdeathsig=KILL \
             rollforward run --defaults-file=/etc/rollforward/db1.cnf 2>&1");
    assert_eq!(root.sh("find /backup/db1/backups -type f -printf '%u %m\n'"), "rollforward 600\n");
    let backups = root.sh("cd /backup; find . -type f -exec sha256sum {} + | sort");
    root.sh("dpkg -P rollforward");
    root.no_trace_of_the_program();
    assert_eq!(root.sh("cd /backup; find . -type f -exec sha256sum {} + | sort"), backups);
    root.sh("/mnt/rollforward verify --repo=/backup/db1 2>&1; [ -f /etc/rollforward/db1.cnf ]");
}

//! What is made once and copied for each test: a freshly installed data directory, and more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{find_program, flavor, is_root, run_helper};

/// Options that change what is on disk: the same at installation and at every start.
const FORMAT: [&str; 2] = ["--innodb-log-file-size=16M", "--innodb-fast-shutdown=1"];

/// The same in the server's words.
pub fn format() -> impl Iterator<Item = String> {
    FORMAT.into_iter().filter_map(flavor::option)
}

/// `mariadbd` with `--no-defaults` and, for root, the switch that lets it run as such.
pub fn mariadbd() -> Command {
    server(&program())
}

/// The server program of this run.
pub fn program() -> PathBuf {
    find_program("mariadbd").expect("mariadbd")
}

/// The same with any server program.
pub fn server(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--no-defaults");
    if is_root() {
        command.arg("--user=root");
    }
    command
}

/// Copies the template to `datadir`, which must not exist; makes the template if need be.
pub fn copy_to(datadir: &Path) {
    let template = made_once("template", "1", |half| {
        install(half, &[]);
        let _ = fs::remove_dir_all(half.with_file_name("template-tmp"));
    });
    copy(&template, datadir);
    // Each server makes its own uuid.
    let _ = fs::remove_file(datadir.join("auto.cnf"));
}

/// Copies a directory with all that is in it; `to` must not exist.
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-a", "--sparse=always", "--reflink=auto", "--"]).arg(from).arg(to);
    run_helper(&mut copy, "");
}

/// The directory that `make` makes, for this server and whatever else `key` stands for; it is
/// there already if a test has asked for it before, in this process or another.
pub fn made_once(what: &str, key: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(cache).unwrap();
    let version = run_helper(mariadbd().arg("--version"), "");
    let version: String = version
        .split_once("Ver ")
        .map_or(version.as_str(), |(_, v)| v)
        .split_whitespace()
        .next()
        .unwrap_or("unknown")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c))
        .collect();
    let series = format!("{what}-{version}-");
    let ready = cache.join(format!("{series}{key}"));
    // Held until the function returns; another test process waits here meanwhile.
    let lock = File::create(cache.join(format!("{what}.lock"))).unwrap();
    lock.lock().unwrap();
    if ready.exists() {
        return ready;
    }
    for old in fs::read_dir(cache).unwrap().flatten() {
        if old.file_name().to_string_lossy().starts_with(&series) {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let half = cache.join(format!("{what}-half"));
    let _ = fs::remove_dir_all(&half);
    make(&half);
    fs::rename(&half, &ready).unwrap();
    ready
}

/// Makes a data directory with further options.
pub fn install(datadir: &Path, more: &[&str]) {
    if flavor::is_mysql() {
        let mut command = flavor::initialize_mysql(mariadbd(), datadir);
        command.args(flavor::always()).args(format()).args(more);
        run_helper(&mut command, "");
        return;
    }
    let mut command = Command::new(find_program("mariadb-install-db").expect("install-db"));
    command.arg("--no-defaults").arg(format!("--datadir={}", datadir.display()));
    if let Some(bin) = &flavor::chosen().bin {
        // Its own files, not the system's.
        let script = bin.join("mariadb-install-db").canonicalize().unwrap();
        let base = script.parent().and_then(Path::parent).unwrap();
        command.arg(format!("--basedir={}", base.display()));
    }
    command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
    command.args(["--skip-name-resolve", "--force"]).args(format()).args(more);
    // Its own: a server removes the temporary tables of all others that share it.
    let tmp = datadir.with_file_name("template-tmp");
    let _ = fs::create_dir(&tmp);
    let tmp = format!("--tmpdir={}", tmp.display());
    command.arg(&tmp);
    if is_root() {
        command.arg("--user=root");
    }
    run_helper(&mut command, "");
    // The anonymous account would win over 'user'@'%' for connections from this host.
    let mut bootstrap = mariadbd();
    bootstrap
        .arg(format!("--datadir={}", datadir.display()))
        .arg("--bootstrap")
        .arg(tmp)
        .args(format())
        .args(more);
    run_helper(
        &mut bootstrap,
        "USE mysql;\nDELETE FROM global_priv WHERE User = '';\nDELETE FROM db WHERE User = '';\n",
    );
}

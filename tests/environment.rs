//! No child speaks to a server that was not named, whatever the environment of the program and the
//! files of its user say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    CLONE, DUMP, NIGHTLY, PASSWORD, Primary, Replica, Rollforward, Scene, find_program, flavor,
};

/// A second server that lets everybody in who would come by mistake, and the environment and files
/// that lead there.
struct Trap {
    server: Primary,
    home: PathBuf,
}

impl Trap {
    fn new(scene: &Scene) -> Trap {
        let server = Primary::start("bystander");
        for account in [NIGHTLY, DUMP] {
            server.create_account(account);
        }
        server.sql("CREATE USER root@'%'; GRANT ALL ON *.* TO root@'%'");
        server.sql("CREATE DATABASE precious; CREATE TABLE precious.t (id INT PRIMARY KEY)");
        let home = scene.path("home");
        fs::create_dir(&home).unwrap();
        let options =
            format!("[client]\nhost=127.0.0.1\nport={}\nprotocol=tcp\nuser=root\n", server.port());
        for name in [".my.cnf", "my.cnf"] {
            fs::write(home.join(name), &options).unwrap();
        }
        if flavor::is_mysql() {
            write_login_file(&home, server.port());
        }
        Trap { server, home }
    }

    /// The program with every variable that leads to the other server.
    fn lead_astray(&self, program: Rollforward) -> Rollforward {
        let port = self.server.port().to_string();
        program
            .env("MYSQL_HOST", "127.0.0.1")
            .env("MARIADB_HOST", "127.0.0.1")
            .env("MYSQL_TCP_PORT", &port)
            .env("MARIADB_TCP_PORT", &port)
            .env("MYSQL_UNIX_PORT", self.server.socket())
            .env("MARIADB_UNIX_PORT", self.server.socket())
            .env("MYSQL_HOME", &self.home)
            .env("MARIADB_HOME", &self.home)
            .env("MYSQL_PWD", PASSWORD)
            .env("HOME", &self.home)
    }

    fn connections(&self) -> String {
        self.server.record("SHOW GLOBAL STATUS LIKE 'Connections'").unwrap()["Value"].clone()
    }
}

/// `~/.mylogin.cnf` with a login path `client`, as MySQL's own tool writes it.
fn write_login_file(home: &Path, port: u16) {
    let tool = find_program("mysql_config_editor").expect("mysql_config_editor");
    let mut command = Command::new(tool);
    flavor::path_for(&mut command);
    let status = command
        .args(["set", "--login-path=client", "--host=127.0.0.1", "--user=root"])
        .arg(format!("--port={port}"))
        .env("HOME", home)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() && home.join(".mylogin.cnf").exists(), "{status}");
}

#[test]
fn no_child_speaks_to_a_server_that_was_not_named() {
    need_server!();
    let scene = Scene::new("trap");
    scene.primary.fill("shop", 2, 200);
    let trap = Trap::new(&scene);
    let before = trap.connections();
    let run = |command: &str, args: &[&str]| {
        let program = trap.lead_astray(scene.command(command).args(args));
        program.run_to_end(COMMAND_PATIENCE).expect(0)
    };
    run("seed", &["--from", "dump"]);
    assert_eq!(trap.connections(), before, "the seed");
    if flavor::is_mysql() {
        scene.primary.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
        scene.primary.create_account(CLONE);
        scene.primary.write_option_file(&scene.dump, CLONE);
        run("seed", &["--from", "clone"]);
        assert_eq!(trap.connections(), before, "the clone");
    }
    scene.primary.backlog("shop", 50);
    run("run", &[]);
    assert_eq!(trap.connections(), before, "the pass");
    let restored = scene.path("restored");
    run("restore", &["--to", restored.to_str().unwrap()]);
    run("verify", &[]);
    assert_eq!(trap.connections(), before, "the rest");
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    scene.assert_nothing_left();
}

#[test]
fn an_upgrade_speaks_to_its_own_server_only() {
    need_server!();
    let Some(newer) = flavor::newer_mariadbd() else { return };
    let scene = Scene::seeded("trap-upgrade");
    let trap = Trap::new(&scene);
    let before = trap.connections();
    let program = scene.command("run").arg("--allow-upgrade").arg("--mysqld").arg(newer);
    trap.lead_astray(program).run_to_end(COMMAND_PATIENCE).expect(0).says("upgraded the data of ");
    assert_eq!(trap.connections(), before);
    scene.assert_nothing_left();
}

#[test]
fn a_child_inherits_only_what_is_named() {
    need_server!();
    let scene = Scene::seeded("environment");
    let dir = scene.path("noted");
    fs::create_dir(&dir).unwrap();
    let hook = dir.join("hook");
    let note = format!("#!/bin/sh\ntr '\\0' '\\n' </proc/self/environ >{}/noted\n", dir.display());
    fs::write(&hook, note).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    scene.primary.slow_backlog("shop", 60, 0.05);
    let mut pass = scene
        .command("run")
        .arg(format!("--before={}", hook.display()))
        .env("SECRET_OF_THE_SHELL", PASSWORD)
        .env("MYSQL_HOST", "db9")
        .env("LD_LIBRARY_PATH", "/nowhere")
        .env("TZ", "Asia/Tokyo")
        .spawn();
    let mysqld = pass.wait_for_mysqld(COMMAND_PATIENCE);
    let of_mysqld = fs::read_to_string(format!("/proc/{mysqld}/environ")).unwrap();
    let of_hook = fs::read_to_string(dir.join("noted")).unwrap();
    pass.finish(COMMAND_PATIENCE).expect(0);
    let names = |text: &str| -> Vec<String> {
        let variables = text.split(['\0', '\n']).filter_map(|v| v.split_once('='));
        variables.map(|(name, _)| name.to_string()).collect()
    };
    let (mysqld, hook) = (names(&of_mysqld), names(&of_hook));
    let inherited =
        ["PATH", "TZ", "TMPDIR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"];
    // What the shell that notes sets itself, and what mysqld is told.
    let own = ["PWD", "OLDPWD", "SHLVL", "_", "UMASK", "UMASK_DIR", "MALLOC_ARENA_MAX"];
    for name in &mysqld {
        assert!(inherited.contains(&&**name) || own.contains(&&**name), "mysqld has {name}");
    }
    let person = ["HOME", "USER", "LOGNAME", "SHELL"];
    for name in &hook {
        let known =
            inherited.contains(&&**name) || own.contains(&&**name) || person.contains(&&**name);
        assert!(known || name.starts_with("ROLLFORWARD_"), "the hook has {name}");
    }
    assert!(mysqld.contains(&"TZ".into()) && hook.contains(&"TZ".into()));
}

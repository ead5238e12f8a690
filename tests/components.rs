//! MySQL data that is encrypted, or that names a component, where the private server has neither:
//! what is missing is named, and what to do about it. MariaDB has no components.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Outcome, Rollforward, Scene, Server, TempDir, find_program, flavor};

/// A program and a plugin directory of their own, with a keyring that is set up.
struct Keyring {
    dir: TempDir,
}

impl Keyring {
    fn new() -> Keyring {
        let dir = TempDir::new("keyring");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("plugins")).unwrap();
        // The manifest is looked for beside the name that the program is called by.
        symlink(find_program("mariadbd").unwrap(), at("mysqld")).unwrap();
        let manifest = "{ \"components\": \"file://component_keyring_file\" }";
        fs::write(at("mysqld.my"), manifest).unwrap();
        let keys = at("keys").display().to_string();
        let settings = format!("{{ \"path\": \"{keys}\", \"read_only\": false }}");
        fs::write(at("plugins/component_keyring_file.cnf"), settings).unwrap();
        let keyring = Keyring { dir };
        keyring.link("component_keyring_file.so");
        keyring
    }

    /// Lets it have one of the packages' components.
    fn link(&self, name: &str) {
        let program = find_program("mariadbd").unwrap().canonicalize().unwrap();
        let usr = program.parent().and_then(Path::parent).unwrap();
        let from = ["lib/mysql/plugin", "lib64/mysql/plugin"].map(|d| usr.join(d).join(name));
        let from = from.iter().find(|p| p.exists()).unwrap_or_else(|| panic!("no {name}"));
        symlink(from, self.dir.path().join("plugins").join(name)).unwrap();
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("mysqld")
    }

    fn plugins(&self) -> String {
        format!("--plugin-dir={}", self.dir.path().join("plugins").display())
    }
}

/// A stopped server's data, changed by a server with the keyring that runs `statements` at its
/// start.
fn data_with(scene: &mut Scene, keyring: &Keyring, statements: &str, more: &[&str]) -> PathBuf {
    let data = scene.path("data");
    scene.primary.stop();
    crate::support::repository::copy(scene.primary.datadir(), &data);
    let init = scene.path("init.sql");
    // One statement a line; the last one ends the server.
    fs::write(&init, format!("{statements}\nSHUTDOWN;\n")).unwrap();
    let mut server = Command::new(keyring.program());
    server.args(["--no-defaults", "--user=root", "--skip-networking", "--skip-log-bin"]);
    server.args(flavor::always()).args(more).arg(keyring.plugins());
    server.arg(format!("--init-file={}", init.display()));
    let at = |name: &str, file: &str| format!("--{name}={}", scene.path(file).display());
    server.args([at("datadir", "data"), at("socket", "s"), at("pid-file", "pid")]);
    server.arg(at("log-error", "own.err"));
    crate::support::run_helper(&mut server, "");
    let log = fs::read_to_string(scene.path("own.err")).unwrap();
    assert!(!log.contains("[ERROR]"), "{log}");
    data
}

fn adopt(scene: &Scene, data: &Path, program: &Path, plugins: Option<String>) -> Outcome {
    let from = format!("--from=dir:{}", data.display());
    Rollforward::new(["seed", &from])
        .arg("--repo")
        .arg(&scene.repo)
        .arg("--scratch")
        .arg(&scene.scratch)
        .arg("--mysqld")
        .arg(program)
        .args(plugins.map(|p| format!("--mysqld-option={p}")))
        .scratch(&scene.scratch)
        .run_to_end(COMMAND_PATIENCE)
}

#[test]
fn a_missing_keyring_is_named_with_what_is_encrypted() {
    need_server!();
    if !flavor::is_mysql() {
        // MariaDB has no components, and its mysqld.my is a file like any other.
        let mut scene = Scene::new("manifest");
        scene.primary.stop();
        let data = scene.primary.datadir().to_path_buf();
        fs::write(data.join("mysqld.my"), "{ \"components\": \"file://component_x\" }").unwrap();
        adopt(&scene, &data, &find_program("mariadbd").unwrap(), None).expect(0);
        return;
    }
    let mut scene = Scene::new("encrypted");
    let keyring = Keyring::new();
    scene.primary.fill("shop", 1, 100);
    let data = data_with(&mut scene, &keyring, "ALTER TABLE shop.t0 ENCRYPTION = 'Y';", &[]);
    let plain = find_program("mariadbd").unwrap();
    let lacking = adopt(&scene, &data, &plain, None).expect(2);
    let lacking = lacking.says("./shop/t0.ibd cannot be decrypted").says("no keyring with the key");
    lacking.says("mysqld.my next to the --mysqld program");
    assert!(scene.backups().is_empty());
    // The way out that it names.
    adopt(&scene, &data, &keyring.program(), Some(keyring.plugins())).expect(0);
    assert_eq!(scene.backups().len(), 1);

    fs::remove_dir_all(&data).unwrap();
    let all = "ALTER TABLESPACE mysql ENCRYPTION = 'Y';";
    let data = data_with(&mut scene, &keyring, all, &[]);
    adopt(&scene, &data, &plain, None).expect(1).says("mysql.ibd cannot be decrypted");
    fs::remove_dir_all(&data).unwrap();
    let redo = ["--innodb-redo-log-encrypt=ON"];
    let data = data_with(&mut scene, &keyring, "CREATE DATABASE more;", &redo);
    adopt(&scene, &data, &plain, None).expect(1).says("the redo log cannot be decrypted");
    assert_eq!(scene.backups().len(), 1);
}

#[test]
fn a_component_that_is_missing_is_named() {
    need_server!();
    if !flavor::is_mysql() {
        // It has no such thing: see the other test.
        return;
    }
    let mut scene = Scene::new("component");
    let keyring = Keyring::new();
    keyring.link("component_validate_password.so");
    let install = "INSTALL COMPONENT 'file://component_validate_password';";
    let data = data_with(&mut scene, &keyring, install, &[]);
    let none = scene.path("none");
    fs::create_dir(&none).unwrap();
    let without = Some(format!("--plugin-dir={}", none.display()));
    // It starts without one that a table names, and so do we, not silently.
    let warned = adopt(&scene, &data, &find_program("mariadbd").unwrap(), without.clone());
    warned.expect(0).says("cannot load component_validate_password, which mysql.component names");
    // And not without one that its manifest names.
    let refused = adopt(&scene, &data, &keyring.program(), without).expect(1);
    let manifest = keyring.program().with_file_name("mysqld.my");
    let says = format!("cannot load component_keyring_file, listed in {}", manifest.display());
    refused.says(&says);
    assert_eq!(scene.backups().len(), 1);
}

/// The key stays as it is where it cannot be made anew, in a pass and in a replay.
#[test]
fn a_rotation_of_the_master_key_is_passed_over() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let mut scene = Scene::seeded("rotation");
    let keyring = Keyring::new();
    scene.primary.sql("CREATE DATABASE keys1; CREATE TABLE keys1.t (a INT PRIMARY KEY)");
    let logs =
        ["--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--server-id=1"];
    let rotation = "ALTER INSTANCE ROTATE INNODB MASTER KEY;";
    let statements = format!("{rotation}\nINSERT INTO keys1.t VALUES (1);\n{rotation}");
    let data = data_with(&mut scene, &keyring, &statements, &logs);
    fs::remove_dir_all(scene.primary.datadir()).unwrap();
    crate::support::repository::copy(&data, scene.primary.datadir());
    scene.primary.restart();
    scene.primary.sql("INSERT INTO keys1.t VALUES (2)");
    let goal = scene.primary.gtid_pos();
    let ended = scene.run().expect(0);
    assert_eq!(ended.stderr.matches("rotates the master key of InnoDB").count(), 2, "{ended}");
    assert_eq!(scene.newest_position(), goal);
    let last = format!("before:{}", goal.replacen(":1-", ":", 1));
    let (ended, to) = crate::until::until(&scene, &last);
    let ended = ended.expect(0);
    assert_eq!(ended.stderr.matches("rotates the master key of InnoDB").count(), 2, "{ended}");
    let restored = Server::start_on(&to);
    assert_eq!(restored.value("SELECT GROUP_CONCAT(a) FROM keys1.t"), "1");
}

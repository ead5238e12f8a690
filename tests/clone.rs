//! The first backup by MySQL's CLONE: what it holds, what keeps it from being begun, and what may
//! happen in its middle. MariaDB has no CLONE: there each of these is refused.

use std::fs;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::small_disk::SmallDisk;
use crate::support::writer::STEADY;
use crate::support::{
    CLONE, Certificates, Outcome, PASSWORD, PATIENCE, Proxy, Replica, Rollforward, Running, Scene,
    Writer, alive, flavor, kill, processes_under, rows, wait_until,
};

const MIB: u64 = 1 << 20;
/// Less in the middle than in all of an empty primary, which is some 60 MiB.
const SLOW: u64 = 600 << 10;

/// A scene whose primary can be cloned; `None` on MariaDB, where it is seen that it cannot.
fn cloneable(name: &str) -> Option<Scene> {
    cloneable_with(name, &[])
}

fn cloneable_with(name: &str, primary_args: &[&str]) -> Option<Scene> {
    if !flavor::is_mysql() {
        static ONCE: Once = Once::new();
        ONCE.call_once(refused_by_mariadb);
        return None;
    }
    let scene = Scene::with(name, primary_args);
    scene.primary.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    scene.primary.create_account(CLONE);
    scene.primary.write_option_file(&options(&scene), CLONE);
    Some(scene)
}

fn options(scene: &Scene) -> PathBuf {
    scene.path("clone.cnf")
}

fn refused_by_mariadb() {
    let scene = Scene::new("mariadb");
    scene.primary.fill("shop", 1, 10);
    let commands = [("seed", "--from=clone"), ("run", "--first-backup=clone")];
    for (command, how) in commands {
        let ended = scene.command(command).arg(how).run_to_end(COMMAND_PATIENCE).expect(2);
        let ended = ended.says("error: configuration: primary 127.0.0.1:");
        let ended = ended.says("is MariaDB, and only MySQL has CLONE: ").says("--from dump");
        assert!(!ended.stderr.contains(PASSWORD), "{ended}");
        assert_nothing_written(&scene, &ended);
    }
    // With a backup there nothing is cloned, and nothing refused.
    scene.seed();
    scene.command("run").arg("--first-backup=clone").run_to_end(COMMAND_PATIENCE).expect(0);
}

fn seed(scene: &Scene) -> Rollforward {
    scene.command("seed").args(["--from", "clone", "--defaults-file"]).arg(options(scene))
}

fn first_run(scene: &Scene) -> Rollforward {
    scene.command("run").args(["--first-backup=clone", "--defaults-file"]).arg(options(scene))
}

#[track_caller]
fn assert_nothing_written(scene: &Scene, ended: &Outcome) {
    assert!(!scene.has_scratch_data() && scene.backups().is_empty(), "{ended}");
    assert!(!scene.scratch.join("mysqld.log").exists(), "{ended}");
    assert!(ended.wall < Duration::from_secs(15), "{ended}");
    scene.assert_nothing_left();
}

/// Waits until some of the data has come.
#[track_caller]
fn in_the_middle(pass: &mut Running) {
    pass.wait_for_checkpoint("bytes of the clone", PATIENCE * 2, |c| {
        let (done, total) = (c.number("bytes_done")?, c.number("bytes_total")?);
        (c.get("phase") == Some("seed") && done > 0 && total > done).then_some(())
    });
}

/// A minute and more, in few attempts, each of which starts a server.
const PATIENT: [&str; 3] = ["--max-failures=20", "--backoff-base=4s", "--backoff-cap=15s"];

#[test]
fn a_clone_under_load_equals_a_replica() {
    need_server!();
    let Some(scene) = cloneable("load") else { return };
    let replica = Replica::start(&scene.primary);
    scene.primary.fill("shop", 5, rows(15_000) / 5);
    scene
        .primary
        .sql("CREATE USER app IDENTIFIED BY 'app-Passw0rd'; GRANT SELECT ON shop.* TO app");
    let writer = Writer::start_with(&scene.primary, "live", STEADY, true);
    writer.wait_for_more(200);
    let ended = seed(&scene).run_to_end(COMMAND_PATIENCE).expect(0).says("cloned 127.0.0.1:");
    assert!(ended.log().len() < 12, "a screenful at most; {ended}");
    assert!(!ended.stderr.contains("died"), "its planned end is no death; {ended}");
    let backup = scene.backups().pop().unwrap();
    scene.assert_newest_equals(&replica);
    // Nothing of the server that received it, nor of the clone.
    let restored = scene.restore(None);
    for name in ["auto.cnf", "#clone", "ibdata1.#clone"] {
        assert!(!restored.join(name).exists(), "{name} is in the backup");
    }
    assert!(
        !fs::read_to_string(scene.repo.join("backups").join(&backup)).unwrap().contains("\nbase ")
    );
    scene.run().expect(0).says(&format!("restored {backup}"));
    assert!(writer.stop() > 200);
    scene.assert_newest_equals(&replica);
    assert!(!scene.has_scratch_data());
    scene.assert_nothing_left();
}

#[test]
fn a_first_pass_by_clone_stores_one_backup() {
    need_server!();
    let Some(scene) = cloneable("first") else { return };
    scene.primary.fill("shop", 2, 500);
    let writer = Writer::start(&scene.primary, "live");
    writer.wait_for_more(50);
    first_run(&scene).run_to_end(COMMAND_PATIENCE).expect(0).says("cloned ").says("caught up");
    writer.stop();
    assert_eq!(scene.backups().len(), 1);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // With a backup there it is a pass like any other, also without the privilege.
    let program = scene.command("run").arg("--first-backup=clone");
    program.run_to_end(COMMAND_PATIENCE).expect(0).says("restored ");
    scene.assert_nothing_left();
}

#[test]
fn obstacles_to_a_clone_are_named_before_writing() {
    need_server!();
    let Some(scene) = cloneable("lacks") else { return };
    scene.primary.fill("shop", 1, 10);
    let both = |status: i32, says: &[&str]| {
        for program in [seed(&scene), first_run(&scene)] {
            let ended = program.run_to_end(COMMAND_PATIENCE).expect(status);
            let last = ended.log().last().unwrap().to_string();
            assert!(says.iter().all(|s| last.contains(s)), "{says:?} in {ended}");
            assert_eq!(scene.checkpoint().get("exit_status"), Some(status.to_string().as_str()));
            assert_nothing_written(&scene, &ended);
        }
    };
    let sql = |text: &str| drop(scene.primary.sql(text));
    for privilege in CLONE.grants.split(", ") {
        sql(&format!("REVOKE {privilege} ON *.* FROM {}", CLONE.user));
        let lacks = format!(
            "the account {} lacks {privilege}; run there: GRANT {privilege} ON",
            CLONE.user
        );
        both(1, &["error: access-denied: ", &lacks]);
        sql(&format!("GRANT {privilege} ON *.* TO {}", CLONE.user));
    }
    sql("UNINSTALL PLUGIN clone");
    both(2, &["error: configuration: ", "INSTALL PLUGIN clone SONAME 'mysql_clone.so'"]);
    sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'");
    // What it would leave empty is found at once by an account that sees it.
    sql("CREATE TABLE shop.old (n INT) ENGINE=MyISAM");
    sql(&format!("GRANT SELECT ON shop.* TO {}", CLONE.user));
    both(2, &["error: configuration: ", "table shop.old (MyISAM) would be empty", "by dump"]);
    sql(&format!("REVOKE SELECT ON shop.* FROM {}", CLONE.user));
    // And by one that does not, afterwards: then nothing of it stays.
    let ended = seed(&scene).run_to_end(COMMAND_PATIENCE).expect(2);
    let ended = ended.says("table shop.old (MyISAM) would be empty");
    assert!(!scene.has_scratch_data() && scene.backups().is_empty(), "{ended}");
    scene.assert_nothing_left();
    sql("DROP TABLE shop.old");
    // The login of MySQL's clone asks for the public key whatever we say.
    let file = fs::read_to_string(options(&scene)).unwrap();
    let file = file.replace("get-server-public-key\n", "");
    let public_key = scene.primary.datadir().join("public_key.pem");
    let by_key =
        format!("{file}ssl-mode=DISABLED\nserver-public-key-path={}\n", public_key.display());
    fs::write(options(&scene), by_key).unwrap();
    both(2, &["error: configuration: ", "without TLS, CLONE", "ssl-mode=REQUIRED"]);
    // With TLS, which is used where it is offered, there is nothing to set.
    for (count, lines) in [(1, ""), (2, "ssl-mode=REQUIRED\n")] {
        fs::write(options(&scene), format!("{file}{lines}")).unwrap();
        seed(&scene).run_to_end(COMMAND_PATIENCE).expect(0);
        assert_eq!(scene.backups().len(), count);
    }
}

#[test]
fn a_clone_refuses_certificates_it_cannot_check_by_name() {
    need_server!();
    let certificates = Certificates::make();
    let shown = certificates.options("server");
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let Some(scene) = cloneable_with("tls", &shown) else { return };
    scene.primary.fill("shop", 1, 10);
    let file = fs::read_to_string(options(&scene)).unwrap();
    let ca = certificates.path("ca.pem");
    fs::write(options(&scene), format!("{file}ssl-ca={}\n", ca.display())).unwrap();
    let ended = seed(&scene).run_to_end(COMMAND_PATIENCE).expect(2);
    let ended = ended.says("error: configuration: CLONE cannot check the name in a certificate");
    assert_nothing_written(&scene, &ended);
    // With TLS and without the password is not readable, nor under TLS is the data.
    for (tls, lines) in [(false, "ssl-mode=DISABLED\n"), (true, "")] {
        let marker = format!("marker-of-{}", u8::from(tls));
        scene.primary.sql(&format!("CREATE TABLE shop.m{} (t VARCHAR(40))", u8::from(tls)));
        scene.primary.sql(&format!("INSERT INTO shop.m{} VALUES ('{marker}')", u8::from(tls)));
        // Forgets what it knows of passwords, so that it wants the whole.
        scene.primary.sql("FLUSH PRIVILEGES");
        fs::write(options(&scene), format!("{file}{lines}")).unwrap();
        let proxy = Proxy::recording(&scene.primary);
        let program = seed(&scene).args(["--primary", &proxy.address()]);
        program.run_to_end(COMMAND_PATIENCE).expect(0);
        assert!(proxy.recorded() > 1 << 20, "nothing went through the proxy");
        assert_eq!(proxy.saw(&marker), !tls, "{marker}");
        assert_eq!(proxy.saw(CLONE.user), !tls, "the name");
        assert!(!proxy.saw(PASSWORD), "the password with '{lines}'");
    }
}

#[test]
fn a_mysqld_killed_while_cloning_counts_and_cloning_restarts() {
    need_server!();
    let Some(scene) = cloneable("killed") else { return };
    scene.primary.fill("shop", 1, 500);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(SLOW);
    // The donor may take a minute until it has noticed, and takes one recipient at a time.
    let seed_by = seed(&scene).args(["--primary", &proxy.address()]).args(PATIENT);
    let mut pass = seed_by.spawn();
    in_the_middle(&mut pass);
    kill(pass.wait_for_mysqld(PATIENCE), libc::SIGKILL);
    pass.wait_for_log("warning: mysqld-died: ", PATIENCE);
    proxy.slow_down(u64::MAX);
    let ended = pass.finish(COMMAND_PATIENCE).expect(0).says("killed by signal 9");
    assert_eq!(ended.stderr.matches("mysqld-died").count(), 1, "{ended}");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // One that is shut down by somebody has not ended as planned either.
    proxy.slow_down(SLOW);
    let mut pass = seed(&scene).args(["--max-failures=0", "--primary", &proxy.address()]).spawn();
    in_the_middle(&mut pass);
    kill(pass.wait_for_mysqld(PATIENCE), libc::SIGTERM);
    pass.finish(COMMAND_PATIENCE).expect(75).says("error: mysqld-died: ");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
}

#[test]
fn a_stop_while_cloning_is_immediate_and_leaves_nothing() {
    need_server!();
    let Some(scene) = cloneable("stop") else { return };
    scene.primary.fill("shop", 1, 500);
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(SLOW);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let first = first_run(&scene).args(["--primary", &proxy.address()]);
        let mut pass = first.args(PATIENT).spawn();
        in_the_middle(&mut pass);
        let mysqld = pass.wait_for_mysqld(PATIENCE);
        pass.kill(signal);
        let ended = pass.finish(Duration::from_secs(20)).expect(128 + signal);
        assert!(!alive(mysqld), "{ended}");
        let checkpoint = scene.checkpoint();
        assert_eq!(checkpoint.get("state"), Some("stopped"), "{ended}");
        assert_eq!(checkpoint.get("cause"), Some("interrupted"), "{ended}");
        assert!(scene.backups().is_empty(), "{ended}");
        assert!(!scene.scratch.join("mysqld.sock").exists(), "{ended}");
        assert!(scene.files_with(&scene.scratch, PASSWORD).is_empty(), "{ended}");
        scene.assert_nothing_left();
    }
    // The primary has let go of it, too.
    wait_until("the end of the clone on the primary", PATIENCE, || {
        let still = "SELECT COUNT(*) FROM performance_schema.processlist WHERE user = 'rf_clone'";
        scene.primary.value(still) == "0"
    });
    proxy.slow_down(u64::MAX);
    // Though its session is gone, the donor may still take no other recipient for a minute.
    let program = first_run(&scene).args(["--primary", &proxy.address()]).args(PATIENT);
    program.run_to_end(COMMAND_PATIENCE * 2).expect(0);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_primary_lost_or_silent_while_cloning_is_counted() {
    need_server!();
    let Some(scene) = cloneable("gone") else { return };
    scene.primary.fill("shop", 1, 500);
    let proxy = Proxy::start(&scene.primary);
    let program = || seed(&scene).args(["--primary", &proxy.address()]);
    proxy.slow_down(SLOW);
    let mut pass = program().spawn();
    in_the_middle(&mut pass);
    proxy.cut();
    pass.wait_for_log("warning: primary-unreachable: ", PATIENCE * 2);
    proxy.slow_down(u64::MAX);
    proxy.mend();
    pass.finish(COMMAND_PATIENCE).expect(0);
    assert_eq!(scene.backups().len(), 1);
    proxy.slow_down(SLOW);
    let mut pass = program().args(["--stall-timeout=3s", "--max-failures=0"]).spawn();
    in_the_middle(&mut pass);
    proxy.swallow();
    let ended = pass.finish(COMMAND_PATIENCE).expect(75).says("error: stalled: no progress for");
    assert!(ended.stderr.contains("the clone of the primary, at "), "{ended}");
    assert_eq!(scene.backups().len(), 1);
    scene.assert_nothing_left();
}

#[test]
fn a_disk_too_small_for_the_clone_is_told() {
    need_server!();
    let Some(scene) = cloneable("disk") else { return };
    scene.primary.fill("shop", 4, 60_000);
    // Its statistics would come by themselves, some time.
    scene.primary.sql("ANALYZE TABLE shop.t0, shop.t1, shop.t2, shop.t3");
    let see = |how: &str| drop(scene.primary.sql(&format!("{how} rf_clone")));
    // Enough for an empty server, and not for the primary.
    for sees in [true, false] {
        see(if sees { "GRANT SELECT ON *.* TO" } else { "REVOKE SELECT ON *.* FROM" });
        let disk = SmallDisk::new("small", 300 * MIB);
        let scratch = disk.path("scratch");
        let program = seed(&scene).arg("--scratch").arg(&scratch).scratch(&scratch);
        let program = program.args(Scene::usual_log()).args(disk.server_options());
        let ended = program.under(disk.wrapper()).run_to_end(COMMAND_PATIENCE).expect(1);
        let ended = ended.says("error: disk-full: no space left on the file system of ");
        let ended = ended.says(" MiB needed; free some space there, or use another --scratch");
        assert!(!scratch.join("data").exists() && scene.backups().is_empty(), "{ended}");
        assert_eq!(scratch.join("mysqld.log").exists(), !sees, "before anything: {ended}");
        assert!(processes_under(&scratch).is_empty(), "{ended}");
    }
}

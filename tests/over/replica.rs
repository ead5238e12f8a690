//! The file that makes a server on restored data a replica.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::LONG;
use crate::support::{
    NIGHTLY, PASSWORD, Scene, Server, find_program, flavor, run_helper, wait_until,
};

/// Has the server's own client read the file, after `first`.
#[track_caller]
fn source(server: &Server, first: &str, file: &Path) -> String {
    let client = find_program("mariadb").expect("a client");
    let mut command = Command::new(client);
    // MySQL 9's client reads no other file unless it is told that it may.
    command.args(["--no-defaults", flavor::either("--skip-ssl", "--commands"), "--user=root"]);
    command.arg("--socket").arg(server.socket());
    run_helper(&mut command, &format!("{first}\nsource {}\n", file.display()))
}

#[test]
fn a_restored_server_follows_after_the_file_is_read() {
    need_server!();
    let scene = Scene::new("replica");
    scene.primary.fill("shop", 1, 100);
    scene
        .primary
        .sql("CREATE EVENT shop.`by ``dump` ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01 00:00:00' DO DELETE FROM shop.t0");
    scene.seed();
    let event = "CREATE EVENT shop.later ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01 00:00:00' DO DELETE FROM shop.t0";
    scene.primary.sql(event);
    scene.run().expect(0);
    let to = scene.path("replica");
    let restore = scene.command("restore").arg("--replica").arg("--to").arg(&to);
    // Of whom?
    restore.run_to_end(LONG).expect(2).says("--primary");
    assert!(!to.exists());
    let restore = restore.arg("--defaults-file").arg(&scene.nightly);
    let told = restore.clone().arg("--dry-run").run_to_end(LONG).expect(0);
    assert!(told.stdout.contains("would write") && !to.exists(), "{told}");
    let told = restore.run_to_end(LONG).expect(0).says("SET @password");
    assert!(!told.stderr.contains("_HOST="), "{told}");
    let file = to.join("rollforward-replica.sql");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(NIGHTLY.user) && !text.contains(PASSWORD), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // With a log of its own, in which nothing of this may be.
    let updates = flavor::either("--log-slave-updates", "--log-replica-updates");
    let args = ["--event-scheduler=OFF", "--log-bin=own", updates, "--skip-slave-start"];
    let mut server = Server::start_on_with(&to, &args);
    let said = source(&server, "", &file);
    assert!(said.contains("no password was given"), "{said}");
    let first = format!("SET @password = '{PASSWORD}';");
    source(&server, &first, &file);
    scene.primary.sql("INSERT INTO shop.t0 (n, text) VALUES (4711, 'x')");
    let there = "SELECT COUNT(*) FROM shop.t0 WHERE n = 4711";
    wait_until("the row", LONG, || server.value(there) == "1");
    let status = server.record("SHOW SLAVE STATUS").unwrap();
    let column = |name: &str| status[&flavor::column(name)].clone();
    assert_eq!(column("Master_User"), NIGHTLY.user);
    assert_eq!([column("Slave_IO_Running"), column("Slave_SQL_Running")], ["Yes", "Yes"]);
    // No event runs here, at once or after a restart.
    let enabled = "SELECT COUNT(*) FROM information_schema.events WHERE status = 'ENABLED'";
    if flavor::is_mysql() {
        server.restart();
        assert_eq!(server.value("SELECT @@global.event_scheduler"), "OFF");
    } else {
        assert_eq!(server.value(enabled), "0");
        let definer = "SELECT COUNT(DISTINCT definer) FROM information_schema.events";
        assert_eq!(server.value(definer), "1");
    }
    let own = server.sql("SHOW BINARY LOGS").len();
    let log = server.sql(&format!("SHOW BINLOG EVENTS IN 'own.{own:06}'"));
    assert!(log.iter().all(|event| !event[5].contains("EVENT")), "{log:?}");
    assert_eq!(
        scene.primary.value("SELECT COUNT(*) FROM shop.t0"),
        server.value("SELECT COUNT(*) FROM shop.t0")
    );
}

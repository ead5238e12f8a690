//! What `restore` says at its end is true, and the command that it ends with works as printed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{
    Outcome, PATIENCE, Scene, TempDir, die_with_us, end, find_program, flavor, run_helper, wait_for,
};

/// What follows `text` on the one line of the log that has it.
#[track_caller]
fn after(outcome: &Outcome, text: &str) -> String {
    let rests: Vec<&str> =
        outcome.log().iter().filter_map(|l| l.split_once(text).map(|(_, rest)| rest)).collect();
    assert_eq!(rests.len(), 1, "'{text}' in {outcome}");
    rests[0].to_string()
}

#[test]
fn the_command_printed_by_a_restore_starts_a_server() {
    need_server!();
    let scene = Scene::with("handover", &["--lower-case-table-names=1", "--event-scheduler=OFF"]);
    scene.primary.fill("Shop", 1, 100);
    scene.primary.sql(
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.t0 (n, text) \
         VALUES (1, 'ticked')",
    );
    scene.seed();
    // A word that a shell would take apart.
    let to = scene.path("it's restored");
    let ended = scene.command("restore").arg("--to").arg(&to).run_to_end(COMMAND_PATIENCE);
    let ended = ended.expect(0);
    eprintln!("{}", ended.stderr);
    let backup = scene.backups().pop().unwrap();
    let value = |key: &str| scene.manifest_value(&backup, key);
    let (position, version) = (value("position"), value("version"));
    let facts = after(&ended, "data as of ");
    assert_eq!(
        facts,
        format!("{}, position {position}, {} {version}", value("data_as_of"), flavor::name())
    );
    let needs = after(&ended, &format!("the data needs a {} server of version ", flavor::name()));
    assert_eq!(needs, format!("{version} or later with --lower-case-table-names=1"));
    let had = after(&ended, "the primary had ");
    let charset = scene.primary.value("SELECT @@global.character_set_server");
    assert!(had.contains(&format!("character_set_server={charset} ")), "{had}");
    assert!(had.contains("sql_mode=") && !had.contains("lower_case_table_names"), "{had}");
    let uid = fs::metadata(to.join("ibdata1")).unwrap().uid();
    assert!(after(&ended, "the files belong to ").contains(&format!("(uid {uid})")), "{ended}");

    // As printed, by a shell. Its own directory for temporary files: see the harness.
    let line = after(&ended, "next, to inspect it without network, events and replication: ");
    let tmp = TempDir::new("tmp");
    let sbin = find_program("mariadbd").expect("mariadbd");
    let path = format!(
        "{}:{}",
        sbin.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let log = fs::File::create(tmp.path().join("log")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {line}")]).env("TMPDIR", tmp.path()).env("PATH", &path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    die_with_us(&mut command);
    let mut server = command.spawn().unwrap();
    wait_for("the server on the restored data", PATIENCE, || {
        let log = fs::read_to_string(tmp.path().join("log")).unwrap_or_default();
        let ended = server.try_wait().unwrap();
        assert!(ended.is_none(), "{line}: {ended:?}\n{log}");
        log.contains("ready for connections").then_some(())
    });
    let client = after(&ended, "and log in with: ");
    let sql = flavor::sql(
        "SELECT @@global.gtid_slave_pos, @@global.event_scheduler, COUNT(*) FROM shop.T0",
    );
    let mut login = Command::new("sh");
    login.args(["-c", &format!("{client} --no-beep --user=root --batch --skip-column-names")]);
    let rows = run_helper(login.env("PATH", &path), &format!("{sql};\n"));
    assert_eq!(rows, format!("{position}\tOFF\t100\n"));
    end(&mut server);

    let replica = after(&ended, "to make it a replica, with a server_id of its own, starting at ");
    assert!(replica.starts_with(&format!("{position}, ")), "{replica}");
    let words = flavor::either(
        "MASTER_USE_GTID=slave_pos; START SLAVE;",
        "SOURCE_AUTO_POSITION=1; START REPLICA;",
    );
    assert!(replica.contains(words), "{replica}");
}

#[test]
fn a_restore_omits_usual_settings_and_quiet_is_silent() {
    need_server!();
    let scene = Scene::seeded("usual");
    let restore = |to: &str| scene.command("restore").arg("--to").arg(scene.path(to));
    let ended = restore("one").run_to_end(COMMAND_PATIENCE).expect(0);
    let needs = format!("the data needs a {} server of ", flavor::name());
    assert!(after(&ended, &needs).ends_with(" or later"), "{ended}");
    assert!(!after(&ended, "next, to inspect it").contains("page-size"), "{ended}");
    crate::support::repository::edit_manifest(&scene.repo, &scene.backups()[0], |lines| {
        let line = lines.iter_mut().find(|l| l.contains("innodb_page_size")).unwrap();
        *line = "setting innodb_page_size 8192".into();
    });
    let ended = restore("two").run_to_end(COMMAND_PATIENCE).expect(0);
    assert!(after(&ended, "next, to inspect it").contains(" --innodb-page-size=8192 "), "{ended}");
    let ended = restore("three").arg("-q").run_to_end(COMMAND_PATIENCE).expect(0);
    assert_eq!(ended.stderr, "");
}

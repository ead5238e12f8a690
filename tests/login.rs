//! Logins: to the primary without TLS, under a public key of MySQL and only if that was asked for;
//! slow ones; that to a private MariaDB 11, to an account in its memory.

use std::fs;
use std::time::Duration;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{PASSWORD, Proxy, Replica, Scene, Server, flavor};

#[test]
fn passwords_use_a_public_key_only_if_asked() {
    need_server!();
    let scene = Scene::seeded("login");
    let seed = || scene.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE);
    let run = || scene.command("run").run_to_end(COMMAND_PATIENCE);
    let client = |lines: &str| {
        for path in [&scene.nightly, &scene.dump] {
            let text = fs::read_to_string(path).unwrap();
            let kept = text.lines().filter(|l| !l.contains("public-key") && !l.contains("ssl-"));
            let kept: String = kept.map(|l| format!("{l}\n")).collect();
            fs::write(path, format!("{kept}{lines}\n")).unwrap();
        }
        // The primary forgets who has logged in: a password that it knows needs no key.
        scene.primary.sql("FLUSH PRIVILEGES");
    };
    client("ssl-mode=DISABLED");
    if !flavor::is_mysql() {
        // MariaDB's own login never sends the password.
        seed().expect(0);
        run().expect(0);
        return;
    }
    for ended in [seed(), run()] {
        let ended = ended.expect(1).says("error: access-denied: ");
        let ended = ended.says("set ssl-mode, server-public-key-path or get-server-public-key");
        assert!(!ended.stderr.contains(PASSWORD) && !ended.stderr.contains("retrying"), "{ended}");
        scene.assert_nothing_left();
    }
    client("ssl-mode=DISABLED\nget-server-public-key=OFF");
    run().expect(1).says("access-denied");
    // TLS hides it, too, and is there without a word.
    for lines in ["", "ssl-mode=REQUIRED"] {
        client(lines);
        run().expect(0);
    }
    // The key of the primary, and that of somebody else.
    let right = scene.primary.datadir().join("public_key.pem");
    client(&format!("ssl-mode=DISABLED\nserver-public-key-path={}", right.display()));
    for ended in [seed(), run()] {
        ended.expect(0);
    }
    let wrong = scene.path("wrong.pem");
    let private = scene.path("private.pem");
    let openssl = |args: &[&str]| {
        crate::support::run_helper(std::process::Command::new("openssl").args(args), "");
    };
    let (key, public) = (private.display().to_string(), wrong.display().to_string());
    openssl(&["genrsa", "-out", &key, "2048"]);
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    client(&format!("ssl-mode=DISABLED\nserver-public-key-path={public}"));
    let ended = run().expect(1).says("error: access-denied: ");
    assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    client(&format!("server-public-key-path={}", scene.nightly.display()));
    run().expect(2).says("server-public-key-path in [client]").says("contains no public key");
    client("ssl-mode=DISABLED\nget-server-public-key");
    run().expect(0);
    assert!(scene.files_with(&scene.scratch, PASSWORD).is_empty());
}

#[test]
fn a_kill_while_the_account_is_created_is_recovered_from() {
    need_server!();
    let scene = Scene::seeded("window");
    let replica = Replica::start(&scene.primary);
    if flavor::is_mysql() || scene.primary.value("SELECT VERSION()").starts_with("10.") {
        // These start without their grant tables.
        scene.run().expect(0);
        return;
    }
    let table = "CREATE TABLE mysql.rollforward_login (Host CHAR(60) NOT NULL, User CHAR(80) NOT \
                 NULL, Priv VARCHAR(300) NOT NULL, PRIMARY KEY (Host, User)) ENGINE=MEMORY";
    let swap = "RENAME TABLE mysql.global_priv TO mysql.rollforward_kept, \
                mysql.rollforward_login TO mysql.global_priv";
    for (statements, restored) in [(vec![table], 0), (vec![table, swap], 1)] {
        scene.primary.backlog("shop", 20_000);
        let proxy = Proxy::start(&scene.primary);
        proxy.slow_down(60_000);
        let mut pass = scene.command("run").args(["--primary", &proxy.address()]).spawn();
        pass.wait_for_phase("catch-up", COMMAND_PATIENCE);
        pass.kill(libc::SIGTERM);
        pass.finish(COMMAND_PATIENCE).expect(143);
        // As far as it came.
        let mut killed = Server::start_on(&scene.scratch.join("data"));
        statements.iter().for_each(|s| drop(killed.sql(s)));
        killed.kill9();
        let ended = scene.run().expect(0).says("resuming the interrupted pass");
        assert_eq!(ended.stderr.matches("info: restored ").count(), restored, "{ended}");
        scene.assert_newest_equals(&replica);
        let tables = Server::start_on(&scene.restore(None))
            .value("SELECT COUNT(*) FROM information_schema.tables WHERE table_name LIKE 'rollf%'");
        assert_eq!(tables, "0");
        scene.assert_nothing_left();
    }
}

/// As where names are looked up slowly: whoever gets in at all is followed.
#[test]
fn a_slow_handshake_is_slow_and_not_lost() {
    need_server!();
    let scene = Scene::seeded("slow");
    scene.primary.backlog("shop", 20);
    let proxy = Proxy::start(&scene.primary);
    proxy.hesitate(Duration::from_secs(4));
    let run = |more: &[&str]| {
        scene
            .command("run")
            .args(["--primary", &proxy.address()])
            .args(more)
            .run_to_end(Duration::from_secs(120))
    };
    let ended = run(&[]).expect(0);
    assert!(!ended.stderr.contains("warn"), "{ended}");
    let ended = run(&["--connect-timeout=2s", "--max-failures=0"]).expect(75);
    ended.says("primary-unreachable").says("no answer in time");
}

#[test]
fn a_full_primary_is_not_called_down() {
    need_server!();
    let scene = Scene::seeded("full");
    scene.primary.sql("SET GLOBAL max_connections = 10");
    let sessions: Vec<_> = (0..12).map_while(|_| scene.primary.open().ok()).collect();
    let run = scene.command("run").arg("--max-failures=0");
    let ended = run.run_to_end(COMMAND_PATIENCE).expect(75);
    ended.says("primary-unreachable: primary ").says(" takes no session now: error 1040: ");
    drop(sessions);
    scene.run().expect(0);
}

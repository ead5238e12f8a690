//! The usual login of MySQL without TLS: under the primary's public key, and only if that was
//! asked for.

mod support;

use std::fs;

use support::scene::COMMAND_PATIENCE;
use support::{PASSWORD, Scene, flavor};

#[test]
fn a_password_goes_under_a_public_key_only_if_that_was_asked_for() {
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
    client("");
    if !flavor::is_mysql() {
        // MariaDB's own login never sends the password.
        seed().expect(0);
        run().expect(0);
        return;
    }
    for ended in [seed(), run()] {
        let ended = ended.expect(1).says("error: access-denied: ");
        let ended = ended.says("set ssl-mode, server-public-key-path or get-server-public-key");
        assert!(!ended.stderr.contains(PASSWORD) && !ended.stderr.contains("next try"), "{ended}");
        scene.assert_nothing_left();
    }
    client("get-server-public-key=OFF");
    run().expect(1).says("access-denied");
    // TLS hides it, too.
    client("ssl-mode=REQUIRED");
    run().expect(0);
    // The key of the primary, and that of somebody else.
    let right = scene.primary.datadir().join("public_key.pem");
    client(&format!("server-public-key-path={}", right.display()));
    for ended in [seed(), run()] {
        ended.expect(0);
    }
    let wrong = scene.path("wrong.pem");
    let private = scene.path("private.pem");
    let openssl = |args: &[&str]| {
        support::run_helper(std::process::Command::new("openssl").args(args), "");
    };
    let (key, public) = (private.display().to_string(), wrong.display().to_string());
    openssl(&["genrsa", "-out", &key, "2048"]);
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    client(&format!("server-public-key-path={public}"));
    let ended = run().expect(1).says("error: access-denied: ");
    assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    client(&format!("server-public-key-path={}", scene.nightly.display()));
    run().expect(2).says("server-public-key-path in [client]").says("holds no public key");
    client("get-server-public-key");
    run().expect(0);
    assert!(scene.files_with(&scene.scratch, PASSWORD).is_empty());
}

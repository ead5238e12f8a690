//! TLS to the primary: our own sessions, the dump and replication alike, and who is refused.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::wait_until;
use crate::support::{
    Certificates, DUMP, NIGHTLY, Outcome, PASSWORD, PATIENCE, Primary, Proxy, Replica, Rollforward,
    Scene, find_program, flavor,
};

/// A scene whose primary shows the certificate `name`, and takes our accounts with TLS only.
fn scene(certificates: &Certificates, name: &str) -> Scene {
    let options = certificates.options(name);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let scene = Scene::seeded_with(name, &options);
    require(&scene.primary, "SSL");
    scene
}

/// Lets our accounts log in with TLS (`SSL`), a client certificate (`X509`) or anyhow (`NONE`).
fn require(primary: &Primary, what: &str) {
    for account in [NIGHTLY, DUMP] {
        primary.sql(&format!("ALTER USER {} REQUIRE {what}", account.user));
    }
}

/// Puts `lines` into the option files in place of those that an earlier call put there.
fn client(scene: &Scene, lines: &str) {
    for (path, account) in [(&scene.nightly, NIGHTLY), (&scene.dump, DUMP)] {
        scene.primary.write_option_file(path, account);
        writeln!(OpenOptions::new().append(true).open(path).unwrap(), "{lines}").unwrap();
    }
}

/// A line of an option file that names a file.
fn line(certificates: &Certificates, key: &str, name: &str) -> String {
    format!("{key}={}\n", certificates.path(name).display())
}

/// `seed` and `run`, both of which end 0 with all that the primary has.
#[track_caller]
fn assert_goes_well(scene: &Scene) {
    scene.seed();
    scene.primary.backlog("shop", 20);
    scene.run().expect(0);
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    scene.assert_nothing_left();
}

/// `seed` and `run`.
fn both(scene: &Scene) -> [Rollforward; 2] {
    [scene.command("seed").args(["--from", "dump"]), scene.command("run")]
}

/// Both commands end for good, at once, and say `words`.
#[track_caller]
fn assert_refused(scene: &Scene, words: &[&str]) {
    for program in both(scene) {
        let ended = program.arg("--max-failures=1000").run_to_end(COMMAND_PATIENCE).expect(1);
        assert_told(scene, &ended, words);
        assert!(ended.wall < Duration::from_secs(15), "{ended}");
    }
}

#[track_caller]
fn assert_told(scene: &Scene, ended: &Outcome, words: &[&str]) {
    let last = ended.log().last().unwrap_or(&"").to_string();
    assert!(last.contains("error: access-denied: "), "{ended}");
    for word in words {
        assert!(last.contains(word), "no '{word}' in the last line; {ended}");
    }
    assert!(!ended.stderr.contains("retrying in"), "it was tried again; {ended}");
    assert!(!ended.stderr.contains(PASSWORD), "{ended}");
    assert_eq!(scene.checkpoint().get("cause"), Some("access-denied"));
    scene.assert_nothing_left();
}

#[test]
fn a_self_made_certificate_is_enough_where_tls_is_required() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "self");
    client(&scene, "ssl-mode=REQUIRED");
    assert_goes_well(&scene);
    scene.assert_newest_equals(&Replica::start(&scene.primary));
    // Whoever answers: an authority that is named as well is not asked, by any of the three.
    client(&scene, &format!("ssl-mode=REQUIRED\n{}", line(&certificates, "ssl-ca", "other.pem")));
    assert_goes_well(&scene);
}

#[test]
fn a_private_authority_by_relative_path_is_trusted() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "server");
    client(&scene, &line(&certificates, "ssl-ca", "ca.pem"));
    assert_goes_well(&scene);
    client(&scene, "ssl-mode=VERIFY_IDENTITY\nssl-ca=ca.pem");
    let there = certificates.path("");
    for program in both(&scene) {
        scene.primary.backlog("shop", 20);
        let program = program.under(["env".as_ref(), "-C".as_ref(), there.as_os_str()]);
        program.run_to_end(COMMAND_PATIENCE).expect(0);
        assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    }
}

#[test]
fn a_certificate_that_proves_nothing_is_refused_for_good() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "server");
    let right = line(&certificates, "ssl-ca", "ca.pem");
    client(&scene, &line(&certificates, "ssl-ca", "other.pem"));
    let words = ["certificate", "UnknownIssuer", "ssl-ca in [client]", "127.0.0.1"];
    assert_refused(&scene, &words);
    client(&scene, &right);
    certificates.show(&scene.primary, "elsewhere");
    assert_refused(&scene, &["certificate", "not valid for name", "127.0.0.1"]);
    certificates.show(&scene.primary, "self");
    assert_refused(&scene, &["certificate", "ssl-ca in [client]"]);
    assert_eq!(scene.backups().len(), 1);
    certificates.show(&scene.primary, "server");
    scene.run().expect(0);
}

#[test]
fn replication_verifies_the_certificate_by_itself() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "server");
    client(&scene, &line(&certificates, "ssl-ca", "ca.pem"));
    // The client library of MariaDB 11 asks 127.0.0.1, and no other address, for no name.
    let old = scene.primary.value("SELECT VERSION()").starts_with("10.");
    let names_are_checked = old || flavor::is_mysql();
    for name in if names_are_checked { vec!["self", "elsewhere"] } else { vec!["self"] } {
        certificates.show(&scene.primary, "server");
        let base = scene.newest_position();
        scene.primary.backlog("shop", 30_000);
        let proxy = Proxy::start(&scene.primary);
        proxy.slow_down(60_000);
        let program = scene.command("run").args(["--primary", &proxy.address()]);
        let mut pass = program.arg("--max-failures=1000").spawn();
        pass.wait_for_checkpoint("progress in the catch-up", PATIENCE, |c| {
            (c.get("phase") == Some("catch-up") && c.get("position")? != base).then_some(())
        });
        certificates.show(&scene.primary, name);
        // The replica connects again by itself, before any session of ours.
        proxy.interrupt();
        let ended = pass.finish(COMMAND_PATIENCE).expect(1);
        // The client library's number: our own sessions have none.
        assert_told(&scene, &ended, &["2026"]);
    }
}

#[test]
fn the_dump_verifies_the_certificate_by_itself() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "server");
    client(&scene, &line(&certificates, "ssl-ca", "ca.pem"));
    // The clients are looked for beside the server first: this one changes what is shown.
    let mysqld = scene.fake_mysqld("mariadbd", "exec MYSQLD \"$@\"");
    let backups = scene.backups();
    let real = |name: &str| find_program(name).unwrap().display().to_string();
    for name in ["self", "elsewhere"] {
        certificates.show(&scene.primary, "server");
        // It may write below the scratch directory only, so it asks for the swap, and waits.
        let (asks, swapped) = (scene.scratch.join("tmp/asks"), scene.path("swapped"));
        let _ = fs::remove_file(&swapped);
        let body = format!(
            "mkdir tmp/asks; until [ -e {} ]; do sleep 0.05; done; exec {} \"$@\"",
            swapped.display(),
            real("mariadb-dump")
        );
        scene.fake_mysqld(flavor::program("mariadb-dump"), &body);
        let program = scene.command("seed").args(["--from", "dump"]).arg("--mysqld").arg(&mysqld);
        let pass = program.spawn();
        wait_until("the dump to begin", COMMAND_PATIENCE, || asks.exists());
        certificates.show(&scene.primary, name);
        fs::write(&swapped, "").unwrap();
        let ended = pass.finish(COMMAND_PATIENCE).expect(1);
        assert_told(&scene, &ended, &["2026"]);
        assert_eq!(scene.backups(), backups, "{ended}");
    }
}

#[test]
fn a_client_certificate_is_shown_where_it_is_demanded() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "server");
    require(&scene.primary, "X509");
    let ca = line(&certificates, "ssl-ca", "ca.pem");
    let shown = |name: &str| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        line(&certificates, "ssl-cert", &cert) + &line(&certificates, "ssl-key", &key)
    };
    client(&scene, &(ca.clone() + &shown("client")));
    assert_goes_well(&scene);
    // The certificate alone says that TLS is wanted.
    client(&scene, &shown("client"));
    assert_goes_well(&scene);
    client(&scene, &ca);
    assert_refused(&scene, &["1045", "ssl-cert and ssl-key"]);
    client(&scene, "ssl-mode=REQUIRED");
    assert_refused(&scene, &["1045", "ssl-cert and ssl-key"]);
    client(&scene, &(ca.clone() + &shown("stranger")));
    assert_refused(&scene, &[]);
    let cert = line(&certificates, "ssl-cert", "client.pem");
    client(&scene, &(ca + &cert + &line(&certificates, "ssl-key", "stranger.key")));
    for program in both(&scene) {
        let ended = program.run_to_end(COMMAND_PATIENCE).expect(2);
        ended.says("error: configuration: ").says("ssl-cert or ssl-key in [client]");
    }
}

#[test]
fn a_refusal_for_lack_of_tls_names_the_setting() {
    need_server!();
    let certificates = Certificates::make();
    let scene = scene(&certificates, "server");
    client(&scene, "ssl-mode=DISABLED");
    assert_refused(&scene, &["1045", "TLS", "set ssl-mode in [client]"]);
    require(&scene.primary, "NONE");
    scene.primary.sql("SET GLOBAL require_secure_transport = ON");
    assert_refused(&scene, &["TLS", "set ssl-mode in [client]"]);
    client(&scene, "ssl-mode=REQUIRED");
    assert_goes_well(&scene);
}

#[test]
fn a_primary_without_tls_is_refused_where_tls_is_required() {
    need_server!();
    let certificates = Certificates::make();
    let scene = Scene::seeded_with("plain", &["--skip-ssl"]);
    for lines in ["ssl-mode=REQUIRED", &line(&certificates, "ssl-ca", "ca.pem")] {
        client(&scene, lines);
        assert_refused(&scene, &["offers no TLS", "ssl-mode"]);
    }
}

#[test]
fn unusable_tls_files_are_named_with_status_2() {
    need_server!();
    let certificates = Certificates::make();
    let scene = Scene::new("unusable");
    let directory = line(&certificates, "ssl-ca", "");
    fs::write(certificates.path("empty"), "").unwrap();
    let (ca, key) = (certificates.path("ca.pem"), certificates.path("ca.key"));
    let (ca, key) = (ca.display(), key.display());
    for (lines, words) in [
        ("ssl-mode=VERIFY_CA", ["VERIFY_CA", "public roots"]),
        ("ssl-mode=VERIFY_IDENTITY", ["VERIFY_IDENTITY", "ssl-ca"]),
        ("ssl-ca=/no/such/ca.pem", ["/no/such/ca.pem", "no such file"]),
        (directory.as_str(), ["cannot read", "not a text file"]),
        (&line(&certificates, "ssl-ca", "empty"), ["ssl-ca in [client]", "no certificate"]),
        (&format!("ssl-ca={key}"), ["ssl-ca in [client]", "no certificate"]),
        (&format!("ssl-cert={ca}"), ["ssl-cert and ssl-key", "go together"]),
        (&format!("ssl-cert={ca}\nssl-key={ca}"), ["ssl-key in [client]", "no private key"]),
    ] {
        client(&scene, lines);
        for program in both(&scene) {
            let ended = program.run_to_end(COMMAND_PATIENCE).expect(2);
            let ended = ended.says(words[0]).says(words[1]);
            assert!(ended.wall < Duration::from_secs(5), "{ended}");
            assert!(!scene.scratch.exists(), "something was written; {ended}");
        }
    }
}

#[test]
fn the_line_shows_no_password_and_with_tls_no_row() {
    need_server!();
    let certificates = Certificates::make();
    for (tls, lines) in [(false, "ssl-mode=DISABLED"), (true, "ssl-mode=REQUIRED")] {
        let scene = scene(&certificates, "server");
        require(&scene.primary, "NONE");
        client(&scene, lines);
        let insert = |marker: &str| {
            let sql = format!("INSERT INTO shop.t0 (n, text) VALUES (1, '{marker}')");
            scene.primary.sql(&sql);
        };
        insert("marker-of-the-dump");
        let [seed, run] = both(&scene);
        for (program, marker) in [(seed, "marker-of-the-dump"), (run, "marker-of-the-pass")] {
            let proxy = Proxy::recording(&scene.primary);
            program.args(["--primary", &proxy.address()]).run_to_end(COMMAND_PATIENCE).expect(0);
            assert!(proxy.recorded() > 1000, "nothing went through the proxy");
            assert_eq!(proxy.saw(marker), !tls, "{marker} with {lines}");
            assert_eq!(proxy.saw(NIGHTLY.user) || proxy.saw(DUMP.user), !tls, "names: {lines}");
            assert!(!proxy.saw(PASSWORD), "the password with {lines}");
            insert("marker-of-the-pass");
        }
    }
}

//! What gives statements their meaning is the primary's on the private server, and is handed on.

use crate::support::{
    NIGHTLY, PASSWORD, PATIENCE, Primary, Scene, Server, as_told, assert_same, flavor, snapshot,
    wait_until,
};

const MARIADB: [&str; 15] = [
    "--default-storage-engine=Aria",
    "--aria-page-checksum=OFF",
    "--innodb-strict-mode=OFF",
    "--innodb-default-row-format=compact",
    "--old-mode=",
    "--system-versioning-alter-history=KEEP",
    "--group-concat-max-len=10",
    "--div-precision-increment=8",
    "--default-week-format=3",
    "--max-recursive-iterations=3000",
    "--ft-min-word-len=2",
    "--ft-stopword-file=",
    "--innodb-ft-min-token-size=1",
    "--innodb-compression-default=ON",
    "--max-heap-table-size=64M",
];

const MYSQL: [&str; 15] = [
    "--partial-revokes=ON",
    "--mandatory-roles=all_read",
    "--password-history=3",
    "--default-storage-engine=MyISAM",
    "--innodb-strict-mode=OFF",
    "--innodb-default-row-format=compact",
    "--restrict-fk-on-non-standard-key=OFF",
    "--group-concat-max-len=10",
    "--div-precision-increment=8",
    "--default-week-format=3",
    "--cte-max-recursion-depth=3000",
    "--block-encryption-mode=aes-256-cbc",
    "--ngram-token-size=1",
    "--innodb-ft-min-token-size=1",
    "--max-heap-table-size=64M",
];

/// Statements and definitions that say nothing of it, and fail or mean something else without.
fn statements(primary: &Primary) {
    // Wider than a page holds, which is an error only in strict mode.
    let columns: Vec<String> = (0..40).map(|n| format!("c{n} CHAR(250)")).collect();
    primary.sql(&format!(
        "CREATE DATABASE late; CREATE TABLE late.wide ({}) ENGINE=InnoDB CHARACTER SET latin1",
        columns.join(", ")
    ));
    primary.sql(
        "SET SESSION binlog_format = 'STATEMENT'; USE late; \
         CREATE TABLE engine (a INT PRIMARY KEY); \
         CREATE TABLE usual (a INT PRIMARY KEY) ENGINE=InnoDB; \
         CREATE TABLE results (id INT PRIMARY KEY, t VARCHAR(200)) ENGINE=InnoDB; \
         INSERT IGNORE INTO results SELECT 1, GROUP_CONCAT(n ORDER BY n) FROM shop.words; \
         INSERT INTO results VALUES (2, 1/3), (3, WEEK('2026-01-01')); \
         CREATE TABLE found (id INT PRIMARY KEY, t VARCHAR(50), FULLTEXT KEY (t)) ENGINE=InnoDB; \
         INSERT INTO found VALUES (1, 'a b c the'), (2, 'of to in')",
    );
    primary.sql(flavor::either(
        "CREATE TABLE utf (a VARCHAR(10) CHARACTER SET utf8) ENGINE=InnoDB; \
         ALTER TABLE shop.versions ADD b INT; \
         SET check_constraint_checks = 0, GLOBAL check_constraint_checks = 0; \
         CREATE TABLE checked (a INT PRIMARY KEY, CHECK (a > 0)) ENGINE=InnoDB; \
         INSERT INTO checked VALUES (-1); \
         CREATE TABLE words (t VARCHAR(50), FULLTEXT KEY (t)) ENGINE=MyISAM; \
         INSERT INTO words VALUES ('by at on'), ('xy'); \
         INSERT INTO results WITH RECURSIVE r AS (SELECT 10 AS n UNION ALL SELECT n + 1 FROM r \
         WHERE n < 2500) SELECT n, n FROM r",
        "CREATE TABLE child (a INT, FOREIGN KEY (a) REFERENCES shop.parent (b)) ENGINE=InnoDB; \
         INSERT INTO results WITH RECURSIVE r AS (SELECT 10 AS n UNION ALL SELECT n + 1 FROM r \
         WHERE n < 2500) SELECT n, n FROM r; \
         INSERT INTO results VALUES (4, HEX(AES_ENCRYPT('x', REPEAT('k', 32), REPEAT('i', 16)))); \
         CREATE TABLE grams (id INT PRIMARY KEY, t VARCHAR(50), FULLTEXT KEY (t) WITH PARSER ngram) \
         ENGINE=InnoDB; INSERT INTO grams VALUES (1, 'xyz'), (2, 'abc'); \
         REVOKE SELECT ON late.* FROM clerk; ALTER USER clerk DEFAULT ROLE all_read; \
         ALTER USER clerk IDENTIFIED BY 'Second-1'",
    ));
}

fn searches() -> Vec<&'static str> {
    let mut all = vec![
        "SELECT GROUP_CONCAT(id ORDER BY id) FROM late.found WHERE MATCH (t) AGAINST ('b in')",
        "SELECT GROUP_CONCAT(id ORDER BY id) FROM late.found WHERE MATCH (t) AGAINST ('c')",
        "SELECT GROUP_CONCAT(id ORDER BY id) FROM late.found WHERE MATCH (t) AGAINST ('the')",
    ];
    all.push(flavor::either(
        "SELECT GROUP_CONCAT(t) FROM late.words WHERE MATCH (t) AGAINST ('xy on')",
        "SELECT GROUP_CONCAT(id) FROM late.grams WHERE MATCH (t) AGAINST ('y')",
    ));
    all
}

#[test]
fn the_settings_of_the_primary_give_statements_their_meaning() {
    need_server!();
    let scene = Scene::with("meaning", flavor::either(&MARIADB, &MYSQL));
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.words (n INT PRIMARY KEY) ENGINE=InnoDB; \
         INSERT INTO shop.words VALUES (1001), (1002), (1003), (1004); \
         CREATE TABLE shop.stop (value VARCHAR(30)) ENGINE=InnoDB; \
         INSERT INTO shop.stop VALUES ('b'), ('in'); \
         SET GLOBAL innodb_ft_server_stopword_table = 'shop/stop'",
    );
    scene.primary.sql(flavor::either(
        "CREATE TABLE shop.versions (a INT) ENGINE=InnoDB WITH SYSTEM VERSIONING",
        "CREATE TABLE shop.parent (a INT PRIMARY KEY, b INT, KEY (b)) ENGINE=InnoDB; \
         CREATE TABLE shop.first (a INT, FOREIGN KEY (a) REFERENCES shop.parent (b)) ENGINE=InnoDB; \
         CREATE ROLE all_read; CREATE USER clerk IDENTIFIED BY 'First-1'; \
         GRANT SELECT ON *.* TO clerk",
    ));
    // An index is made with what is in the table by then, and a dump makes it when it likes.
    let seed = scene.command("seed").args(["--from", "dump"]);
    seed.run_to_end(PATIENCE).expect(2).says("without the stopwords in shop/stop");
    scene.primary.sql("SET GLOBAL innodb_ft_server_stopword_table = DEFAULT");
    scene.seed();
    scene.primary.sql("SET GLOBAL innodb_ft_server_stopword_table = 'shop/stop'");
    statements(&scene.primary);
    scene.run().expect(0);
    let (restored, given) = as_told(&scene);
    assert!(given.iter().any(|o| o == "--innodb-ft-min-token-size=1"), "{given:?}");
    let both = [&*scene.primary, &restored].map(|server| {
        let mut all = snapshot(server);
        for search in searches() {
            all.insert(search.into(), server.value(search));
        }
        let formats = server.sql(
            "SELECT table_name, row_format, engine FROM information_schema.tables \
             WHERE table_schema = 'late' ORDER BY 1",
        );
        all.insert("formats".into(), format!("{formats:?}"));
        all
    });
    assert_same("ours", &both[1], "the primary", &both[0]);
}

/// As `restore` prints them, but for what a person has to fill in.
#[test]
fn the_printed_statements_make_a_replica_of_it() {
    need_server!();
    // With TLS as the server has it by itself: the tests turn it off unless an option is about it.
    let mut scene = Scene::seeded_with("printed", &["--loose-ssl-mode-unset"]);
    let to = scene.path("copy");
    let told = scene.command("restore").arg("--to").arg(&to);
    let told = told.run_to_end(PATIENCE).expect(0);
    let line = told.log().into_iter().find(|l| l.contains("to make it a replica")).expect("a line");
    let (before, statements) = line.split_once(": CHANGE ").expect("statements");
    let (_, without) = before.split_once("(and ").expect("a word on TLS");
    let without = without.split(" if ").next().expect("what to add");
    let filled = format!("CHANGE {statements}")
        .replacen("'...'", "'127.0.0.1'", 1)
        .replacen("'...'", &format!("'{}'", NIGHTLY.user), 1)
        .replacen("'...'", &format!("'{PASSWORD}'"), 1);
    let user = flavor::either("MASTER_USER", "SOURCE_USER");
    let port = format!("{}={}, {user}", user.replace("USER", "PORT"), scene.primary.port());
    let filled = filled.replace(user, &port);
    let replica = Server::start_on_with(&to, &["--skip-slave-start"]);
    let stopwords = scene.path("stopwords");
    std::fs::write(&stopwords, "nothing\n").unwrap();
    for without_tls in [false, true] {
        if without_tls {
            scene.primary.add_option("--skip-ssl");
            let option = format!("--ft-stopword-file={}", stopwords.display());
            scene.primary.add_option(&option);
            scene.primary.restart();
            replica.sql("STOP SLAVE");
        }
        replica.sql(&match without_tls {
            true => filled.replace(" SOURCE_SSL=1,", "").replacen(
                user,
                &format!("{without}, {user}"),
                1,
            ),
            false => filled.clone(),
        });
        scene.primary.backlog("shop", 3);
        let position = scene.primary.gtid_pos();
        wait_until("the replica", PATIENCE, || {
            replica.value("SELECT @@global.gtid_slave_pos") == position
        });
    } // A file that is not here is nothing to refuse the backup for, and nothing to keep quiet about.
    scene.run().expect(3).says("--mysqld-option=--ft-stopword-file=...");
    assert_eq!(scene.checkpoint().get("cause"), Some("configuration"));
}

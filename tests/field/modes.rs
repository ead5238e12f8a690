//! What a session of the primary could make, and the usual modes and settings forbid.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Scene, Server, flavor};

/// What both servers must say alike.
fn assert_alike(scene: &Scene, queries: &[&str]) {
    let restored = Server::start_on(&scene.restore(None));
    for query in queries {
        assert_eq!(restored.value(query), scene.primary.value(query), "{query}");
    }
}

#[test]
fn impossible_dates_come_as_they_are() {
    need_server!();
    let scene = Scene::new("dates");
    scene.primary.sql(
        "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'; CREATE DATABASE shop; USE shop; \
         CREATE TABLE day (id INT PRIMARY KEY, d DATE DEFAULT '2026-02-31', t DATETIME(3)); \
         INSERT INTO day (id, t) VALUES (1, '2026-04-31 01:02:03.5'), (2, '2026-01-01'); \
         CREATE TABLE floats (x FLOAT, d DATE DEFAULT '2026-02-31'); \
         INSERT INTO floats VALUES (0.1, '2026-11-31')",
    );
    scene.seed();
    scene
        .primary
        .sql("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'; DELETE FROM shop.day WHERE id = 2");
    scene.primary.sql("SET SESSION binlog_format = 'ROW'; UPDATE shop.floats SET x = 0.2");
    scene.run().expect(0);
    assert_alike(
        &scene,
        &[
            "SELECT CONCAT_WS(' ', COUNT(*), MIN(id), CAST(MIN(d) AS CHAR), CAST(MIN(t) AS CHAR)) FROM shop.day",
            "SELECT CONCAT_WS(' ', x, CAST(d AS CHAR)) FROM shop.floats",
            "SELECT GROUP_CONCAT(column_default) FROM information_schema.columns \
             WHERE table_schema = 'shop' AND column_name = 'd'",
        ],
    );
}

#[test]
fn computed_values_and_lenient_definitions_arrive() {
    need_server!();
    let modes = flavor::either("NO_UNSIGNED_SUBTRACTION", "TIME_TRUNCATE_FRACTIONAL");
    let scene = Scene::with("lenient", &[&format!("--sql-mode={modes}")]);
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; SET SESSION innodb_strict_mode = OFF; \
         CREATE TABLE sized (id INT PRIMARY KEY) ROW_FORMAT=DYNAMIC KEY_BLOCK_SIZE=4; \
         CREATE TABLE sized_too (id INT, x FLOAT) ROW_FORMAT=DYNAMIC KEY_BLOCK_SIZE=4; \
         INSERT INTO sized VALUES (1); INSERT INTO sized_too VALUES (1, 0.1)",
    );
    let mut queries = vec![
        "SELECT COUNT(*) FROM shop.sized",
        "SELECT GROUP_CONCAT(create_options ORDER BY table_name) FROM information_schema.tables \
         WHERE table_schema = 'shop'",
    ];
    if flavor::is_mysql() {
        scene.primary.sql(
            "USE shop; SET SESSION restrict_fk_on_non_standard_key = OFF; \
             CREATE TABLE parent (id INT, n INT, KEY (id)); INSERT INTO parent VALUES (1, 1), (1, 2); \
             CREATE TABLE child (id INT, FOREIGN KEY (id) REFERENCES parent (id)); \
             INSERT INTO child VALUES (1); \
             CREATE TABLE floats (id INT, x FLOAT, FOREIGN KEY (id) REFERENCES parent (id)); \
             CREATE TABLE cut (a DATETIME(6), b DATETIME AS (a) STORED); \
             INSERT INTO cut (a) VALUES ('2026-01-01 00:00:00.9')",
        );
        queries.push("SELECT CAST(b AS CHAR) FROM shop.cut");
        queries.push(
            "SELECT COUNT(*) FROM information_schema.referential_constraints \
             WHERE constraint_schema = 'shop'",
        );
    } else {
        scene.primary.sql(
            "USE shop; CREATE TABLE less (a INT UNSIGNED, b INT UNSIGNED, c INT AS (a - b) PERSISTENT); \
             INSERT INTO less (a, b) VALUES (1, 2)",
        );
        queries.push("SELECT c FROM shop.less");
    }
    scene.seed();
    assert_alike(&scene, &queries);
}

/// Which makes a table of another engine in its place, and does not mind.
#[test]
fn an_engine_that_the_private_server_lacks_is_named() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::with("engines", &["--federated"]);
    scene.primary.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.far (id INT PRIMARY KEY) \
         ENGINE=FEDERATED CONNECTION='mysql://nobody@127.0.0.1:1/shop/t'; \
         CREATE TABLE shop.none (id INT) ENGINE=BLACKHOLE",
    );
    let seed = scene.command("seed").args(["--from", "dump"]);
    let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2);
    ended.says("would give shop.far another engine").says("FEDERATED");
    assert!(scene.backups().is_empty());
    seed.arg("--mysqld-option=--federated").run_to_end(COMMAND_PATIENCE).expect(0);
}

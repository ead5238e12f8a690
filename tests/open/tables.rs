//! `open --tables`: some tables without the others, as far as a server has them so.

use super::{LONG, assert_gone, client, open, value};
use crate::support::{Scene, flavor};

#[test]
fn a_table_comes_without_the_others() {
    need_server!();
    let scene = Scene::new("tables");
    let primary = &scene.primary;
    primary.fill("shop", 2, 2000);
    primary.sql("CREATE DATABASE other");
    for sql in [
        "CREATE TABLE shop.parent (a INT PRIMARY KEY)",
        "CREATE TABLE shop.child (a INT PRIMARY KEY, FOREIGN KEY (a) REFERENCES parent (a))",
        "INSERT INTO shop.parent VALUES (1), (2)",
        "INSERT INTO shop.child VALUES (1), (2)",
        "CREATE TABLE shop.parts (a INT PRIMARY KEY) PARTITION BY HASH (a) PARTITIONS 3",
        "INSERT INTO shop.parts VALUES (1), (2), (3), (4)",
        "CREATE TABLE shop.`odd ``name-x` (a INT)",
        "INSERT INTO shop.`odd ``name-x` VALUES (7)",
        "CREATE TABLE shop.`Café-Ωж日` (a INT) AS SELECT 6 AS a",
        "CREATE TABLE shop.words (a INT PRIMARY KEY, t TEXT, FULLTEXT (t))",
        "INSERT INTO shop.words VALUES (1, 'alpha beta'), (2, 'gamma')",
        "CREATE TABLE other.old (a INT) ENGINE=MyISAM",
        "INSERT INTO other.old VALUES (5)",
        "CREATE TRIGGER shop.tr BEFORE INSERT ON shop.t0 FOR EACH ROW SET NEW.n = NEW.n",
        "CREATE VIEW shop.v AS SELECT COUNT(*) AS c FROM shop.t1",
    ] {
        primary.sql(sql);
    }
    scene.seed();
    let one = |tables: &str, sql: &str| value(&scene, &[&format!("--tables={tables}")], sql);
    assert_eq!(one("shop.t0", "SELECT COUNT(*) FROM shop.t0"), "2000");
    for (tables, sql, expected) in [
        ("shop.child", "SELECT SUM(a) FROM shop.child", "3"),
        ("shop.parts", "SELECT SUM(a) FROM shop.parts", "10"),
        ("shop.`odd ``name-x`", "SELECT a FROM shop.`odd ``name-x`", "7"),
        ("shop.Café-Ωж日", "SELECT a FROM shop.`Café-Ωж日`", "6"),
        ("other.old", "SELECT a FROM other.old", "5"),
        ("shop.words", "SELECT a FROM shop.words WHERE MATCH (t) AGAINST ('gamma')", "2"),
        ("mysql.func", "SELECT COUNT(*) FROM mysql.func", "0"),
        (
            "shop.t0,shop.t0,other.old",
            "SELECT (SELECT COUNT(*) FROM shop.t0) + a FROM other.old",
            "2005",
        ),
    ] {
        assert_eq!(one(tables, sql), expected, "{tables}");
    }
    // The tables that are not there, and what needs them.
    for sql in ["SELECT * FROM shop.t1", "SELECT * FROM shop.v", "SELECT * FROM other.old"] {
        let ended = open(&scene, &["--tables=shop.t0"], &[client(), "-e", sql]).run_to_end(LONG);
        ended.expect(1).says(flavor::either("ERROR 1146", "ERROR 1"));
    }
    // As a dump, with its trigger, and loaded again.
    let dump = open(
        &scene,
        &["--tables=shop.t0"],
        &[flavor::program("mariadb-dump"), "--skip-dump-date", "shop", "t0"],
    );
    let some = dump.run_to_end(LONG).expect(0).stdout;
    assert!(some.contains("INSERT INTO `t0`") && some.contains("TRIGGER"), "{some}");
    let all =
        open(&scene, &[], &[flavor::program("mariadb-dump"), "--skip-dump-date", "shop", "t0"]);
    assert_eq!(some, all.run_to_end(LONG).expect(0).stdout);
    // Written to, as any other.
    let sql = "DELETE FROM shop.child WHERE a = 1; INSERT INTO shop.t0 (n, text) VALUES (1, 'x'); SELECT 8";
    let ended =
        open(&scene, &["--writable", "--tables=shop.child,shop.t0"], &[client(), "-N", "-e", sql]);
    assert_eq!(ended.run_to_end(LONG).expect(0).stdout, "8\n");
    let sql = "INSERT INTO shop.child VALUES (9)";
    let ended = open(&scene, &["--writable", "--tables=shop.child"], &[client(), "-e", sql]);
    ended.run_to_end(LONG).expect(1).says("ERROR 1");
    assert_gone(&scene);
}

#[test]
fn tables_that_are_not_there_are_named_first() {
    need_server!();
    let scene = Scene::seeded("absent");
    for (tables, status, says) in [
        ("shop.nope", 1, "has no table shop.nope"),
        ("shop.t0,nope.t1", 1, "has no table nope.t1"),
        ("shop", 2, "malformed list of tables 'shop'"),
    ] {
        let ended = open(&scene, &["--tables", tables], &["true"]).run_to_end(LONG);
        let ended = ended.expect(status).says(says);
        assert_eq!(ended.log().len(), 1, "{ended}");
        assert_gone(&scene);
    }
    let both = open(&scene, &["--tables=shop.t0", "--until=2026-11-28T10:13:59Z"], &["true"]);
    both.run_to_end(LONG).expect(2).says("not for --until");
}

//! Bodies and texts with what the dumping clients write around them.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, Server, flavor};

/// Literals with the ends of comments, delimiters, and lines of a dump.
const TEXTS: [&str; 14] = [
    "'*/'",
    "'a */ b'",
    "'/* x */'",
    "'*/;;x'",
    "'*/ ;;\nx'",
    "'/*!50003 x */'",
    "'/*!50003 TRIGGER x'",
    "'\n/*!50003 CREATE*/ /*!50003 TRIGGER a */;;\n'",
    "'\n;;\n'",
    "'//'",
    "'\nDELIMITER ;\n'",
    "'-- x\n'",
    "'a' -- it's */\n + 1",
    "'a' /* ; it's ' */ + 1",
];

#[test]
fn texts_with_ends_of_comments_and_delimiters_are_carried() {
    need_server!();
    let scene = Scene::new("texts");
    let replica = Replica::start(&scene.primary);
    scene.primary.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, s TEXT); \
         CREATE TABLE f (id INT PRIMARY KEY, s TEXT, x FLOAT); INSERT INTO f VALUES (1, 'a', 0.1)",
    );
    for (n, text) in TEXTS.iter().enumerate() {
        for make in [
            format!("CREATE TRIGGER b{n} BEFORE INSERT ON t FOR EACH ROW SET NEW.s = {text}"),
            format!(
                "CREATE TRIGGER a{n} AFTER UPDATE ON f FOR EACH ROW BEGIN SET @a = {text}; END"
            ),
            format!("CREATE PROCEDURE p{n} () BEGIN SELECT {text}; SELECT 1; END"),
            format!("CREATE FUNCTION f{n} () RETURNS TEXT DETERMINISTIC NO SQL RETURN {text}"),
            format!("CREATE VIEW v{n} AS SELECT {text} AS c"),
        ] {
            scene.primary.sql(&make);
        }
        if !text.contains(";;") {
            let event =
                format!("CREATE EVENT e{n} ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT {text}");
            scene.primary.sql(&event);
        }
        if text.ends_with('\'') {
            scene.primary.sql(&format!(
                "CREATE TABLE c{n} (s VARCHAR(99) DEFAULT {text} COMMENT {text}, CHECK (s <> {text})) \
                 COMMENT {text}; INSERT INTO c{n} VALUES (CONCAT({text}, 'x'))"
            ));
        }
    }
    scene.seed();
    scene.assert_newest_equals(&replica);
}

/// The delimiter would be in the comment, and the rest of the dump in the body.
#[test]
fn bodies_that_end_with_a_comment_are_named() {
    need_server!();
    let scene = Scene::new("ends");
    scene
        .primary
        .sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id INT PRIMARY KEY, s TEXT)");
    let event = "EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO";
    let mut bodies = vec![
        ("PROCEDURE p", "PROCEDURE p ()", "SELECT 'a' -- x"),
        ("FUNCTION f", "FUNCTION f () RETURNS INT DETERMINISTIC NO SQL", "RETURN 1 # it's */"),
        ("TRIGGER g", "TRIGGER g BEFORE INSERT ON t FOR EACH ROW", "SET NEW.s = 'a' --\t*/"),
        ("EVENT e", event, "SELECT 1 # x"),
    ];
    if flavor::is_mysql() {
        let trigger = "TRIGGER g BEFORE INSERT ON t FOR EACH ROW";
        bodies.push(("TRIGGER g", trigger, "SET NEW.s = '; */;;\n'"));
        bodies.push(("LIBRARY l", "LIBRARY l LANGUAGE JAVASCRIPT AS", "$$ let a = `; ;;\n`; $$"));
    }
    for (what, begin, body) in bodies {
        scene.primary.sql(&format!("USE shop; CREATE {begin} {body}"));
        let seed = scene.command("seed").args(["--from", "dump"]);
        let ended = seed.run_to_end(COMMAND_PATIENCE).expect(2);
        let (kind, name) = what.split_once(' ').unwrap();
        let named = format!("a dump would change the {} shop.{name}: ", kind.to_lowercase());
        ended.says(&named).says("--from dir:PATH");
        assert!(!scene.scratch.join("data").exists());
        scene.primary.sql(&format!("DROP {kind} shop.{name}"));
    }
    if flavor::is_mysql() {
        // Comments of SQL are none in other languages.
        scene.primary.sql(
            "USE shop; CREATE FUNCTION j (n INT) RETURNS INT DETERMINISTIC NO SQL LANGUAGE JAVASCRIPT AS \
             $$ for (;;) { if (n-- < 3) return n; } $$",
        );
        scene.seed();
        let restored = Server::start_on(&scene.restore(None));
        let body =
            "SELECT routine_definition FROM information_schema.routines WHERE routine_name = 'j'";
        assert_eq!(restored.value(body), scene.primary.value(body));
    }
}

//! What MySQL's partial revokes hide from an account with privileges on all schemas.

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{DUMP, Replica, Scene, flavor};

/// Neither the client nor a comparison by the same account would miss what is hidden.
#[test]
fn schemas_that_partial_revokes_hide_are_named_before_writing() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    // Whoever holds a privilege can lose it, also what a dump has no use for.
    let scene = Scene::with("revokes", &["--partial-revokes=ON"]);
    let replica = Replica::start(&scene.primary);
    replica.sql("SET GLOBAL partial_revokes = ON");
    let (user, grants) = (DUMP.user, format!("{}, EXECUTE, INSERT", flavor::grants(DUMP.grants)));
    scene.primary.sql(&format!("GRANT {grants} ON *.* TO {user}"));
    scene.primary.sql(
        "CREATE DATABASE secret; CREATE TABLE secret.t (id INT PRIMARY KEY, n INT); \
         INSERT INTO secret.t VALUES (1, 1); \
         CREATE TRIGGER secret.noted BEFORE INSERT ON secret.t FOR EACH ROW SET NEW.n = 7",
    );
    let refused = |taken: &str, names: &str| {
        let seed = scene.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE);
        let first = scene.command("run").arg("--first-backup=dump");
        let first = first.arg("--defaults-file").arg(&scene.dump).run_to_end(COMMAND_PATIENCE);
        for ended in [seed, first] {
            let ended = ended.expect(1).says("access-denied: ").says(&format!(
                "partial revokes take from the account {user}, or from a role of it, {names}; run"
            ));
            assert_eq!(scene.checkpoint().get("cause"), Some("access-denied"), "{taken}");
            assert!(!scene.scratch.join("data").exists(), "{ended}");
        }
        assert!(scene.backups().is_empty());
    };
    for (taken, names) in [
        ("TRIGGER", "TRIGGER on secret"),
        (
            "SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE",
            "SELECT, SHOW VIEW, TRIGGER, EVENT on secret",
        ),
    ] {
        scene.primary.sql(&format!("REVOKE {taken} ON secret.* FROM {user}"));
        refused(taken, names);
        scene.primary.sql(&format!(
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}; GRANT {grants} ON *.* TO {user}"
        ));
    }
    // What a dump has no use for may be missing; all that an account has may come from a role.
    scene.primary.sql(&format!(
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}; CREATE ROLE r; \
         GRANT {grants} ON *.* TO r; REVOKE INSERT, EXECUTE ON secret.* FROM r; GRANT r TO {user}; \
         SET DEFAULT ROLE r TO {user}; REVOKE SELECT ON secret.* FROM r",
    ));
    refused("a role's", "SELECT on secret");
    scene.primary.sql("GRANT SELECT ON secret.* TO r");
    scene.seed();
    scene.assert_newest_equals(&replica);
}

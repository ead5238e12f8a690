//! MySQL's mandatory roles: what is one now may have been none when a statement was logged.

use crate::field::applied::library;
use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Scene, Server, flavor, is_root};
use crate::until::{gtids, until};

/// Who has which role, and as which one everybody begins.
fn roles(server: &Server) -> Vec<Vec<String>> {
    server.sql(
        "SELECT CONCAT_WS(' ', 'edge', from_user, to_user) FROM mysql.role_edges UNION ALL \
         SELECT CONCAT_WS(' ', 'default', user, default_role_user) FROM mysql.default_roles \
         UNION ALL SELECT CONCAT_WS(' ', 'account', user) FROM mysql.user ORDER BY 1",
    )
}

#[test]
fn roles_that_became_mandatory_are_revoked_dropped_and_used() {
    need_server!();
    if !flavor::is_mysql() {
        return;
    }
    let scene = Scene::seeded("mandatory");
    scene
        .primary
        .sql("CREATE ROLE reader, writer, gone; GRANT reader TO writer; CREATE USER clerk, second");
    scene.run().expect(0);
    let equal = || {
        let restored = Server::start_on(&scene.restore(None));
        assert_eq!(roles(&restored), roles(&scene.primary));
    };
    // The last statement: what counts as executed is where the primary is.
    scene.primary.sql(
        "DROP ROLE gone; REVOKE reader FROM writer; SET GLOBAL mandatory_roles = 'reader,gone'",
    );
    scene.run().expect(0);
    equal();
    scene.primary.sql("SET DEFAULT ROLE reader TO clerk");
    let used = scene.primary.gtid_pos();
    scene.primary.sql("SET DEFAULT ROLE reader TO second; CREATE USER third");
    scene.run().expect(0);
    equal();
    let (_, number) = used.rsplit_once(['-', ':']).unwrap();
    let (uuid, _) = used.split_once(':').unwrap();
    let (ended, to) = until(&scene, &format!("{}:{number}", uuid.trim()));
    ended.expect(0);
    let defaults = "SELECT GROUP_CONCAT(user) FROM mysql.default_roles";
    assert_eq!(Server::start_on(&to).value(defaults), "clerk");
}

/// Then it is entered through an account of ours, also for what a program may do on it.
#[test]
fn a_server_with_functions_is_entered_with_every_right() {
    need_server!();
    let library = library();
    let plugins = format!("--plugin-dir={}", library.path().display());
    let scene = Scene::seeded_with("entered", &[&plugins]);
    let option = format!("--mysqld-option={plugins}");
    scene.primary.sql("CREATE FUNCTION rf_seven RETURNS INTEGER SONAME 'rf.so'");
    if flavor::is_mysql() {
        scene.primary.sql("CREATE ROLE reader; SET GLOBAL mandatory_roles = 'reader'");
    }
    scene.command("run").arg(&option).run_to_end(COMMAND_PATIENCE).expect(0);
    for more in [&[][..], &["--writable"]] {
        let open = scene.command("open").arg(&option).args(more).args(["--", "true"]);
        open.run_to_end(COMMAND_PATIENCE).expect(0);
    }
    let run = scene.command("run").args([&option, "--on-data=true"]);
    run.run_to_end(COMMAND_PATIENCE).expect(0);
}

/// The backup before it has none yet, and the server that replays the journal was started without.
#[test]
fn a_moment_after_a_function_came_is_restored() {
    need_server!();
    let library = library();
    let plugins = format!("--plugin-dir={}", library.path().display());
    let scene = Scene::seeded_with("came", &[&plugins]);
    let option = format!("--mysqld-option={plugins}");
    scene.primary.sql("CREATE FUNCTION rf_seven RETURNS INTEGER SONAME 'rf.so'");
    scene.primary.sql("CREATE USER first");
    let moment = gtids(&scene.primary).pop().unwrap();
    scene.primary.sql("DROP FUNCTION rf_seven; CREATE USER second");
    scene.command("run").arg(&option).run_to_end(COMMAND_PATIENCE).expect(0);
    let to = scene.path("moment");
    let restore = scene.command("restore").args(["--until", &moment, &option, "--to"]).arg(&to);
    let root = is_root().then_some("--mysqld-user=root");
    restore.args(scene.mysqld()).args(root).run_to_end(COMMAND_PATIENCE).expect(0);
    let names = "SELECT name FROM mysql.func UNION ALL \
                 SELECT user FROM mysql.user WHERE user IN ('first', 'second')";
    assert_eq!(Server::start_on(&to).sql(names).concat(), ["rf_seven", "first"]);
}

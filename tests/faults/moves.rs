//! The primary moves: candidates and names are tried afresh at each attempt, a replica will do.

use std::fs;
use std::process::Command;

use super::{LONG, count, wait_until_moving};
use crate::support::{
    NIGHTLY, PATIENCE, Primary, Proxy, Replica, Scene, Server, assert_same, flavor, run_helper,
    snapshot,
};

#[test]
fn candidates_are_tried_in_order_at_each_attempt() {
    need_server!();
    let scene = Scene::seeded("in-order");
    scene.primary.backlog("shop", 3000);
    let (first, second) = (Proxy::start(&scene.primary), Proxy::start(&scene.primary));
    first.cut();
    first.slow_down(60_000);
    second.slow_down(60_000);
    let candidates = format!("{},{}", first.address(), second.address());
    let mut pass = scene.command("run").args(["--primary", &candidates]).spawn();
    wait_until_moving(&scene, &mut pass);
    assert_eq!(pass.checkpoint().get("primary"), Some(second.address().as_str()));
    // The first one is back, and the second one goes: no memory of who was dead.
    first.mend();
    first.slow_down(u64::MAX);
    second.cut();
    let ended = pass.finish(LONG).expect(0);
    assert_eq!(count(&ended, "retrying in"), 1, "{ended}");
    assert_eq!(scene.checkpoint().get("primary"), Some(first.address().as_str()));
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    scene.assert_nothing_left();
}

/// A library that makes `rf-primary.test` the address that a file holds, for whoever is started
/// with it: the program and its mysqld. No change to the machine is needed.
fn resolver(scene: &Scene) -> std::path::PathBuf {
    let (source, library) = (scene.path("resolver.c"), scene.path("resolver.so"));
    fs::write(
        &source,
        r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64] = "";
    if (node && strcmp(node, "rf-primary.test") == 0) {
        FILE *file = fopen(getenv("RF_TEST_ADDRESS"), "r");
        if (!file || fscanf(file, "%63s", address) != 1)
            return EAI_AGAIN;
        fclose(file);
        node = address;
    }
    return real(node, service, hints, found);
}
"#,
    )
    .unwrap();
    // Whoever builds Rust has a C compiler, for its linker.
    let mut cc = Command::new("cc");
    run_helper(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl"), "");
    library
}

#[test]
fn a_name_is_looked_up_again_at_each_attempt() {
    need_server!();
    let scene = Scene::seeded("name");
    scene.primary.backlog("shop", 200);
    let library = resolver(&scene);
    let address = scene.path("address");
    // Nobody listens on this one.
    fs::write(&address, "127.0.0.2\n").unwrap();
    let named = format!("rf-primary.test:{}", scene.primary.port());
    let program = scene.command("run").args(["--primary", &named, "--max-failures=1000"]);
    // The private server looks the name up by itself, and inherits nothing.
    let (preload, told) = (library.display(), address.display());
    let both = format!("LD_PRELOAD={preload} RF_TEST_ADDRESS={told} exec MYSQLD \"$@\"");
    let program = program.arg("--mysqld").arg(scene.fake_mysqld("resolving", &both));
    let program = program.env("LD_PRELOAD", &library).env("RF_TEST_ADDRESS", &address);
    let mut pass = program.spawn();
    pass.wait_for_log("failure 1 of 1001", PATIENCE);
    // Unknown for a while, and then another machine's.
    fs::remove_file(&address).unwrap();
    pass.wait_for_log("failure 3 of 1001", PATIENCE);
    fs::write(&address, "127.0.0.1\n").unwrap();
    let ended = pass.finish(LONG).expect(0).says("primary-unreachable: primary rf-primary.test:");
    assert_eq!(scene.checkpoint().get("primary"), Some(named.as_str()), "{ended}");
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    scene.assert_nothing_left();
}

#[test]
fn candidates_that_lag_or_diverge_are_skipped() {
    need_server!();
    let scene = Scene::seeded("lags");
    let lagging = Replica::with_log(&scene.primary);
    lagging.advance_to(&scene.primary.gtid_pos());
    scene.primary.backlog("shop", 10);
    scene.settle();
    scene.primary.backlog("shop", 10);
    let other = Primary::start("other");
    other.create_account(NIGHTLY);
    other.backlog("shop", 2000);
    let other = format!("127.0.0.1:{}", other.port());
    let primary = format!("127.0.0.1:{}", scene.primary.port());
    let run = |candidates: String| {
        let program = scene.command("run").args(["--primary", &candidates, "--max-failures=0"]);
        program.run_to_end(LONG)
    };
    let ended = run(format!("{},{other},{primary}", lagging.address())).expect(0);
    assert_eq!(scene.checkpoint().get("primary"), Some(primary.as_str()), "{ended}");
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    // Alone it may be either: both are named.
    let ended = run(lagging.address()).expect(1).says("error: diverged: ");
    let ended = ended.says("reset or replaced").says("lagging replica");
    // MySQL knows exactly what it lacks: the end of what the base has.
    let newest = scene.newest_position();
    let end = flavor::either(newest.as_str(), newest.rsplit('-').next().unwrap());
    assert!(ended.stderr.contains(&format!("{end}, which the primary lacks")), "{ended}");
    assert_eq!(scene.backups().len(), 2);
    scene.assert_nothing_left();
    // It has caught up: a replica is a source like any other.
    scene.primary.backlog("shop", 10);
    lagging.advance_to(&scene.primary.gtid_pos());
    run(lagging.address()).expect(0);
    assert_eq!(scene.newest_position(), scene.primary.gtid_pos());
    scene.assert_newest_equals(&Replica::start(&scene.primary));
}

#[test]
fn a_replica_promoted_during_catch_up_is_followed() {
    need_server!();
    let mut scene = Scene::seeded("fail-over");
    scene.primary.backlog("shop", 3000);
    let second = Replica::with_log(&scene.primary);
    second.advance_to(&scene.primary.gtid_pos());
    let proxy = Proxy::start(&scene.primary);
    proxy.slow_down(60_000);
    let candidates = format!("{},{}", proxy.address(), second.address());
    let mut pass = scene.command("run").args(["--primary", &candidates]).spawn();
    wait_until_moving(&scene, &mut pass);
    let goal = pass.checkpoint().get("goal").unwrap().to_string();
    proxy.cut();
    scene.primary.kill9();
    second.sql("STOP SLAVE; RESET SLAVE ALL; INSERT INTO shop.backlog (text) VALUES ('new')");
    let ended = pass.finish(LONG).expect(0).says("making progress again at ");
    assert_eq!(count(&ended, "started mysqld"), 1, "{ended}");
    assert_eq!(scene.checkpoint().get("goal"), Some(goal.as_str()), "the goal does not move");
    // The next pass gets what only the new primary wrote.
    let program = scene.command("run").args(["--primary", &second.address()]);
    program.run_to_end(LONG).expect(0);
    assert_eq!(scene.newest_position(), second.value("SELECT @@global.gtid_binlog_pos"));
    let restored = Server::start_on(&scene.restore(None));
    assert_same("the restored copy", &snapshot(&restored), "the new primary", &snapshot(&second));
    scene.assert_nothing_left();
}

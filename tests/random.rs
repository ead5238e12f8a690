//! Random schemas and statements: a dump of them, two passes on it and what they restore equal a plain
//! replica, or what cannot be carried is refused by name before the dump.
//!
//! `ROUNDS` says how many rounds there are, `SEED` what is drawn, `ROUND` names a single one. A round is
//! drawn from the seed and its number alone. What the primary was told in a round that failed is left in
//! a file below `target/tmp`.

mod alters;
mod changes;
mod compared;
mod objects;
mod tables;
mod values;
mod world;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::support::scene::COMMAND_PATIENCE;
use crate::support::{Replica, Scene, Server, assert_same, flavor};
use compared::everything;
use world::World;

/// Rounds when nobody says how many, and their seed.
const ROUNDS: u64 = 2;
const SEED: u64 = 7;
/// The test goes on after so many rounds that failed.
const FAILURES: usize = 12;
/// Changes before the dump, and before each pass.
const CHANGES: u64 = 60;

/// One primary and one replica for all rounds up to one that fails.
struct Arena {
    replica: Replica,
    scene: Scene,
    /// Accounts that are there from the beginning.
    accounts: Vec<String>,
}

/// How a round ended.
enum End {
    Equal,
    /// By name, before the dump.
    Refused,
}

#[derive(Default)]
struct Tally {
    equal: u32,
    refused: u32,
    taken: u32,
    said: u32,
    failed: Vec<u64>,
}

const ACCOUNTS: &str = "SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user";

impl Arena {
    fn new() -> Arena {
        let scene = Scene::with("random", &["--max-binlog-size=64M"]);
        let replica = Replica::start(&scene.primary);
        // For views that call functions.
        scene.primary.sql("GRANT EXECUTE ON *.* TO rf_dump");
        let rows = scene.primary.sql(ACCOUNTS);
        Arena { replica, scene, accounts: rows.into_iter().map(|mut r| r.remove(0)).collect() }
    }

    /// Leaves nothing of an earlier round.
    fn clean(&self) {
        let primary = &self.scene.primary;
        let schemas = "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN \
            ('mysql', 'information_schema', 'performance_schema', 'sys')";
        primary.sql("SET SESSION foreign_key_checks = 0");
        for row in primary.sql(schemas) {
            primary.sql(&format!("DROP DATABASE {}", world::quoted(&row[0])));
        }
        primary.sql("SET SESSION foreign_key_checks = 1");
        for row in primary.sql(ACCOUNTS).iter().filter(|row| !self.accounts.contains(&row[0])) {
            // MariaDB's roles have no host.
            match row[0].strip_suffix("@''") {
                Some(role) if !flavor::is_mysql() => primary.sql(&format!("DROP ROLE {role}")),
                _ => primary.sql(&format!("DROP USER {}", row[0])),
            };
        }
        for dir in [&self.scene.repo, &self.scene.scratch] {
            let _ = fs::remove_dir_all(dir);
        }
    }

    fn round(&self, world: &mut World) -> End {
        let scene = &self.scene;
        self.clean();
        begin(world);
        // What is known of tables outside of InnoDB is known once they are closed.
        scene.primary.sql("FLUSH LOCAL TABLES");
        let unsupported = world.dice.percent(5).then(|| unsupported(world)).flatten();
        let seed = scene.command("seed").args(["--from", "dump"]).run_to_end(COMMAND_PATIENCE);
        if let Some(name) = unsupported {
            seed.expect(2).says(&name);
            return End::Refused;
        }
        seed.expect(0);
        for compare in [false, true] {
            world.reconnect(&scene.primary);
            world.settings();
            world.change(CHANGES);
            // What it does not apply, nothing does.
            self.replica.advance_to(&scene.primary.gtid_pos());
            let run = scene.command("run").args(compare.then_some("--compare-time=30s"));
            let run =
                run.args(compare.then(|| format!("--defaults-file={}", scene.dump.display())));
            run.run_to_end(COMMAND_PATIENCE).expect(0);
        }
        let position = scene.newest_position();
        let restored = scene.path("restored");
        let _ = fs::remove_dir_all(&restored);
        scene.command("restore").arg("--to").arg(&restored).run_to_end(COMMAND_PATIENCE).expect(0);
        let server = Server::start_on(&restored);
        self.replica.advance_to(&position);
        assert_same(
            "the restored copy",
            &everything(&server),
            "the replica",
            &everything(&self.replica),
        );
        End::Equal
    }
}

/// What there is at the time of the dump.
fn begin(world: &mut World) {
    world.settings();
    for _ in 0..1 + world.dice.below(3) {
        let (mut name, charset) = (world.name(), values::charset(&mut world.dice));
        // No client dumps the routines of others.
        name.retain(|c| !"'\"\\\n".contains(c));
        if world.say(&format!("CREATE DATABASE {name} CHARACTER SET {charset}")) {
            world.schemas.push(name);
        }
    }
    world.set("CREATE DATABASE base");
    world.schemas.push("`base`".into());
    for _ in 0..5 + world.dice.below(6) {
        let create = world.create_table();
        world.say(&create);
        world.look();
    }
    world.settings();
    world.fill();
    for _ in 0..6 {
        world.alter();
    }
    world.settings();
    world.fill();
    // Views come last: one that refers to a column that is gone is refused.
    for _ in 0..20 {
        world.make_object();
    }
    world.look();
    world.fill();
}

/// Makes something that no dump carries; its name.
fn unsupported(world: &mut World) -> Option<String> {
    let maria = "CREATE TABLE base.precise (id INT PRIMARY KEY, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, \
        e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) ENGINE=InnoDB WITH SYSTEM VERSIONING";
    let statements = match world.dice.below(2) {
        0 => vec![
            "CREATE TABLE base.gone (id INT)",
            "CREATE VIEW base.precise AS SELECT id FROM base.gone",
            "DROP TABLE base.gone",
        ],
        _ if !flavor::is_mysql() => vec![maria],
        _ => vec![
            "CREATE TABLE base.precise (id INT PRIMARY KEY, j JSON)",
            "INSERT INTO base.precise VALUES (1, CAST(1.5 AS JSON))",
        ],
    };
    statements.iter().all(|s| world.say(s)).then(|| "base.precise".into())
}

/// Says how to have the same again, and leaves what was said.
fn failed(seed: u64, world: &World) {
    let (name, round) = (flavor::name(), world.round);
    let file = format!("random-{name}-{seed}-{round}.sql");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let _ = fs::write(&path, world.said.join(";\n"));
    println!("--- FAILED: round {round}: {}", path.display());
    println!("--- again: make random FLAVOR={name} SEED={seed} ROUND={round}");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|v| !v.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: '{text}' is not a number")))
}

#[test]
fn random_schemas_and_statements_equal_a_replica() {
    need_server!();
    // Without a word the same each time: what a server does wrong by itself shows with others.
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let usual = if number("ROUNDS").is_some() { clock() } else { SEED };
    let seed = number("SEED").unwrap_or(usual);
    let (first, last) = match number("ROUND") {
        Some(one) => (one, one),
        None => (1, number("ROUNDS").unwrap_or(ROUNDS)),
    };
    println!("random: SEED={seed}, rounds {first} to {last}");
    let (began, mut tally, mut arena) = (Instant::now(), Tally::default(), None);
    for round in first..=last {
        let begun = Instant::now();
        let held = arena.take().unwrap_or_else(Arena::new);
        let mut world = World::new(&held.scene.primary, seed, round);
        // Moved there, so that it tells what it knows when the round fails.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let arena: Arena = held;
            (arena.round(&mut world), arena)
        }));
        let end = match ended {
            Ok((end, kept)) => {
                arena = Some(kept);
                match end {
                    End::Equal => tally.equal += 1,
                    End::Refused => tally.refused += 1,
                }
                if matches!(end, End::Equal) { "equal" } else { "refused by name" }
            }
            Err(_) => {
                failed(seed, &world);
                tally.failed.push(round);
                "FAILED"
            }
        };
        tally.taken += world.taken;
        tally.said += world.taken + world.refused;
        let (said, spent) = (world.taken + world.refused, begun.elapsed().as_secs_f64());
        println!("round {round}: {end}; {} of {said} statements taken; {spent:.1}s", world.taken);
        if tally.failed.len() >= FAILURES {
            break;
        }
    }
    let Tally { equal, refused, taken, said, failed } = &tally;
    let share = taken * 100 / said.max(&1);
    println!(
        "random: SEED={seed}: {equal} rounds equal, {refused} refused by name, failed: {failed:?}; \
         {share} % of {said} statements taken; {}s",
        began.elapsed().as_secs()
    );
    assert!(failed.is_empty(), "rounds {failed:?} failed");
    assert!(*refused <= 2 + (equal + refused) / 8, "too many rounds were refused");
    assert!(share > 60, "the primary took only {share} % of what it was told");
}

//! Positions against the servers' own arithmetic: made at random, asked of a real server.

use rollforward::mysql::flavor::Flavor;
use rollforward::mysql::position::Position;

use crate::support::{Server, flavor};

/// So many pairs of positions.
const PAIRS: usize = 3000;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64, by Marsaglia.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// A set as people and servers write it: in any order, with overlaps, spaces, capitals.
    fn mysql_set(&mut self) -> String {
        const UUIDS: [&str; 3] = [
            "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            "B1F5A6B0-0000-11E1-9E33-C80AA9429562",
            "00000000-0000-0000-0000-000000000001",
        ];
        let mut parts = Vec::new();
        for _ in 0..self.below(4) {
            let mut part = UUIDS[self.below(3) as usize].to_string();
            for _ in 0..=self.below(5) {
                if self.below(4) == 0 {
                    part += [":a", ":b_1", ":Night", ":a1"][self.below(4) as usize];
                }
                let first = 1 + self.below(20);
                part += &match self.below(3) {
                    0 => format!(":{first}"),
                    1 => format!(":{first}-{}", first + self.below(8)),
                    _ => format!(": {first}-{}", first + self.below(3)),
                };
            }
            parts.push(part);
        }
        parts.join([",", ", ", ",\n"][self.below(3) as usize])
    }

    fn mariadb_position(&mut self) -> String {
        let gtids = (0..4).filter_map(|domain| {
            let (there, server) = (self.below(2) == 0, 1 + self.below(3));
            let sequence = 1 + self.below(9);
            there.then(|| format!("{domain}-{server}-{sequence}"))
        });
        gtids.collect::<Vec<_>>().join(",")
    }
}

fn my(text: &str) -> Position {
    Position::parse(Flavor::MySql, text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn containment_and_difference_are_the_servers_own() {
    need_server!();
    let server = Server::start("gtid", false, &[]);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    if flavor::is_mysql() {
        against_mysql(&server, &mut dice);
    } else {
        against_mariadb(&server, &mut dice);
    }
}

fn against_mysql(server: &Server, dice: &mut Dice) {
    let (mut contained, mut empty) = (0, 0);
    for _ in 0..PAIRS / 50 {
        let pairs: Vec<(String, String)> =
            (0..50).map(|_| (dice.mysql_set(), dice.mysql_set())).collect();
        let rows: Vec<String> = pairs
            .iter()
            .map(|(a, b)| {
                format!(
                    "SELECT GTID_SUBSET('{b}', '{a}'), GTID_SUBTRACT('{a}', '{b}'), \
                     GTID_SUBTRACT('{a}', '')"
                )
            })
            .collect();
        let answers = server.sql(&rows.join(" UNION ALL "));
        assert_eq!(answers.len(), pairs.len());
        for ((a, b), answer) in pairs.iter().zip(&answers) {
            let what = format!("a = {a}\nb = {b}\nthe server: {answer:?}");
            let (mine, theirs) = (my(a), my(b));
            assert_eq!(mine.contains(&theirs), answer[0] == "1", "{what}");
            let left = mine.minus(&theirs);
            assert_eq!(left.to_string(), answer[1].replace('\n', ""), "{what}");
            assert_eq!(mine.to_string(), answer[2].replace('\n', ""), "{what}");
            assert_eq!(my(&answer[1]), left, "{what}");
            // What is missing is as much as the server counts, too.
            assert_eq!(theirs.distance_to(&mine) == 0, answer[1].is_empty(), "{what}");
            contained += usize::from(answer[0] == "1");
            empty += usize::from(answer[1].is_empty());
        }
    }
    // The dice are of use: of each kind there were enough.
    println!("{PAIRS} pairs, {contained} contained, {empty} differences empty");
    assert!(contained > PAIRS / 20 && contained < PAIRS * 19 / 20, "{contained}");
}

fn against_mariadb(server: &Server, dice: &mut Dice) {
    let mut contained = 0;
    for _ in 0..PAIRS / 10 {
        let at = dice.mariadb_position();
        server.sql(&format!("SET GLOBAL gtid_slave_pos = '{at}'"));
        let here = Position::parse(Flavor::MariaDb, &at).unwrap();
        let printed = server.value("SELECT @@global.gtid_slave_pos");
        assert_eq!(Position::parse(Flavor::MariaDb, &printed).unwrap(), here);
        for _ in 0..10 {
            let goal = dice.mariadb_position();
            let reached = server.value(&format!("SELECT MASTER_GTID_WAIT('{goal}', 0)"));
            let goal_position = Position::parse(Flavor::MariaDb, &goal).unwrap();
            let what = format!("at {at}, goal {goal}: {reached}");
            assert_eq!(here.contains(&goal_position), reached == "0", "{what}");
            assert_eq!(goal_position.minus(&here).is_empty(), reached == "0", "{what}");
            contained += usize::from(reached == "0");
        }
    }
    println!("{PAIRS} pairs, {contained} contained");
    assert!(contained > PAIRS / 20 && contained < PAIRS * 19 / 20, "{contained}");
}

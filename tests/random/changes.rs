//! What a primary is told: rows written in every way, tables altered, sessions set differently.

use super::values::value;
use super::world::{Table, World, one};

const MODES: &str = "~~NO_BACKSLASH_ESCAPES~NO_AUTO_VALUE_ON_ZERO~STRICT_TRANS_TABLES~\
    HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION~STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION";
/// What a session may have differently, other than what a replica is not told. With less than full images
/// MariaDB's replicas miss parts of the history of versioned tables.
const SETTINGS: &str = "foreign_key_checks = 0~foreign_key_checks = 1~\
    auto_increment_increment = 7~auto_increment_offset = 3~insert_id = 4711~\
    binlog_row_image = FULL^binlog_row_image = MINIMAL~\
    binlog_row_image = FULL^binlog_row_image = NOBLOB~binlog_row_image = FULL~\
    timestamp = 1700000000.5~timestamp = DEFAULT~\
    lc_time_names = 'de_DE'~collation_connection = 'utf8mb4_bin'~\
    collation_server = 'latin1_bin'~explicit_defaults_for_timestamp = 0^max_error_count = 3~\
    sql_auto_is_null = 1~\
    gtid_domain_id = 7^binlog_row_value_options = 'PARTIAL_JSON'~\
    gtid_domain_id = 0^binlog_transaction_compression = ON~\
    system_versioning_alter_history = KEEP^sql_generate_invisible_primary_key = ON~\
    default_week_format = 3^default_table_encryption = 0~\
    default_regex_flags = 'DOTALL'^div_precision_increment = 4~\
    default_week_format = 3^default_collation_for_utf8mb4 = 'utf8mb4_general_ci'";

impl World {
    /// How the session writes from here on.
    pub fn settings(&mut self) {
        let mode = self.word(MODES);
        self.say(&format!("SET SESSION sql_mode = '{mode}'"));
        let schema = self.schemas.first().cloned().unwrap_or("mysql".into());
        self.say(&format!("USE {schema}"));
        let zone = self.word("+00:00~SYSTEM~+05:30~-11:00");
        self.say(&format!("SET SESSION time_zone = '{zone}'"));
        let format = self.word("ROW~ROW~MIXED~STATEMENT");
        self.say(&format!("SET SESSION binlog_format = '{format}'"));
        for _ in 0..self.dice.below(4) {
            let setting = self.word(SETTINGS);
            self.say(&format!("SET SESSION {setting}"));
        }
    }

    /// Many changes, and what there is afterwards.
    pub fn change(&mut self, many: u64) {
        for _ in 0..many {
            match self.dice.below(100) {
                0..60 => self.write(),
                60..64 => self.transaction(),
                64..84 => self.alter(),
                84..87 => {
                    let create = self.create_table();
                    self.say(&create);
                    self.look();
                }
                87..90 => self.settings(),
                _ => self.make_object(),
            }
        }
    }

    /// Some rows into each table.
    pub fn fill(&mut self) {
        for table in self.tables.clone() {
            for _ in 0..1 + self.dice.below(3) {
                let insert = self.insert(&table);
                self.say(&insert);
            }
        }
    }

    /// One statement that writes rows.
    fn write(&mut self) {
        let Some(table) = self.table() else { return };
        let (name, id) = (table.name.clone(), table.id().to_string());
        if table.forgets() || matches!(table.engine.as_str(), "csv" | "archive" | "blackhole") {
            // The rest is refused, or not found where the server was started again.
            let insert = self.insert(&table);
            self.say(&insert);
            return;
        }
        let (n, k) = (2 + self.dice.below(5), self.dice.below(3));
        let sql = match self.dice.below(20) {
            0..8 => self.insert(&table),
            8..12 => {
                let set = self.assignments(&table);
                format!("UPDATE {name} SET {set} WHERE {id} % {n} = {k}")
            }
            12 => format!("DELETE FROM {name} WHERE {id} % {n} = {k}"),
            13 => self
                .insert(&table)
                .replacen("INSERT IGNORE", "INSERT", 1)
                .replacen("INSERT", "REPLACE", 1),
            14 => format!("{} ON DUPLICATE KEY UPDATE {id} = {id} + 1000", self.insert(&table)),
            15 => {
                let columns: Vec<String> = table.given().iter().map(|c| c.name.clone()).collect();
                let (list, more) = (columns.join(", "), columns[1..].join(", "));
                let more = if more.is_empty() { more } else { format!(", {more}") };
                let by = 10_000 * self.next();
                format!(
                    "INSERT INTO {name} ({list}) SELECT {id} + {by}{more} FROM {name} WHERE {id} < 5000 ORDER BY {id}"
                )
            }
            16 => match self.other(&table) {
                Some(other) => {
                    let set = self.assignments(&table);
                    let set = set.split(" = ").next().unwrap_or_default().to_string();
                    format!(
                        "UPDATE {name} a JOIN {} b ON a.{id} = b.{} SET a.{set} = DEFAULT",
                        other.name,
                        other.id()
                    )
                }
                None => return,
            },
            17 => match self.other(&table) {
                Some(other) => format!(
                    "DELETE a, b FROM {name} a JOIN {} b ON a.{id} = b.{} WHERE a.{id} % {n} = 1",
                    other.name,
                    other.id()
                ),
                None => return,
            },
            18 => match one(&mut self.dice, &self.routines.clone()) {
                Some((routine, arguments)) if routine.starts_with("PROCEDURE ") => {
                    format!("CALL {}({arguments})", &routine[10..])
                }
                _ => format!("UPDATE IGNORE {name} SET {id} = {id} + 1 ORDER BY {id} DESC"),
            },
            _ => match one(&mut self.dice, &self.sequences.clone()) {
                Some(sequence) => {
                    let by = self.dice.below(90);
                    let say = self.word("SELECT NEXTVAL({s})~SELECT SETVAL({s}, {n})~ALTER SEQUENCE {s} RESTART {n}");
                    say.replace("{s}", &sequence).replace("{n}", &by.to_string())
                }
                None if self.dice.percent(20) => format!("TRUNCATE TABLE {name}"),
                None => self.insert(&table),
            },
        };
        self.say(&sql);
    }

    /// A table that can be joined and changed.
    fn other(&mut self, table: &Table) -> Option<Table> {
        let all = self.tables.iter().filter(|t| t.name != table.name && t.engine == "innodb");
        let all: Vec<Table> = all.cloned().collect();
        one(&mut self.dice, &all)
    }

    fn insert(&mut self, table: &Table) -> String {
        let columns: Vec<_> = table.given().into_iter().cloned().collect();
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let mut rows = Vec::new();
        for _ in 0..1 + self.dice.below(6) {
            let mut row = vec![match self.dice.below(10) {
                0 => self.dice.below(8).to_string(),
                _ => self.next().to_string(),
            }];
            for column in &columns[1..] {
                let default = self.dice.percent(8) && column.nullable;
                row.push(if default { "DEFAULT".into() } else { value(&mut self.dice, column) });
            }
            rows.push(format!("({})", row.join(", ")));
        }
        let ignore = self.maybe(15, "IGNORE");
        format!(
            "INSERT{ignore} INTO {} ({}) VALUES {}",
            table.name,
            names.join(", "),
            rows.join(", ")
        )
    }

    fn assignments(&mut self, table: &Table) -> String {
        let all: Vec<_> = table.given().into_iter().skip(1).cloned().collect();
        match one(&mut self.dice, &all) {
            Some(column)
                if matches!(column.data_type.as_str(), "float" | "double")
                    && self.dice.percent(50) =>
            {
                format!("{} = {} / 3", column.name, column.name)
            }
            Some(column) => format!("{} = {}", column.name, value(&mut self.dice, &column)),
            None => format!("{} = {} + 1", table.id(), table.id()),
        }
    }

    /// Several in one, in one of the ways there are.
    fn transaction(&mut self) {
        let n = self.next();
        match self.dice.below(3) {
            0 => {
                self.say("START TRANSACTION");
                self.write();
                self.say("SAVEPOINT `a b`");
                self.write();
                let back = self.dice.percent(50);
                self.say(&format!(
                    "{} SAVEPOINT `a b`",
                    if back { "ROLLBACK TO" } else { "RELEASE" }
                ));
                self.write();
                let end = self.word("COMMIT~COMMIT~ROLLBACK");
                self.say(end);
            }
            1 => {
                // No replica applies a prepared change of an index of vectors.
                let vector = |t: &Table| t.columns.iter().any(|c| c.data_type == "vector");
                let table = self.table().filter(|t| t.engine == "innodb" && !vector(t));
                let Some(table) = table else { return };
                let insert = self.insert(&table);
                if self.say(&format!("XA START 'x{n}', 'it', 5")) {
                    self.say(&insert);
                    self.set(&format!("XA END 'x{n}', 'it', 5"));
                    let end = self.word("PREPARE~ROLLBACK");
                    if self.say(&format!("XA {end} 'x{n}', 'it', 5")) && end == "PREPARE" {
                        let end = self.word("COMMIT~COMMIT~ROLLBACK");
                        self.set(&format!("XA {end} 'x{n}', 'it', 5"));
                    }
                }
            }
            _ => {
                let (Some(table), schema) = (self.table(), self.schema()) else { return };
                let (name, id) = (format!("{schema}.tmp{n}"), table.id().to_string());
                if table.forgets()
                    || !self.say(&format!("CREATE TEMPORARY TABLE {name} (i INT, t TEXT)"))
                {
                    return;
                }
                self.say(&format!("INSERT INTO {name} VALUES (1, 'a'), (2, 'é')"));
                if table.engine == "innodb" {
                    self.say(&format!(
                        "DELETE FROM {} WHERE {id} IN (SELECT i FROM {name})",
                        table.name
                    ));
                    self.say(&format!("CREATE TABLE {schema}.made{n} ENGINE=InnoDB AS SELECT * FROM {name} ORDER BY i"));
                }
                self.set(&format!("DROP TEMPORARY TABLE {name}"));
            }
        }
    }
}

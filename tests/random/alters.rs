//! Tables that are altered, partitioned, renamed and dropped.

use super::values::{charset, column_type};
use super::world::{Table, World, one, quoted};
use crate::support::flavor;

impl World {
    /// Some table becomes another one.
    pub fn alter(&mut self) {
        // In another engine, rows are missed that a server forgot when it was started again.
        let Some(table) = self.table().filter(|t| !t.forgets()) else { return };
        let (name, id, fresh) = (table.name.clone(), table.id().to_string(), self.name());
        let last = table.columns.last().expect("a column").clone();
        let kind = column_type(&mut self.dice);
        let how = self.word("~~~, ALGORITHM=INPLACE~, ALGORITHM=COPY~, LOCK=SHARED");
        let charset = charset(&mut self.dice);
        let what = match self.dice.below(22) {
            0..3 => format!(
                "ADD COLUMN {fresh} {kind}{}",
                self.maybe(50, "FIRST").replace(" FIRST", &format!(" AFTER {id}"))
            ),
            3 => format!("ADD COLUMN {fresh} INT NOT NULL DEFAULT 3, ADD KEY ({fresh}, {id})"),
            4 => format!("ADD COLUMN {fresh} INT AS ({id} + 1) {}", self.word("VIRTUAL~STORED")),
            5 if last.name != id => format!("DROP COLUMN {}", last.name),
            6 if last.name != id => format!("MODIFY COLUMN {} {kind}", last.name),
            7 if last.name != id => format!(
                "MODIFY COLUMN {} {} {}",
                last.name,
                last.full_type,
                self.word("FIRST~COMMENT 'new'")
            )
            .replace(" FIRST", &format!(" AFTER {id}")),
            8 if last.name != id => format!("RENAME COLUMN {} TO {fresh}", last.name),
            // MySQL converts the hidden column of a functional key and says nothing of it in the
            // definition: a key that is made from that has another character set, and CHECKSUM TABLE
            // counts it in.
            9 if !self.has_functional_key(&table) => format!("CONVERT TO CHARACTER SET {charset}"),
            10 => format!("DEFAULT CHARACTER SET {charset}"),
            // No dump brings the options of another engine.
            11 if !self.has_options(&table) => {
                format!("ENGINE={}", self.word("InnoDB~InnoDB~InnoDB~MyISAM~Aria^InnoDB"))
            }
            12 if table.engine == "innodb" => {
                format!("ROW_FORMAT={}", self.word("DYNAMIC~COMPACT~REDUNDANT"))
            }
            13 => format!("COMMENT='{}', ADD KEY {fresh} ({id} DESC)", self.word("new~it''s; é")),
            14 => "FORCE".into(),
            15 => return self.maintain(&table),
            16 => return self.rename(&table),
            17 => return self.indexes(&table),
            18 if !flavor::is_mysql() && table.engine == "innodb" => {
                self.word("ADD SYSTEM VERSIONING~DROP SYSTEM VERSIONING").into()
            }
            19 if last.nullable && !last.generated => {
                format!("ALTER COLUMN {} SET DEFAULT NULL", last.name)
            }
            20 => format!("ADD CONSTRAINT {fresh} CHECK ({id} < 4000000000)"),
            _ => format!("AUTO_INCREMENT={}", 100_000 + self.dice.below(1000)),
        };
        let mut said = format!("ALTER TABLE {name} {what}");
        if !what.contains("CONVERT") && !said.ends_with("VERSIONING") {
            said += how;
        }
        if self.say(&said) {
            self.look();
        }
    }

    fn literal(name: &str) -> String {
        let inner = name.trim_start_matches('`').trim_end_matches('`').replace("``", "`");
        format!("_utf8mb4 x'{}'", inner.bytes().map(|b| format!("{b:02x}")).collect::<String>())
    }

    /// `WHERE` for a table of `information_schema`.
    fn of(table: &Table) -> String {
        let own = &table.name[table.schema.len() + 1..];
        format!(
            "table_schema = {} AND table_name = {}",
            World::literal(&table.schema),
            World::literal(own)
        )
    }

    fn has_options(&mut self, table: &Table) -> bool {
        let sql = format!(
            "SELECT COALESCE(create_options, '') FROM information_schema.tables WHERE {}",
            World::of(table)
        );
        let options = self.ask(&sql).concat().to_uppercase();
        ["COMPRESS", "ENCRYPT", "ROW_FORMAT"].iter().any(|word| options.contains(word))
    }

    fn has_functional_key(&mut self, table: &Table) -> bool {
        let sql = format!(
            "SELECT index_name FROM information_schema.statistics WHERE expression IS NOT NULL AND {}",
            World::of(table)
        );
        flavor::is_mysql() && !self.ask(&sql).is_empty()
    }

    fn indexes(&mut self, table: &Table) {
        let sql = format!(
            "SELECT index_name FROM information_schema.statistics WHERE {}",
            World::of(table)
        );
        let (found, n) = (self.ask(&sql), self.name());
        let Some(index) = one(&mut self.dice, &found) else { return };
        let (index, name) = (quoted(&index), &table.name);
        let sql = match self.dice.below(4) {
            0 => format!("ALTER TABLE {name} RENAME INDEX {index} TO {n}"),
            1 => format!(
                "ALTER TABLE {name} ALTER INDEX {index} {}",
                flavor::either("IGNORED", "INVISIBLE")
            ),
            2 => format!("CREATE INDEX {n} ON {name} ({})", table.id()),
            _ if index == "`PRIMARY`" => return,
            _ => format!("DROP INDEX {index} ON {name}"),
        };
        self.say(&sql);
    }

    fn maintain(&mut self, table: &Table) {
        let sql = format!(
            "SELECT COALESCE(partition_name, '') FROM information_schema.partitions WHERE {}",
            World::of(table)
        );
        let (found, n) = (self.ask(&sql), self.name());
        let part = one(&mut self.dice, &found).filter(|p| !p.is_empty());
        let name = &table.name;
        let Some(part) = part.map(|p| quoted(&p)) else {
            let say =
                self.word("PARTITION BY HASH ({i}) PARTITIONS 2~FORCE").replace("{i}", table.id());
            self.say(&format!("ALTER TABLE {name} {say}"));
            return;
        };
        let what = match self.dice.below(8) {
            0 => "ADD PARTITION PARTITIONS 1".into(),
            1 => "COALESCE PARTITION 1".into(),
            2 => format!("TRUNCATE PARTITION {part}"),
            3 => format!("DROP PARTITION {part}"),
            4 => format!("REBUILD PARTITION {part}"),
            5 => format!(
                "REORGANIZE PARTITION {part} INTO (PARTITION {part} VALUES LESS THAN MAXVALUE COMMENT 'its')"
            ),
            6 => "REMOVE PARTITIONING".into(),
            _ => format!("ADD PARTITION (PARTITION {n} VALUES IN (77))"),
        };
        self.say(&format!("ALTER TABLE {name} {what}"));
    }

    fn rename(&mut self, table: &Table) {
        let (fresh, name) = (self.full_name(), &table.name);
        let sql = match self.dice.below(5) {
            0 => format!("RENAME TABLE {name} TO {fresh}"),
            1 => format!("CREATE TABLE {fresh} LIKE {name}"),
            2 => format!("CREATE TABLE {fresh} ENGINE=InnoDB AS SELECT * FROM {name} ORDER BY 1"),
            3 => format!("TRUNCATE TABLE {name}"),
            _ => format!("DROP TABLE {name}"),
        };
        if self.say(&sql) {
            self.look();
        }
    }
}

//! Tables: columns, indexes, constraints, partitions and options at random.

use super::values::{charset, column_type};
use super::world::{Table, World};
use crate::support::flavor;

/// A column that is about to be made.
struct New {
    name: String,
    kind: String,
    /// No index can be on it, none without a length, or any.
    index: Index,
}

#[derive(Clone, Copy, PartialEq)]
enum Index {
    Never,
    Prefix,
    Whole,
}

impl World {
    /// The definition of a new table, and whatever must be said before it.
    pub fn create_table(&mut self) -> String {
        self.new_table();
        let name = self.full_name();
        let engine = self.engine();
        let plain = matches!(engine, "CSV" | "ARCHIVE" | "BLACKHOLE" | "MEMORY");
        let versioned = !flavor::is_mysql() && engine == "InnoDB" && self.dice.percent(15);
        let id = self.column_name();
        let (by_number, keyed) = match self.dice.below(10) {
            0..4 if !matches!(engine, "CSV" | "ARCHIVE") => ("INT NOT NULL AUTO_INCREMENT", true),
            4..6 if !plain => ("BIGINT UNSIGNED NOT NULL", true),
            _ => ("INT NOT NULL", false),
        };
        let comment = self.comment(15);
        let mut parts = vec![format!("{id} {by_number}{comment}")];
        let mut columns = Vec::new();
        for _ in 0..2 + self.dice.below(7) {
            let column = self.column(plain);
            if engine == "CSV" && column.kind.starts_with("TIMESTAMP") {
                // Stored as text, in the time zone of the session.
                continue;
            }
            if engine == "CSV" {
                parts.push(format!(
                    "{} {} NOT NULL",
                    column.name,
                    column
                        .kind
                        .split(" NULL")
                        .next()
                        .unwrap_or_default()
                        .split(" CHAR")
                        .next()
                        .unwrap_or_default()
                ));
                continue;
            }
            let rest = self.attributes(&column, &id, plain);
            parts.push(format!("{} {}{rest}", column.name, column.kind));
            columns.push(column);
        }
        if keyed {
            parts.push(match self.dice.below(4) {
                0 if !plain => format!("PRIMARY KEY ({id} DESC)"),
                1 if !plain => format!("UNIQUE KEY ({id})"),
                _ => format!("PRIMARY KEY ({id})"),
            });
        }
        let mut partitions = String::new();
        if !plain {
            if keyed && self.dice.percent(20) || !keyed && self.dice.percent(10) {
                partitions = self.partitions(&id, versioned);
            }
            for _ in 0..self.dice.below(4) {
                parts.extend(self.index(&id, &columns, &partitions));
            }
            if partitions.is_empty() && engine == "InnoDB" && self.dice.percent(30) {
                parts.extend(self.foreign_key(&columns));
            }
            // By an index of this kind a replica finds no row to change.
            if keyed && partitions.is_empty() && self.dice.percent(15) {
                parts.extend(self.shape(engine));
            }
            if self.dice.percent(20) {
                let check = self.name();
                parts.push(format!("CONSTRAINT {check} CHECK ({id} > -2000000000)"));
            }
        }
        // It writes text of other character sets that it cannot read.
        let csv = engine == "CSV";
        let options =
            if csv { String::new() } else { self.options(engine, !partitions.is_empty()) };
        let versioned = if versioned { " WITH SYSTEM VERSIONING" } else { "" };
        format!(
            "CREATE TABLE {name} ({}) ENGINE={engine}{options}{versioned}{partitions}",
            parts.join(", ")
        )
    }

    fn engine(&mut self) -> &'static str {
        let n = self.dice.below(100);
        match n {
            0..78 => "InnoDB",
            78..85 => "MyISAM",
            85..90 => flavor::either("Aria", "MyISAM"),
            90..93 => "MEMORY",
            93..96 => "CSV",
            96..98 => "ARCHIVE",
            _ => "BLACKHOLE",
        }
    }

    fn column(&mut self, plain: bool) -> New {
        loop {
            let kind = column_type(&mut self.dice);
            let word = kind.split(['(', ' ']).next().unwrap_or_default();
            let index = match word {
                "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "TINYBLOB" | "BLOB"
                | "MEDIUMBLOB" | "LONGBLOB" => Index::Prefix,
                "JSON" | "GEOMETRY" | "POINT" | "LINESTRING" | "POLYGON" | "MULTIPOINT"
                | "MULTILINESTRING" | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" | "VECTOR" => {
                    Index::Never
                }
                _ if kind.contains("COMPRESSED") || kind.contains("CHAR(0)") => Index::Never,
                _ if kind.contains("300") || kind.contains("255") => Index::Prefix,
                _ => Index::Whole,
            };
            if plain && index != Index::Whole {
                continue;
            }
            return New { name: self.column_name(), kind, index };
        }
    }

    /// Null or not, the default, computed, invisible, a comment.
    fn attributes(&mut self, column: &New, id: &str, plain: bool) -> String {
        let (kind, mut text) = (column.kind.as_str(), String::new());
        let word = kind.split(['(', ' ']).next().unwrap_or_default();
        let is_text = word.ends_with("CHAR") || word.ends_with("TEXT");
        let is_whole = word.ends_with("INT") && !word.ends_with("POINT");
        if !plain
            && self.dice.percent(14)
            && (is_text || is_whole || word == "FLOAT" || word == "DOUBLE")
        {
            let expression = match word {
                "FLOAT" | "DOUBLE" => format!("{id} / 3"),
                _ if is_whole => {
                    self.word("{id} % 100~ABS({id}) % 7~IF({id} > 5, 1, 0)").replace("{id}", id)
                }
                _ => self
                    .word("LEFT(CONCAT({id}, 'x'), 1)~RIGHT(SHA2({id}, 224), 1)")
                    .replace("{id}", id),
            };
            text += &format!(" AS ({expression}) {}", self.word("VIRTUAL~STORED"));
        } else {
            text += &self.maybe(if kind.ends_with(" NULL") { 0 } else { 20 }, "NOT NULL");
            let default = match word {
                "DATETIME" | "TIMESTAMP" if !plain => {
                    let digits = kind.find('(').map_or("", |at| &kind[at..at + 3]);
                    let now = format!("CURRENT_TIMESTAMP{digits}");
                    self.word("~DEFAULT {n}~DEFAULT {n} ON UPDATE {n}").replace("{n}", &now)
                }
                _ if is_whole => self.word("~DEFAULT 5~DEFAULT (1 + 2)~DEFAULT '7'").into(),
                "FLOAT" | "DOUBLE" => self.word("~DEFAULT 0.5~DEFAULT (1/3)").into(),
                _ if is_text && column.index != Index::Never && !kind.contains("(1)") => {
                    self.word("~DEFAULT ('a')~DEFAULT (CONCAT('a', 'b'))~DEFAULT ('it''s')^DEFAULT ('its')").into()
                }
                "UUID" => self.word("~DEFAULT '123e4567-e89b-12d3-a456-426655440000'").into(),
                _ => String::new(),
            };
            if !default.is_empty() {
                text += &format!(" {default}");
            }
        }
        text += &self.maybe(10, "INVISIBLE");
        // Without a value for it a row would be refused.
        if text.contains("INVISIBLE") && text.contains("NOT NULL") {
            text = text.replace(" NOT NULL", "");
        }
        text + &self.comment(10)
    }

    fn comment(&mut self, percent: u64) -> String {
        let words = "it''s~\"é\" 日本~; */;; -- x~`a` 😀~a  b~\t";
        let word = self.word(words);
        // Comments have no characters outside of the first plane in MariaDB's older dictionaries.
        let word = if flavor::is_mysql() || !word.contains('😀') { word } else { "`a`" };
        self.maybe(percent, &format!("COMMENT '{word}'"))
    }

    fn index(&mut self, id: &str, columns: &[New], partitions: &str) -> Option<String> {
        let column = super::world::one(&mut self.dice, &columns.iter().collect::<Vec<_>>())?;
        let (name, column_name) = (self.name(), column.name.as_str());
        let text = column.kind.contains("TEXT") || column.kind.contains("VARCHAR(300)");
        let shape = column.kind.contains("POINT") || column.kind.contains("POLYGON");
        let options = self.word("~~ COMMENT 'it''s'~ IGNORED^ INVISIBLE~ USING BTREE");
        let order = self.word("~~ DESC");
        if text
            && partitions.is_empty()
            && !column.kind.contains("COMPRESSED")
            && self.dice.percent(60)
        {
            return Some(format!("FULLTEXT KEY {name} ({column_name})"));
        }
        Some(match column.index {
            // It needs a column without NULL.
            Index::Never if shape => return None,
            Index::Never if flavor::is_mysql() && column.kind == "JSON" => {
                format!("KEY {name} ((CAST({column_name}->'$.a' AS CHAR(20))))")
            }
            Index::Never => return None,
            Index::Prefix
                if !flavor::is_mysql() && partitions.is_empty() && self.dice.percent(15) =>
            {
                format!("UNIQUE KEY {name} ({column_name}, {id})")
            }
            Index::Prefix => format!("KEY {name} ({column_name}(5){order}){options}"),
            Index::Whole => match self.dice.below(5) {
                0 if flavor::is_mysql() => format!("KEY {name} (({id} + 1), {column_name})"),
                1 if partitions.is_empty() => {
                    format!("UNIQUE KEY {name} ({column_name}, {id}){options}")
                }
                2 => format!("KEY {name} ({id}{order}, {column_name}){options}"),
                _ => format!("KEY {name} ({column_name}{order}){options}"),
            },
        })
    }

    /// A column with an index of its own kind.
    fn shape(&mut self, engine: &str) -> [String; 2] {
        let (column, index) = (self.name(), self.name());
        if !flavor::is_mysql() && engine == "InnoDB" && self.dice.percent(40) {
            // MariaDB 10.11 has none yet.
            return [
                format!("{column} VECTOR(3) NOT NULL"),
                format!("VECTOR INDEX {index} ({column})"),
            ];
        }
        let kind = self.word("GEOMETRY~POINT~POLYGON~POINT^POINT NOT NULL SRID 4326");
        let kind = if kind.contains("NULL") { kind.into() } else { format!("{kind} NOT NULL") };
        [format!("{column} {kind}"), format!("SPATIAL KEY {index} ({column})")]
    }

    /// To itself or to another table's number.
    fn foreign_key(&mut self, columns: &[New]) -> Option<String> {
        let name = self.name();
        let action =
            self.word("~ON DELETE CASCADE~ON DELETE SET NULL ON UPDATE CASCADE~ON UPDATE RESTRICT");
        let column = columns.iter().find(|c| matches!(c.kind.as_str(), "INT"))?;
        let parents: Vec<Table> = self
            .tables
            .iter()
            .filter(|t| t.columns[0].full_type.starts_with("int"))
            .cloned()
            .collect();
        let parent = super::world::one(&mut self.dice, &parents)?;
        Some(format!(
            "CONSTRAINT {name} FOREIGN KEY ({}) REFERENCES {} ({}) {action}",
            column.name,
            parent.name,
            parent.id()
        ))
    }

    fn partitions(&mut self, id: &str, versioned: bool) -> String {
        let (a, b, c) = (self.name(), self.name(), self.name());
        let sub = match self.dice.percent(30) {
            true => format!(" SUBPARTITION BY HASH ({id}) SUBPARTITIONS 2"),
            false => String::new(),
        };
        if versioned && self.dice.percent(50) {
            return format!(
                " PARTITION BY SYSTEM_TIME (PARTITION {a} HISTORY, PARTITION {b} CURRENT)"
            );
        }
        match self.dice.below(6) {
            0 => format!(" PARTITION BY HASH ({id}) PARTITIONS 3"),
            1 => format!(" PARTITION BY LINEAR KEY ({id}) PARTITIONS 2"),
            2 => format!(
                " PARTITION BY RANGE ({id}){sub} (PARTITION {a} VALUES LESS THAN (10), \
                 PARTITION {b} VALUES LESS THAN (100) COMMENT = 'its', PARTITION {c} VALUES LESS THAN MAXVALUE)"
            ),
            3 => format!(
                " PARTITION BY RANGE COLUMNS ({id}) (PARTITION {a} VALUES LESS THAN (50), \
                 PARTITION {b} VALUES LESS THAN (MAXVALUE))"
            ),
            4 => format!(
                " PARTITION BY LIST ({id} % 3){sub} (PARTITION {a} VALUES IN (0), \
                 PARTITION {b} VALUES IN (1, -1, 2, -2))"
            ),
            _ => format!(" PARTITION BY LINEAR HASH ({id} % 50) PARTITIONS 4"),
        }
    }

    fn options(&mut self, engine: &str, partitioned: bool) -> String {
        let mut text = String::new();
        if self.dice.percent(30) {
            text += &format!(" DEFAULT CHARACTER SET {}", charset(&mut self.dice));
        }
        let more = match engine {
            "InnoDB" => self.word("~~ROW_FORMAT=DYNAMIC~ROW_FORMAT=COMPACT~ROW_FORMAT=REDUNDANT~ROW_FORMAT=COMPRESSED~KEY_BLOCK_SIZE=8~STATS_PERSISTENT=0~STATS_AUTO_RECALC=1 STATS_SAMPLE_PAGES=7~PAGE_COMPRESSED=1^COMPRESSION='zlib'~PAGE_COMPRESSED=1 PAGE_COMPRESSION_LEVEL=3^AUTOEXTEND_SIZE=4M~ENCRYPTED=NO^ENCRYPTION='N'"),
            "MyISAM" => self.word("~ROW_FORMAT=FIXED~CHECKSUM=1 DELAY_KEY_WRITE=1~PACK_KEYS=1~MAX_ROWS=1000"),
            "Aria" => self.word("~TRANSACTIONAL=0~TRANSACTIONAL=1~ROW_FORMAT=PAGE~PAGE_CHECKSUM=0"),
            _ => "",
        };
        text += &format!(" {more}");
        if partitioned && (more.contains("COMPRESS") || more.contains("KEY_BLOCK")) {
            text.clear();
        }
        text + &self.comment(20)
    }
}

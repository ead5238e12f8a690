//! Views, routines, triggers, events, sequences, accounts and roles.

use super::world::World;
use crate::support::{PASSWORD, flavor};

impl World {
    /// Makes one of what is no table; a kind that the server has.
    pub fn make_object(&mut self) {
        match self.dice.below(11) {
            0 | 1 => self.make_view(),
            2 | 3 => self.make_routine(),
            4 | 5 => self.make_trigger(),
            6 => self.make_event(),
            7 if !flavor::is_mysql() => self.make_sequence(),
            _ => self.account(),
        }
    }

    /// Who is said to have made it: anybody, also nobody that there is.
    fn definer(&mut self) -> String {
        let user = super::world::one(&mut self.dice, &self.users.clone());
        match (self.dice.below(12), user) {
            (0..3, Some(user)) => format!("DEFINER = {user} "),
            (3, _) => "DEFINER = 'no such'@'one' ".into(),
            _ => String::new(),
        }
    }

    /// A view of a table or of a view.
    pub fn make_view(&mut self) {
        let Some(table) = self.table() else { return };
        let name = self.full_name();
        let (id, of) = (table.id().to_string(), table.name.clone());
        let last = table.columns.last().expect("a column").name.clone();
        let text = match self.dice.below(8) {
            0 => format!("SELECT {id}, {last} FROM {of} WHERE {id} > 3 WITH CASCADED CHECK OPTION"),
            1 => format!(
                "SELECT a.{id} AS `x y`, COUNT(*) AS n FROM {of} a LEFT JOIN {of} b USING ({id}) GROUP BY 1"
            ),
            2 => format!("SELECT {id} AS `it's`, 'é' AS `日本` FROM {of} UNION ALL SELECT 1, '😀'"),
            3 => format!(
                "WITH w AS (SELECT {id} AS i FROM {of}) SELECT i, ROW_NUMBER() OVER (ORDER BY i) AS r FROM w"
            ),
            4 => format!(
                "SELECT {id} AS i FROM {of} WHERE {id} IN (SELECT MAX({id}) FROM {of}) OR {id} BETWEEN 1 AND 5"
            ),
            5 => match super::world::one(&mut self.dice, &self.views.clone()) {
                Some(view) => format!("SELECT * FROM {view} WHERE 1 = 1 ORDER BY 1"),
                None => "SELECT 1 AS one".into(),
            },
            6 => format!(
                "SELECT {id} AS i, CASE WHEN {id} > 1 THEN 'a' ELSE NULL END AS c, {id} DIV 2 AS d FROM {of}"
            ),
            _ => {
                let called = self.routines.iter().find(|(f, _)| f.starts_with("FUNCTION "));
                let call =
                    called.map(|(f, _)| format!("{}(2)", &f[9..])).unwrap_or("ABS(-1)".into());
                format!("SELECT {call} AS f, CONCAT('a', {id}) AS t FROM {of}")
            }
        };
        let (definer, security) = (self.definer(), self.word("INVOKER~DEFINER"));
        // What its definer may not see, a dump of it does not either: such a view is refused.
        let definer = if security == "DEFINER" { String::new() } else { definer };
        let algorithm = self.word("~ALGORITHM = MERGE ~ALGORITHM = TEMPTABLE ");
        let create =
            format!("CREATE {algorithm}{definer}SQL SECURITY {security} VIEW {name} AS {text}");
        if self.say(&create) {
            self.views.push(name);
        }
    }

    fn make_routine(&mut self) {
        let (name, definer) = (self.full_name(), self.definer());
        let comment = self.word("~COMMENT 'it''s; */ é'~SQL SECURITY INVOKER");
        let quotes = self.dice.percent(20);
        if quotes {
            self.set("SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES,PIPES_AS_CONCAT')");
        }
        let written = self.table().filter(|t| !t.forgets()).map_or("DO 0".into(), |table| {
            format!("UPDATE {} SET {} = {} WHERE 1 = 0", table.name, table.id(), table.id())
        });
        let made = match self.dice.below(6) {
            0..2 => {
                let kinds =
                    "INT~BIGINT UNSIGNED~VARCHAR(20) CHARACTER SET latin1~DECIMAL(20,5)~DOUBLE";
                let (kind, body) =
                    (self.word(kinds), self.word("p + 1~(p * 3) DIV 2~CHAR_LENGTH('😀;') + p"));
                let sql = format!(
                    "CREATE {definer}FUNCTION {name} (p INT) RETURNS {kind} DETERMINISTIC NO SQL {comment} RETURN {body}"
                );
                self.say(&sql).then(|| (format!("FUNCTION {name}"), ""))
            }
            2 if !flavor::is_mysql() => {
                let sql = format!(
                    "CREATE {definer}AGGREGATE FUNCTION {name} (x INT) RETURNS INT DETERMINISTIC \
                     BEGIN DECLARE s INT DEFAULT 0; DECLARE CONTINUE HANDLER FOR NOT FOUND RETURN s; \
                     LOOP FETCH GROUP NEXT ROW; SET s = s + x; END LOOP; END"
                );
                self.say(&sql).then(|| (format!("FUNCTION {name}"), "x"))
            }
            3 if !flavor::is_mysql() => {
                let mode = self.ask("SELECT @@sql_mode").remove(0);
                self.set("SET SESSION sql_mode = 'ORACLE'");
                let name = name.replace('`', "\"");
                let made = self.say(&format!(
                    "CREATE {definer}PACKAGE {name} AS a INT; FUNCTION f RETURN INT; END"
                ));
                if made {
                    self.say(&format!(
                        "CREATE {definer}PACKAGE BODY {name} AS b INT := 2; -- it's\n\
                         FUNCTION f RETURN INT AS BEGIN RETURN b; END; END"
                    ));
                }
                self.set(&format!("SET SESSION sql_mode = '{mode}'"));
                None
            }
            n => {
                let inner = if quotes { "\"x\"" } else { "x" };
                let sql = format!(
                    "CREATE {definer}PROCEDURE {name} (IN a INT, OUT b TEXT, INOUT `c d` DATETIME(3)) {comment}\n\
                     BEGIN\n  -- it's; a comment\n  DECLARE {inner} INT DEFAULT {n};\n  # another /* one\n  \
                     DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;\n  \
                     lab: LOOP SET {inner} = {inner} + 1; IF {inner} > 3 THEN LEAVE lab; END IF; END LOOP;\n  \
                     /*! {written} */;\n  SET b = CONCAT('a\\'b', a, '\t$$ // ;;');\nEND"
                );
                self.say(&sql).then(|| (format!("PROCEDURE {name}"), "1, @b, @c"))
            }
        };
        if quotes {
            self.set("SET SESSION sql_mode = REPLACE(REPLACE(@@sql_mode, 'ANSI_QUOTES', ''), 'PIPES_AS_CONCAT', '')");
        }
        self.routines.extend(made);
    }

    /// It notes what happens in a table of its own, or changes what is written.
    fn make_trigger(&mut self) {
        let Some(table) = self.table().filter(|t| t.engine == "innodb") else { return };
        let (trigger, log) = (self.name(), format!("{}.log", table.schema));
        self.say(&format!(
            "CREATE TABLE IF NOT EXISTS {log} (n INT, what VARCHAR(50), at DATETIME(6)) ENGINE=InnoDB"
        ));
        let (definer, id) = (self.definer(), table.id().to_string());
        // One that is nobody's would refuse all that is written from then on.
        let definer = if definer.contains("no such") { String::new() } else { definer };
        let (time, what) = (self.word("BEFORE~AFTER"), self.word("INSERT~UPDATE~DELETE"));
        let row = if what == "INSERT" { "NEW" } else { "OLD" };
        let quote = self.word("x~it''s; é~*/;;");
        let body = match self.dice.below(3) {
            0 => format!("INSERT INTO {log} VALUES ({row}.{id}, '{quote}', NOW(6))"),
            1 => format!(
                "BEGIN IF {row}.{id} > 5 THEN INSERT INTO {log} VALUES ({row}.{id}, '{quote}', NULL); END IF;\n-- x\nEND"
            ),
            _ => format!("SET @seen = {row}.{id}"),
        };
        self.say(&format!(
            "CREATE {definer}TRIGGER {}.{trigger} {time} {what} ON {} FOR EACH ROW {body}",
            table.schema, table.name
        ));
    }

    fn make_event(&mut self) {
        let (name, definer) = (self.full_name(), self.definer());
        let when = self.word("EVERY 1 DAY~EVERY '1:30' HOUR_MINUTE STARTS '2036-01-01 00:00:00' ENDS '2037-01-01 00:00:00'~AT '2037-05-05 05:05:05'~EVERY 2 QUARTER");
        let after = self.word("~ON COMPLETION PRESERVE~ON COMPLETION NOT PRESERVE");
        let status = self.word("~DISABLE~ENABLE~DISABLE ON SLAVE^DISABLE ON REPLICA");
        let comment = self.word("~COMMENT 'it''s; é'");
        let body =
            self.word("DO 1~SELECT 'it''s; */ é'~BEGIN DECLARE x INT; SET x = 1; -- a\n END");
        self.say(&format!(
            "CREATE {definer}EVENT {name} ON SCHEDULE {when} {after} {status} {comment} DO {body}"
        ));
    }

    fn make_sequence(&mut self) {
        let name = self.full_name();
        let options = self.word("~START WITH 5 INCREMENT BY 3 CACHE 0~INCREMENT BY -2 MAXVALUE 100 MINVALUE -100 START WITH 50 CYCLE~MAXVALUE 9223372036854775806 NOCACHE~ENGINE=Aria~ENGINE=MyISAM");
        if self.say(&format!("CREATE SEQUENCE {name} {options}")) {
            self.say(&format!("SELECT NEXTVAL({name})"));
            self.sequences.push(name);
        }
    }

    /// An account or a role is made, changed, given something or dropped.
    pub fn account(&mut self) {
        let n = self.next();
        let user = super::world::one(&mut self.dice, &self.users.clone());
        let role = super::world::one(&mut self.dice, &self.roles.clone());
        let dice = self.dice.below(13);
        match (dice, user, role) {
            (0..3, ..) | (_, None, _) => self.make_user(n),
            (3, ..) | (_, _, None) => {
                let role = format!("'role é {n}'");
                if self.say(&format!("CREATE ROLE {role}")) {
                    self.roles.push(role);
                }
            }
            (4 | 5, Some(user), Some(role)) => {
                let admin = self.maybe(30, "WITH ADMIN OPTION");
                self.say(&format!("GRANT {role} TO {user}{admin}"));
                if self.dice.percent(60) {
                    let set = flavor::either(" FOR ", " TO ");
                    self.say(&format!("SET DEFAULT ROLE {role}{set}{user}"));
                }
            }
            (6, Some(user), Some(role)) => {
                let who = if self.dice.percent(50) { &user } else { &role };
                let what =
                    self.word("SELECT, INSERT~ALL PRIVILEGES~CREATE ROUTINE, TRIGGER~SHOW VIEW");
                let schema = match self.dice.below(4) {
                    0 => "`a\\_%`".into(),
                    1 => "`no such`".into(),
                    _ => self.schema(),
                };
                self.say(&format!("GRANT {what} ON {schema}.* TO {who}"));
            }
            (7, Some(user), Some(role)) => {
                let Some(table) = self.table() else { return };
                let (id, last) = (table.id(), &table.columns[table.columns.len() - 1].name);
                let who = if self.dice.percent(50) { &user } else { &role };
                let all = "SELECT ({i})~INSERT ({i}, {l}), UPDATE ({l})~DELETE, SELECT~ALTER";
                let what = self.word(all).replace("{i}", id).replace("{l}", last);
                self.say(&format!("GRANT {what} ON {} TO {who}", table.name));
            }
            (8, Some(user), Some(_)) => {
                if let Some((routine, _)) =
                    super::world::one(&mut self.dice, &self.routines.clone())
                {
                    self.say(&format!(
                        "GRANT EXECUTE, ALTER ROUTINE ON {routine} TO {user} WITH GRANT OPTION"
                    ));
                }
            }
            (9, Some(user), Some(_)) => {
                let what = self.word("PROCESS~REPLICATION SLAVE, RELOAD~SUPER~ALL PRIVILEGES~BINLOG MONITOR, CONNECTION ADMIN^BACKUP_ADMIN, SYSTEM_VARIABLES_ADMIN");
                let option = self.maybe(30, "WITH GRANT OPTION");
                self.say(&format!("GRANT {what} ON *.* TO {user}{option}"));
            }
            (10, Some(user), Some(_)) => {
                let other =
                    super::world::one(&mut self.dice, &self.users.clone()).unwrap_or_default();
                self.say(&format!("GRANT PROXY ON {user} TO {other}"));
            }
            (11, Some(user), Some(_)) => {
                let options = self.user_options();
                self.say(&format!("ALTER USER {user}{options}"));
            }
            (_, Some(user), Some(role)) => {
                let what = self.word("GRANT~SELECT~ROLE");
                self.say(&match what {
                    "GRANT" => format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}"),
                    "SELECT" => format!("RENAME USER {user} TO 'renamed {n}'@'%'"),
                    _ => format!("REVOKE {role} FROM {user}"),
                });
                self.users.retain(|u| what != "SELECT" || *u != user);
            }
        }
    }

    fn user_options(&mut self) -> String {
        let mut text = String::new();
        text += self
            .word("~~ REQUIRE SSL~ REQUIRE X509~ REQUIRE SUBJECT '/CN=it''s' AND ISSUER '/C=x'^ REQUIRE SUBJECT '/CN=its'");
        text += self.word("~~ WITH MAX_QUERIES_PER_HOUR 5 MAX_USER_CONNECTIONS 3");
        text +=
            self.word("~~ PASSWORD EXPIRE~ PASSWORD EXPIRE NEVER~ PASSWORD EXPIRE INTERVAL 9 DAY");
        if flavor::is_mysql() {
            text += self.word("~ FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2~ PASSWORD HISTORY 4");
        }
        text += self.word("~~ ACCOUNT LOCK~ ACCOUNT UNLOCK");
        if flavor::is_mysql() {
            text += self.word("~ COMMENT 'it''s é'~ ATTRIBUTE '{\"a\": [1, \"é\"]}'");
        }
        text
    }

    fn make_user(&mut self, n: u64) {
        let name = self.word("user~its^it''s~a b~se^sé~a%~A.b~a`b");
        let host = self.word("%~localhost~10.%~192.168.0.0/255.255.0.0~x.example.org~::1");
        let user = format!("'{name} {n}'@'{host}'");
        let login = match (self.dice.below(5), flavor::is_mysql()) {
            (0, _) => String::new(),
            (1, false) => " IDENTIFIED VIA unix_socket".into(),
            (2, false) => format!(
                " IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}') OR unix_socket"
            ),
            (3, false) => " IDENTIFIED VIA mysql_native_password USING 'invalid'".into(),
            (1, true) => format!(" IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}'"),
            (2, true) => format!(" IDENTIFIED WITH sha256_password BY '{PASSWORD}'"),
            _ => format!(" IDENTIFIED BY '{PASSWORD}'"),
        };
        let options = self.user_options();
        if self.say(&format!("CREATE USER {user}{login}{options}")) {
            self.users.push(user);
        }
    }
}

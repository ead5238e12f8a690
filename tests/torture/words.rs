//! The statements of the load in the words of the server that is tortured.

use mysql::Conn;

use crate::support::{Primary, flavor, server};

/// Rows of the table that MySQL has in place of MariaDB's sequences.
const NUMBERS: u32 = 3000;

/// Makes what MySQL needs for the statements of the load. One by one: in one call it would take
/// the semicolon behind a trigger for a part of it.
pub fn begin(primary: &Primary, statements: &str) {
    for statement in split(statements) {
        primary.sql(&statement);
    }
    if flavor::is_mysql() {
        primary.sql("CREATE TABLE live.numbers (seq INT PRIMARY KEY)");
        let fill = format!("INSERT INTO live.numbers SELECT seq FROM live.seq_1_to_{NUMBERS}");
        primary.sql(&fill);
    }
}

/// Runs statements up to the first that fails.
pub fn run(session: &mut Conn, statements: &str) -> Result<(), mysql::Error> {
    split(statements).iter().try_for_each(|s| server::query(session, s).map(drop))
}

/// No body of a trigger or the like holds a `; `.
fn split(statements: &str) -> Vec<String> {
    if !flavor::is_mysql() {
        return vec![statements.to_string()];
    }
    statements.split("; ").flat_map(translate).collect()
}

/// MariaDB's statement as MySQL has it; nothing for what it does not know.
fn translate(statement: &str) -> Vec<String> {
    let text = statement
        .replace("ENGINE=Aria", "ENGINE=MyISAM")
        .replace("gtid_domain_id = 7", "gtid_next = 'AUTOMATIC:seven'")
        .replace("gtid_domain_id = 0", "gtid_next = 'AUTOMATIC'")
        .replace("live.seq_1_to_", "live.numbers WHERE seq <= ")
        .replace(" = PASSWORD('", " = ('");
    if text.contains("SEQUENCE") || text.contains("NEXTVAL") {
        return Vec::new();
    }
    if let Some((_, password)) = text.split_once(" = ('").filter(|_| text.starts_with("SET ")) {
        let (who, _) = text.split_once(" = ").unwrap_or_default();
        return vec![format!("{who} = '{}", password.trim_end_matches(')'))];
    }
    for kind in ["PROCEDURE", "TRIGGER", "EVENT"] {
        // Two statements here, and so two moments to be killed between.
        if let Some(rest) = text.strip_prefix(&format!("CREATE OR REPLACE {kind} ")) {
            let name = rest.split(' ').next().unwrap_or_default();
            return vec![format!("DROP {kind} IF EXISTS {name}"), format!("CREATE {kind} {rest}")];
        }
    }
    vec![text]
}

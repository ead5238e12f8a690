//! Is what one server holds the same as what another one holds?

use std::collections::BTreeMap;

use super::{Server, flavor};

/// What a server holds, each thing with a sum or a definition.
pub type Snapshot = BTreeMap<String, String>;

const SYSTEM: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

/// The user tables, quoted, in order.
pub fn tables(server: &Server) -> Vec<String> {
    let rows = server.sql(&format!(
        "SELECT CONCAT('`', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', \
         '``'), '`') FROM information_schema.tables WHERE table_schema NOT IN {SYSTEM} \
         AND table_type IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') ORDER BY 1"
    ));
    rows.into_iter().map(|mut r| r.remove(0)).collect()
}

/// The content of every user table, by `CHECKSUM TABLE`.
pub fn checksums(server: &Server) -> Snapshot {
    // MariaDB's CHECKSUM TABLE may differ from one start of a server to the next where a generated column is
    // stored, over the same values.
    let columns = server.sql(
        "SELECT CONCAT('`', TABLE_SCHEMA, '`.`', TABLE_NAME, '`'), COLUMN_NAME, DATA_TYPE, EXTRA \
         FROM information_schema.COLUMNS ORDER BY 1, ORDINAL_POSITION",
    );
    let of = |table: &str| columns.iter().filter(|c| c[0] == table).collect::<Vec<_>>();
    tables(server)
        .into_iter()
        .map(|table| {
            let columns = of(&table);
            if columns.iter().any(|c| c[3].contains("STORED GENERATED")) {
                return (format!("table {table}"), sum_of(server, &table, &columns));
            }
            let sum = server.sql(&format!("CHECKSUM TABLE {table} EXTENDED")).remove(0).remove(1);
            assert_ne!(sum, "NULL", "no checksum of {table}: {}", server.log());
            (format!("table {table}"), sum)
        })
        .collect()
}

/// The sum of all values, each as a text that says all of it.
fn sum_of(server: &Server, table: &str, columns: &[&Vec<String>]) -> String {
    let value = |column: &&Vec<String>| match &column[2][..] {
        "float" => format!("QUOTE(CAST(`{}` AS DOUBLE))", column[1]),
        _ => format!("QUOTE(`{}`)", column[1]),
    };
    let values: Vec<_> = columns.iter().map(value).collect();
    let sum = format!("IFNULL(SUM(CRC32(CONCAT_WS('|', {}))), 0)", values.join(", "));
    server.value(&format!("SELECT CONCAT(COUNT(*), ' rows ', {sum}) FROM {table}"))
}

/// Adds what a query answers, by the first column.
pub fn add(server: &Server, all: &mut Snapshot, kind: &str, text: &str) {
    for row in server.sql(text) {
        let (key, value) = row.split_at(1);
        all.insert(format!("{kind} {}", key[0]), value.join(" | "));
    }
}

/// All of it: tables with content and definition, schemas, views, routines, triggers, events,
/// accounts with their privileges.
pub fn snapshot(server: &Server) -> Snapshot {
    let mut all = checksums(server);
    for table in tables(server) {
        let text = server.sql(&format!("SHOW CREATE TABLE {table}")).remove(0).remove(1);
        // The next value is not content: InnoDB may lose some of it at any restart.
        let text = text.split_whitespace().filter(|w| !w.starts_with("AUTO_INCREMENT="));
        all.insert(format!("definition {table}"), text.collect::<Vec<_>>().join(" "));
    }
    let mut add = |kind: &str, text: &str| add(server, &mut all, kind, text);
    let from = "FROM information_schema";
    add(
        "schema",
        &format!(
            "SELECT schema_name, default_character_set_name, default_collation_name \
             {from}.schemata WHERE schema_name NOT IN {SYSTEM}"
        ),
    );
    add(
        "view",
        &format!(
            "SELECT CONCAT(table_schema, '.', table_name), view_definition, definer, \
             security_type {from}.views WHERE table_schema NOT IN {SYSTEM}"
        ),
    );
    add(
        "routine",
        &format!(
            "SELECT CONCAT(routine_type, ' ', routine_schema, '.', routine_name), \
             routine_definition, definer, sql_mode {from}.routines \
             WHERE routine_schema NOT IN {SYSTEM}"
        ),
    );
    add(
        "trigger",
        &format!(
            "SELECT CONCAT(trigger_schema, '.', trigger_name), event_manipulation, \
             event_object_table, action_timing, action_statement, definer \
             {from}.triggers WHERE trigger_schema NOT IN {SYSTEM}"
        ),
    );
    // Not the status: a replicated event is off on a replica, a dumped one is as it was.
    add(
        "event",
        &format!(
            "SELECT CONCAT(event_schema, '.', event_name), event_definition, definer, \
             interval_value, interval_field {from}.events WHERE event_schema NOT IN {SYSTEM}"
        ),
    );
    if flavor::is_mysql() {
        let who = "SELECT CONCAT(User, '@', Host), ";
        add("account", &format!("{who} u.* FROM mysql.user u"));
        let of = |columns: &str, table: &str| {
            format!("SELECT CONCAT({columns}), '' FROM mysql.{table} ORDER BY 1")
        };
        add("dynamic grant", &of("User, '@', Host, ' ', Priv", "global_grants"));
        add("role", &of("From_User, '@', From_Host, ' ', To_User, '@', To_Host", "role_edges"));
    } else {
        add("account", "SELECT CONCAT(User, '@', Host), Priv FROM mysql.global_priv");
    }
    add("grant", "SELECT CONCAT(User, '@', Host, ' ', Db), d.* FROM mysql.db d");
    add(
        "table grant",
        "SELECT CONCAT(User, '@', Host, ' ', Db, '.', Table_name), Table_priv, Column_priv \
         FROM mysql.tables_priv",
    );
    all
}

/// Panics with the difference, unless both are the same.
#[track_caller]
pub fn assert_same(left_name: &str, left: &Snapshot, right_name: &str, right: &Snapshot) {
    let mut lines = Vec::new();
    for (key, value) in left {
        match right.get(key) {
            None => lines.push(format!("{key}: only in {left_name}")),
            Some(other) if other != value => {
                lines.push(format!("{key}:\n  {left_name}: {value}\n  {right_name}: {other}"));
            }
            Some(_) => {}
        }
    }
    let missing = right.keys().filter(|key| !left.contains_key(*key));
    lines.extend(missing.map(|key| format!("{key}: only in {right_name}")));
    assert!(!left.is_empty(), "{left_name} holds nothing at all");
    assert!(lines.is_empty(), "{left_name} and {right_name} differ:\n{}", lines.join("\n"));
}

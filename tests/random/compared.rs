//! What two servers hold, to the last bit: more than a checksum of each table tells.

use super::values::Column;
use super::world::quoted;
use crate::support::{Server, Snapshot, compare, flavor, snapshot};

/// Words that full-text indexes are searched for.
const SEARCHED: &str = "quick brown fox lazy dogs cats x*";

const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

/// All that can be asked of a server that is not of its own.
pub fn everything(server: &Server) -> Snapshot {
    server.sql("SET NAMES utf8mb4, SESSION time_zone = '+00:00', SESSION sql_mode = ''");
    let mut all = snapshot(server);
    let srid = flavor::either("''", "COALESCE(srs_id, '')");
    for name in compare::tables(server) {
        let definition = format!("definition {name}");
        let text = all.get(&definition).cloned().unwrap_or_default();
        if text.contains("ENGINE=MEMORY") {
            all.remove(&format!("table {name}"));
            continue;
        }
        if flavor::is_mysql() {
            // What a dump names, a column has as its own from then on, and shows.
            let mut words = text.split(' ').peekable();
            let mut kept = Vec::new();
            while let Some(word) = words.next() {
                match (word, words.peek()) {
                    ("CHARACTER", Some(&"SET")) => drop((words.next(), words.next())),
                    ("COLLATE", _) => drop(words.next()),
                    _ => kept.push(word),
                }
            }
            all.insert(definition, kept.join(" "));
        }
        let columns = server.sql(&format!(
            "SELECT column_name, LOWER(data_type), LOWER(column_type), COALESCE(character_set_name, ''), is_nullable, \
             COALESCE(generation_expression, ''), {srid}, COALESCE(collation_name, '') FROM information_schema.columns \
             WHERE CONCAT('`', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '`') = \
             _utf8mb4 x'{}' ORDER BY ordinal_position",
            name.bytes().map(|b| format!("{b:02x}")).collect::<String>()
        ));
        let versioned = text.contains("SYSTEM VERSIONING");
        let of_row = |row: &Vec<String>| exact(&Column::of(row));
        let values: Vec<String> = columns.iter().map(of_row).collect();
        let mut sums: Vec<String> = values.iter().map(|value| added(value)).collect();
        sums.push(added(&format!("SHA2(CONCAT_WS('#', {}), 224)", values.join(", "))));
        if text.contains(" GENERATED ALWAYS AS (") {
            // MariaDB's checksum has what was in the place of such a column before.
            all.remove(&format!("table {name}"));
        }
        if versioned {
            sums.extend(["row_start", "row_end"].map(|c| added(&format!("HEX({c})"))));
        }
        let from = if versioned { format!("{name} FOR SYSTEM_TIME ALL") } else { name.clone() };
        let values =
            server.sql(&format!("SELECT COUNT(*), {} FROM {from}", sums.join(", "))).remove(0);
        let names = columns.iter().map(|c| c[0].as_str());
        for row in &columns {
            all.insert(format!("collation {name}.{}", quoted(&row[0])), row[7].clone());
        }
        for (column, value) in names.chain(["all", "row_start", "row_end"]).zip(&values[1..]) {
            all.insert(
                format!("column {name}.{}", quoted(column)),
                format!("{} rows, {value}", values[0]),
            );
        }
        for index in text.split("FULLTEXT KEY ").skip(1) {
            let Some((_, rest)) = index.split_once("` (") else { continue };
            let Some((list, _)) = rest.split_once(')') else { continue };
            let found = format!(
                "SELECT COUNT(*) FROM {name} WHERE MATCH ({list}) AGAINST ('{SEARCHED}' IN BOOLEAN MODE)"
            );
            if let Ok(rows) = server.try_sql(&found) {
                all.insert(format!("found in {name} {list}"), rows[0][0].clone());
            }
        }
    }
    details(server, &mut all);
    all
}

/// A value to the last bit.
fn exact(column: &Column) -> String {
    let name = &column.name;
    match column.data_type.as_str() {
        "float" | "double" => format!("CAST({name} AS DOUBLE)"),
        "enum" | "set" | "bit" => format!("{name} + 0"),
        _ => format!("HEX({name})"),
    }
}

/// One number for all values, in any order.
fn added(text: &str) -> String {
    format!(
        "CONCAT(SUM({text} IS NULL), ' ', \
         COALESCE(SUM(CAST(CONV(LEFT(SHA2(CONCAT({text}, ''), 224), 14), 16, 10) AS DECIMAL(30))), 0))"
    )
}

/// What the comparison of all tests leaves out.
fn details(server: &Server, all: &mut Snapshot) {
    let mut add = |kind: &str, text: &str| compare::add(server, all, kind, text);
    let from = "FROM information_schema";
    add(
        "event details",
        &format!(
            "SELECT CONCAT(event_schema, '.', event_name), event_type, execute_at, \
             sql_mode, starts, ends, on_completion, time_zone, event_comment, character_set_client, \
             collation_connection, database_collation {from}.events"
        ),
    );
    add(
        "routine details",
        &format!(
            "SELECT CONCAT(routine_type, ' ', routine_schema, '.', routine_name), is_deterministic, \
             sql_data_access, security_type, routine_comment, character_set_client, collation_connection, \
             database_collation {from}.routines WHERE routine_schema NOT IN {OWN}"
        ),
    );
    // MySQL notes that of the schema its session was in.
    let kind = flavor::either("dtd_identifier", "''");
    add(
        "parameter",
        &format!(
            "SELECT CONCAT(specific_schema, '.', specific_name, ' ', routine_type, ordinal_position), parameter_mode, \
             parameter_name, {kind} {from}.parameters WHERE specific_schema NOT IN {OWN}"
        ),
    );
    add(
        "trigger details",
        &format!(
            "SELECT CONCAT(trigger_schema, '.', trigger_name), action_order, sql_mode, character_set_client, \
             collation_connection, database_collation {from}.triggers WHERE trigger_schema NOT IN {OWN}"
        ),
    );
    add(
        "view details",
        &format!(
            "SELECT CONCAT(table_schema, '.', table_name), check_option, character_set_client, \
             collation_connection {from}.views WHERE table_schema NOT IN {OWN}"
        ),
    );
    let grants = flavor::either(
        ["columns_priv", "procs_priv", "roles_mapping", "proxies_priv"].as_slice(),
        &["columns_priv", "procs_priv", "default_roles", "proxies_priv"],
    );
    for table in grants {
        let columns = server.sql(&format!(
            "SELECT column_name {from}.columns WHERE table_schema = 'mysql' AND table_name = '{table}' \
             AND column_name NOT IN ('Timestamp', 'Grantor') ORDER BY 1"
        ));
        let columns: Vec<String> = columns.into_iter().map(|mut row| row.remove(0)).collect();
        // A replica gives the definer of a routine what the primary gave to whoever made it.
        let routines =
            if *table == "procs_priv" { "Proc_priv <> 'Execute,Alter Routine'" } else { "1" };
        let list = columns.join(", ");
        add(
            table,
            &format!("SELECT CONCAT_WS(' | ', {list}), '' FROM mysql.{table} WHERE {routines}"),
        );
    }
    if !flavor::is_mysql() {
        let all_of = format!(
            "SELECT CONCAT('`', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '`') \
             {from}.tables WHERE table_type = 'SEQUENCE'"
        );
        for row in server.sql(&all_of) {
            add(
                "sequence",
                &format!(
                    "SELECT '{}', s.* FROM {} s",
                    row[0].replace('\'', "''").replace('\\', "\\\\"),
                    row[0]
                ),
            );
        }
    }
}

//! What is compared of definitions and accounts: queries that give one row for each part of an object,
//! with a digest of all that it is made of. Pure.
//!
//! They ask for all objects at once, since a statement for each of 30,000 tables takes too long over a
//! network. Left out is what no replica shares: counters, statistics, times, which server wrote it.
//! Texts of the server's own making are compared without parentheses and spaces, of which a definition
//! that is read back may have more.

use crate::compare::names::{identifier, part_of};
use crate::mysql::flavor::Flavor;
use crate::mysql::session::quoted;

/// Schemas of the server itself, and not those whose names differ in case or accents only.
const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";
/// Digits of a digest that are added up for all parts of an object: 60 bits.
const DIGITS: usize = 15;

/// One kind of definition.
pub struct Aspect {
    /// What it is, for people.
    pub noun: &'static str,
    /// The privileges on `*.*` without which the primary shows it in part.
    pub needs: &'static [&'static str],
    /// True for what also exists of views.
    pub of_views: bool,
    /// True for what is only a difference if the tables are printed differently, too.
    pub printed: bool,
    /// Where from, and which rows.
    from: String,
    /// Columns that name the object, and the part of it.
    object: Vec<String>,
    part: Vec<String>,
    /// Expressions that make it up.
    text: Vec<String>,
}

/// MySQL notes of a parameter without a character set that of the schema its session was in, which may be
/// `binary`: a dump has another session.
macro_rules! loose_type {
    () => {
        "REPLACE(REPLACE(REPLACE(dtd_identifier,'blob','text'),'varbinary','varchar'),'binary','char')"
    };
}

fn aspect(
    noun: &'static str,
    needs: &'static [&'static str],
    (from, schema): (&str, &str),
    (object, part): (&str, &str),
    text: &str,
) -> Aspect {
    let list = |text: &str| text.split_whitespace().map(String::from).collect();
    let (which, schema) = schema.rsplit_once(' ').unwrap_or_default();
    Aspect {
        noun,
        needs,
        of_views: false,
        printed: false,
        from: format!("information_schema.{from} {which} CAST({schema} AS BINARY) NOT IN {OWN}"),
        object: list(object),
        part: list(part),
        text: list(text),
    }
}

/// MySQL's spatial reference systems of users. Those with numbers that the manual reserves for the server
/// are not the same in every version.
fn spatial() -> Aspect {
    let list = |text: &str| text.split_whitespace().map(String::from).collect();
    let from = "information_schema.st_spatial_reference_systems \
        WHERE NOT (srs_id BETWEEN 0 AND 32767 OR srs_id BETWEEN 60000000 AND 69999999 \
                   OR srs_id BETWEEN 2000000000 AND 2147483647)";
    Aspect {
        noun: "spatial reference system",
        // Anyone sees them, but they alone are no comparison.
        needs: &["SELECT"],
        of_views: false,
        printed: false,
        from: from.into(),
        object: list("srs_id"),
        part: Vec::new(),
        text: list("srs_name organization organization_coordsys_id definition description"),
    }
}

/// A column without what differs only in how it is printed.
fn loosely(column: &str) -> String {
    let mut text = format!("IFNULL({column}, '~')");
    for drop in ["(", ")", " ", "`"] {
        text = format!("REPLACE({text}, '{drop}', '')");
    }
    text
}

/// All definitions that a server of this flavor can list.
pub fn definitions(flavor: Flavor) -> Vec<Aspect> {
    let maria = flavor == Flavor::MariaDb;
    let select = &["SELECT"];
    let mut all = vec![
        aspect(
            "schema",
            select,
            ("schemata", "WHERE schema_name"),
            ("schema_name", ""),
            pick(
                maria,
                "default_character_set_name default_collation_name schema_comment",
                "default_character_set_name default_collation_name default_encryption",
            ),
        ),
        aspect(
            "table",
            select,
            ("tables", "WHERE table_type <> 'VIEW' AND table_schema"),
            ("table_schema table_name", ""),
            // Aria shows a checksum of pages that it has anyway as an option once it was dumped. Where
            // the primary keeps the files, ours does not.
            "table_type engine table_collation \
             REPLACE(REPLACE(REGEXP_REPLACE(create_options,\
             '(?i)(data|index).directory=''[^'']*''',''),'page_checksum=1',''),CHAR(32),'') \
             table_comment",
        ),
        aspect(
            "column",
            select,
            ("columns", "WHERE table_schema"),
            ("table_schema table_name", "column_name"),
            pick(
                maria,
                "ordinal_position column_type is_nullable column_default extra collation_name \
                 generation_expression column_comment",
                // It may say DEFAULT_GENERATED of a column that has no default.
                "ordinal_position column_type is_nullable \
                 TRIM(IF(ISNULL(column_default),REPLACE(extra,'DEFAULT_GENERATED',''),extra)) \
                 collation_name column_comment srs_id",
            ),
        ),
        aspect(
            "index",
            select,
            ("statistics", "WHERE table_schema"),
            ("table_schema table_name", "index_name seq_in_index"),
            pick(
                maria,
                "non_unique column_name collation sub_part index_type index_comment ignored",
                "non_unique column_name collation sub_part index_type index_comment is_visible",
            ),
        ),
        aspect(
            "partition",
            select,
            ("partitions", "WHERE partition_name IS NOT NULL AND table_schema"),
            ("table_schema table_name", "partition_name subpartition_name"),
            "partition_ordinal_position partition_method partition_expression \
             partition_description subpartition_method subpartition_expression partition_comment",
        ),
        aspect(
            "foreign key",
            select,
            ("key_column_usage", "WHERE referenced_table_name IS NOT NULL AND table_schema"),
            ("table_schema table_name", "constraint_name ordinal_position"),
            "column_name referenced_table_schema referenced_table_name referenced_column_name",
        ),
        aspect(
            "foreign key",
            select,
            ("referential_constraints", "WHERE constraint_schema"),
            ("constraint_schema table_name", "constraint_name"),
            "match_option update_rule delete_rule referenced_table_name",
        ),
        aspect(
            "check constraint",
            select,
            ("check_constraints", "WHERE constraint_schema"),
            pick(
                maria,
                // That of a column keeps the name that the column had before it was renamed.
                ("constraint_schema table_name", "IF(level='Column','',constraint_name)"),
                ("constraint_schema", "constraint_name"),
            ),
            pick(maria, "level", ""),
        ),
        aspect(
            "view",
            &["SELECT", "SHOW VIEW"],
            ("views", "WHERE table_schema"),
            ("table_schema table_name", ""),
            pick(
                maria,
                "check_option definer security_type character_set_client collation_connection \
                 algorithm",
                "check_option definer security_type character_set_client collation_connection",
            ),
        ),
        aspect(
            "trigger",
            &["TRIGGER"],
            ("triggers", "WHERE trigger_schema"),
            ("trigger_schema trigger_name", ""),
            "event_manipulation event_object_table action_order action_timing action_statement \
             sql_mode definer character_set_client collation_connection database_collation",
        ),
        aspect(
            "routine",
            select,
            ("routines", "WHERE routine_schema"),
            ("routine_schema routine_name", "routine_type"),
            pick(
                maria,
                "dtd_identifier routine_definition is_deterministic sql_data_access security_type \
                 sql_mode routine_comment definer character_set_client collation_connection \
                 database_collation",
                concat!(
                    loose_type!(),
                    " routine_definition is_deterministic sql_data_access security_type sql_mode \
                     routine_comment definer character_set_client collation_connection \
                     database_collation"
                ),
            ),
        ),
        aspect(
            "routine",
            select,
            ("parameters", "WHERE specific_schema"),
            ("specific_schema specific_name", "routine_type ordinal_position"),
            pick(
                maria,
                "parameter_mode parameter_name dtd_identifier collation_name",
                concat!("parameter_mode parameter_name ", loose_type!()),
            ),
        ),
        aspect(
            "event",
            &["EVENT"],
            ("events", "WHERE event_schema"),
            ("event_schema event_name", ""),
            // A replicated one is off on a replica.
            "IF(status='DISABLED',1,0) event_definition event_type execute_at interval_value \
             interval_field sql_mode starts ends on_completion definer time_zone event_comment \
             character_set_client collation_connection database_collation",
        ),
    ];
    if !maria {
        for (noun, from, where_, part, text) in [
            ("column", "columns", "", "column_name", "column_default generation_expression"),
            ("index", "statistics", "expression IS NOT NULL AND ", "index_name", "expression"),
        ] {
            let from = (from, &*format!("WHERE {where_}table_schema"));
            let values = aspect(noun, select, from, ("table_schema table_name", part), text);
            // Beside the rest of them: nothing is said twice.
            let at = all.iter().position(|aspect| aspect.noun == noun).unwrap_or_default();
            all.insert(at, Aspect { printed: true, ..values });
        }
    }
    all.extend((!maria).then(spatial));
    for aspect in &mut all {
        aspect.of_views = aspect.noun == "column";
        let loose = match aspect.noun {
            "check constraint" => "check_clause",
            "view" => "view_definition",
            _ => continue,
        };
        aspect.text.push(loosely(loose));
    }
    all
}

/// The first one of MariaDB, the second one of MySQL.
fn pick<T>(maria: bool, one: T, other: T) -> T {
    if maria { one } else { other }
}

/// The tables of accounts and their privileges: table, columns that name the account, columns that
/// name what a row is about, columns that are left out. From the manuals of the grant tables.
pub type Grants = (&'static str, &'static str, &'static str, &'static str);

/// Those of a flavor.
pub fn grants(flavor: Flavor) -> &'static [Grants] {
    match flavor {
        Flavor::MariaDb => &[
            ("global_priv", "User Host", "", ""),
            ("db", "User Host", "Db", ""),
            ("tables_priv", "User Host", "Db Table_name", "Timestamp Grantor"),
            ("columns_priv", "User Host", "Db Table_name Column_name", "Timestamp"),
            ("procs_priv", "User Host", "Db Routine_name Routine_type", "Timestamp Grantor"),
            ("roles_mapping", "User Host", "Role", ""),
            ("proxies_priv", "User Host", "Proxied_user Proxied_host", "Timestamp Grantor"),
        ],
        Flavor::MySql => &[
            ("user", "User Host", "", "password_last_changed"),
            ("db", "User Host", "Db", ""),
            ("global_grants", "USER HOST", "PRIV", ""),
            ("tables_priv", "User Host", "Db Table_name", "Timestamp Grantor"),
            ("columns_priv", "User Host", "Db Table_name Column_name", "Timestamp"),
            ("procs_priv", "User Host", "Db Routine_name Routine_type", "Timestamp Grantor"),
            ("role_edges", "TO_USER TO_HOST", "FROM_USER FROM_HOST", ""),
            ("default_roles", "USER HOST", "DEFAULT_ROLE_USER DEFAULT_ROLE_HOST", ""),
            ("proxies_priv", "User Host", "Proxied_user Proxied_host", "Timestamp Grantor"),
        ],
    }
}

/// The aspect of one of these tables, of which `columns` are all columns.
pub fn account(table: &Grants, columns: &[String]) -> Aspect {
    let (name, object, part, without) = *table;
    let named = |list: &str, column: &str| {
        list.split_whitespace().any(|known| known.eq_ignore_ascii_case(column))
    };
    let rest = columns.iter().filter(|c| ![object, part, without].iter().any(|l| named(l, c)));
    let text = rest.map(|column| match (name, column.as_str()) {
        // Which version wrote it, and when.
        ("global_priv", "Priv") => {
            "COALESCE(JSON_REMOVE(Priv, '$.version_id', '$.password_last_changed'), Priv)".into()
        }
        _ => identifier(column),
    });
    let list = |text: &str| text.split_whitespace().map(String::from).collect();
    Aspect {
        noun: "account",
        needs: &["SELECT"],
        of_views: false,
        printed: false,
        from: format!("mysql.{name}"),
        object: list(object),
        part: list(part),
        text: text.collect(),
    }
}

impl Aspect {
    /// One row for each object: its name, the number of parts, the sum of their digests.
    pub fn digests(&self) -> String {
        format!(
            "SELECT o, COUNT(*), SUM(CAST(CONV(LEFT(SHA2(CONCAT(p, ' ', d), 224), {DIGITS}), 16, 10) \
             AS UNSIGNED)) FROM ({}) AS parts GROUP BY o",
            self.parts()
        )
    }

    /// One row for each part of these objects: object, part, digest.
    pub fn parts_of<'a>(&self, objects: impl Iterator<Item = &'a str>) -> String {
        let objects: Vec<String> = objects.map(quoted).collect();
        let list = objects.join(", ");
        format!("SELECT o, p, d FROM ({}) AS parts WHERE o IN ({list})", self.parts())
    }

    fn parts(&self) -> String {
        // One character set and collation for all, whatever each column has.
        let name = |columns: &[String], between: &str, null: &str| {
            let text = |c: &String| format!("CONVERT(IFNULL({c}, '{null}') USING utf8mb4)");
            let columns: Vec<String> = columns.iter().map(text).collect();
            let columns = if columns.is_empty() { vec!["''".into()] } else { columns };
            format!("CONCAT_WS('{between}', {}) COLLATE utf8mb4_bin", columns.join(", "))
        };
        let (mut object, mut between) = (self.object.clone(), "@");
        if self.noun != "account" {
            object[0] = part_of(&object[0]);
            between = ".";
        }
        format!(
            "SELECT {} AS o, {} AS p, SHA2({}, 224) AS d FROM {}",
            name(&object, between, ""),
            name(&self.part, " ", ""),
            name(&self.text, "|", "~"),
            self.from
        )
    }
}

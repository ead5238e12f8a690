//! Privileges on the primary: what a job needs and what an account lacks. Pure.
//!
//! With a missing privilege, a dump may succeed without the data, and a replica that may not
//! register retries forever. Checking first saves hours of work. `SHOW GRANTS` needs no privilege
//! and includes the enabled role's grants.

use crate::mysql::flavor::Flavor;

/// What the nightly pass needs on `*.*`.
pub const NIGHTLY: &[&str] = &["REPLICATION SLAVE"];
/// What a dump of a MariaDB primary, and the catch-up after it, need on `*.*`.
pub const DUMP: &[&str] = &["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "REPLICATION SLAVE"];
/// The same of a MySQL primary.
const MYSQL_DUMP: &[&str] =
    &["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "PROCESS", "RELOAD", "REPLICATION SLAVE"];
/// What a clone of a MySQL primary, and the catch-up after it, need on `*.*`.
pub const CLONE: &[&str] = &["BACKUP_ADMIN", "REPLICATION SLAVE"];
/// Where the first one is missing, the second one will do.
const INSTEAD: &[(&str, &str)] = &[("RELOAD", "FLUSH_TABLES")];

/// What a dump of a primary, and the catch-up after it, need on `*.*`.
pub fn dump(flavor: Flavor) -> &'static [&'static str] {
    match flavor {
        Flavor::MariaDb => DUMP,
        Flavor::MySql => MYSQL_DUMP,
    }
}

/// What an account needs besides to see whether a primary filters its binary log. MariaDB also calls it
/// BINLOG MONITOR.
pub const FILTERS: &str = "REPLICATION CLIENT";

/// The privileges in `wanted` that are not granted globally in the lines of `SHOW GRANTS`.
pub fn missing<'a>(grants: &[String], wanted: &[&'a str]) -> Vec<&'a str> {
    let has = |privilege: &str| {
        grants.iter().any(|line| {
            let Some(list) = global_privileges(line) else { return false };
            list.split(',').map(str::trim).any(|p| {
                p == privilege || p == "ALL PRIVILEGES" || INSTEAD.contains(&(privilege, p))
            })
        })
    };
    wanted.iter().copied().filter(|p| !has(p)).collect()
}

/// The privileges in `wanted` that MySQL's partial revokes take back in a schema, in the lines of `SHOW
/// GRANTS`: those of an account and of its roles arrive merged. No dump has what is in this one.
pub fn revoked<'a>(grants: &[String], wanted: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let found = grants.iter().filter_map(|line| {
        let (list, schema) = partial_revoke(line)?;
        let taken = |privilege: &str| {
            list.split(',').map(str::trim).any(|p| p == privilege || p == "ALL PRIVILEGES")
        };
        let taken: Vec<&str> = wanted.iter().copied().filter(|p| taken(p)).collect();
        (schema != "performance_schema" && !taken.is_empty()).then_some((schema, taken))
    });
    found.collect()
}

/// `SELECT, EVENT` and `mysql` of "REVOKE SELECT, EVENT ON `mysql`.* FROM ...", as MySQL prints a partial
/// revoke; without the quotes where sql_quote_show_create is off.
pub fn partial_revoke(line: &str) -> Option<(&str, String)> {
    let (list, rest) = line.strip_prefix("REVOKE ")?.split_once(" ON ")?;
    let (schema, _) = rest.split_once(".* FROM ")?;
    let quoted = schema.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
    Some((list, quoted.map_or_else(|| schema.to_string(), |name| name.replace("``", "`"))))
}

/// True if the account may read any tables at all.
pub fn may_read(grants: &[String]) -> bool {
    grants.iter().any(|line| {
        let list = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON "));
        let mut list = list.map_or("", |(list, _)| list).split(',').map(str::trim);
        list.any(|p| matches!(p, "SELECT" | "ALL PRIVILEGES"))
    })
}

/// `SELECT, EVENT` of `GRANT SELECT, EVENT ON *.* TO ...`.
fn global_privileges(line: &str) -> Option<&str> {
    let (list, _) = line.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")?;
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_grants_count_and_all_covers_everything() {
        let grants = |lines: &[&str]| lines.iter().map(|l| l.to_string()).collect::<Vec<_>>();
        let some = grants(&[
            "GRANT `reader` TO `u`@`%`",
            "GRANT SELECT, SHOW VIEW, TRIGGER ON *.* TO `reader`",
            "GRANT EVENT ON `shop`.* TO `u`@`%`",
            "GRANT REPLICATION SLAVE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*1'",
        ]);
        assert_eq!(missing(&some, DUMP), ["EVENT"]);
        assert!(may_read(&some) && may_read(&grants(&["GRANT SELECT ON `shop`.* TO `u`@`%`"])));
        assert!(!may_read(&some[2..]) && !may_read(&grants(&["GRANT `SELECT` TO `u`@`%`"])));
        assert!(missing(&some, NIGHTLY).is_empty());
        let all = grants(&["GRANT ALL PRIVILEGES ON *.* TO `u`@`%` WITH GRANT OPTION"]);
        assert!(missing(&all, DUMP).is_empty());
        assert_eq!(missing(&[], NIGHTLY), ["REPLICATION SLAVE"]);
        let mut mysql = grants(&[
            "GRANT SELECT, RELOAD, PROCESS, REPLICATION SLAVE, SHOW VIEW, EVENT ON *.* TO `u`@`%`",
            "GRANT TRIGGER ON *.* TO `u`@`%` WITH GRANT OPTION",
        ]);
        assert!(missing(&mysql, dump(Flavor::MySql)).is_empty());
        mysql[0] = mysql[0].replace(" RELOAD,", "");
        assert_eq!(missing(&mysql, dump(Flavor::MySql)), ["RELOAD"]);
        mysql.push("GRANT BACKUP_ADMIN,FLUSH_TABLES ON *.* TO `u`@`%`".into());
        assert!(missing(&mysql, dump(Flavor::MySql)).is_empty());
    }
    #[test]
    fn partial_revokes_of_what_is_wanted_are_found() {
        let grants = [
            "GRANT SELECT, INSERT, TRIGGER, EVENT ON *.* TO `u`@`%`",
            "REVOKE SELECT, INSERT, TRIGGER ON `my``s ON x`.* FROM `u`@`%`",
            "REVOKE INSERT ON `harmless`.* FROM `u`@`%`",
            "REVOKE SELECT ON `performance_schema`.* FROM `u`@`%`",
            "REVOKE EVENT ON bare.* FROM u@`%`",
        ];
        let grants = grants.map(String::from);
        let found = revoked(&grants, dump(Flavor::MySql));
        let expected = [("my`s ON x", vec!["SELECT", "TRIGGER"]), ("bare", vec!["EVENT"])];
        assert_eq!(found, expected.map(|(schema, taken)| (schema.to_string(), taken)));
        assert!(revoked(&grants, NIGHTLY).is_empty() && revoked(&grants, CLONE).is_empty());
    }
}

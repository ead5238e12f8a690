//! The table of settings: forms, options, and who has the last word.

use super::*;

#[test]
fn what_no_server_says_is_refused_by_name() {
    for (name, good, bad) in [
        ("lower_case_table_names", "1", "3"),
        ("innodb_page_size", "16384", "16384 --user=root"),
        ("max_allowed_packet", "16777216", ""),
        ("explicit_defaults_for_timestamp", "ON", "on"),
        ("character_set_server", "utf8mb4", "utf8mb4\nplugin-load=x"),
        ("collation_server", "utf8mb4_uca1400_ai_ci", "utf8mb4'"),
        ("sql_mode", "STRICT_TRANS_TABLES,NO_ZERO_DATE", "ANSI'; --"),
        ("sql_mode", "", "A B"),
        ("default_storage_engine", "MyISAM", "x;y"),
        ("innodb_ft_server_stopword_table", "shop/words", "shop/../../x"),
        ("ft_stopword_file", "(built-in)", "a\nb"),
        ("mandatory_roles", "`r`@`%`,x@localhost", "r\nplugin-load=x"),
    ] {
        let read_one = |value| read("db:3306", &[vec![name, value]]);
        assert_eq!(read_one(good).unwrap().len(), 1, "{name}");
        let refused = read_one(bad).unwrap_err().to_string();
        assert!(refused.contains("db:3306") && refused.contains(name), "{refused}");
    }
    assert_eq!(read("x", &[]).unwrap(), []);
}

#[test]
fn a_zone_leads_nowhere_else() {
    let fits = |zone| find(ZONE).unwrap().fits(zone);
    assert!(fits("America/Argentina/Buenos_Aires") && fits("<+0545>-5:45:00") && fits("UTC"));
    for bad in ["", "/etc/passwd", ":x", "../../x", "a b", "a\n"] {
        assert!(!fits(bad), "{bad}");
    }
}

#[test]
fn the_directory_has_the_last_word() {
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    let primary = vec![pair("innodb_data_file_path", "x:10M"), pair("sql_mode", "")];
    let manifest = [pair("innodb_data_file_path", "ibdata1:10M"), pair("sql_mode", "ANSI")];
    let both = with(primary, of_directory("b", &manifest).unwrap());
    assert_eq!(value(&both, "innodb_data_file_path"), Some("ibdata1:10M"));
    assert_eq!(value(&both, "sql_mode"), Some(""));
    for (name, bad) in [
        ("innodb_page_size", "8192 --user=root"),
        ("innodb_data_file_path", "../ibdata1:10M"),
        ("innodb_data_file_path", "/dev/sda1:3Graw"),
    ] {
        assert!(of_directory("b", &[pair(name, bad)]).is_err(), "{bad}");
    }
}

#[test]
fn only_the_data_insists_on_its_options() {
    let option = |name, value| find(name).unwrap().option(value);
    assert_eq!(option("innodb_page_size", "8192").unwrap(), "--innodb-page-size=8192");
    assert_eq!(option("partial_revokes", "1").unwrap(), "--loose-partial-revokes=1");
    assert_eq!(option("enforce_storage_engine", ""), None);
    let names: std::collections::HashSet<_> = SETTINGS.iter().map(|s| s.name).collect();
    assert_eq!(names.len(), SETTINGS.len());
}

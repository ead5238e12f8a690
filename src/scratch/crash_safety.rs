//! Whether data survives a killed mysqld.

use std::fs;
use std::io;
use std::path::Path;

use crate::mysql::flavor::Flavor;

/// File name extensions of InnoDB tables and of definitions in a database directory.
const SAFE_ENDINGS: &[&str] = &["ibd", "frm", "opt", "par", "TRG", "TRN", "cfg"];
/// The server's own databases, whose tables survive a crash or are recreated.
const SYSTEM: &[&str] =
    &["mysql", "sys", "performance_schema", "#innodb_redo", "#innodb_temp", "#rocksdb"];

/// Checks that all data and the position survive.
///
/// # Errors
/// Names the first file that does not.
pub(super) fn check(data: &Path, flavor: Flavor) -> Result<(), String> {
    if flavor == Flavor::MariaDb && !data.join("mysql/gtid_slave_pos.ibd").exists() {
        return Err("mysql.gtid_slave_pos is not an InnoDB table".into());
    }
    for database in fs::read_dir(data).map_err(unsure)? {
        let database = database.map_err(unsure)?;
        let name = database.file_name();
        let is_system = SYSTEM.iter().any(|s| name == *s);
        if is_system || !database.file_type().map_err(unsure)?.is_dir() {
            continue;
        }
        for file in fs::read_dir(database.path()).map_err(unsure)? {
            let path = file.map_err(unsure)?.path();
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if !SAFE_ENDINGS.contains(&ending) {
                let shown = path.strip_prefix(data).unwrap_or(&path).display();
                return Err(format!(
                    "{shown} is not an InnoDB table and its mysqld did not shut down"
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn unsure(e: io::Error) -> String {
    format!("it cannot be inspected: {e}")
}

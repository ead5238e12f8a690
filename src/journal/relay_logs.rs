//! The relay logs in a directory, by their names.

use std::fs::File;
use std::io;

use crate::os::files;

/// The relay logs in a directory, by their numbers. A tablespace has another name: `relay.000001.ibd`.
pub fn logs_in(dir: &File) -> io::Result<Vec<(u64, String)>> {
    let mut logs = Vec::new();
    for entry in files::list(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let number = name.strip_prefix("relay.").filter(|digits| {
            (6..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        });
        if let Some(number) = number.and_then(|n| n.parse().ok())
            && entry.file_type()?.is_file()
        {
            logs.push((number, name));
        }
    }
    logs.sort_unstable();
    Ok(logs)
}

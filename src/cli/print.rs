//! Standard output.

use std::io::{self, Write as _};

use crate::cli::logger::print_error;
use crate::text::system_text;

/// Writes to standard output. Returns the exit status: a reader that has gone is fine.
pub fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let text = system_text(&e);
            print_error(&format!("rollforward: cannot write to standard output: {text}"));
            1
        }
        _ => 0,
    }
}

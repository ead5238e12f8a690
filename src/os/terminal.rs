//! The status line on a terminal, which is redrawn in place and cleared for log lines.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether lines are drawn at all.
static ENABLED: AtomicBool = AtomicBool::new(false);
/// Whether a line is on screen now.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// Short enough not to wrap on a narrow terminal.
const COLUMNS: usize = 79;

/// Enables drawing if standard error is a capable terminal.
pub fn draw_if_terminal() {
    let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb" || t.is_empty());
    ENABLED.store(!dumb && io::stderr().is_terminal(), Ordering::Relaxed);
}

/// True once drawing is enabled.
pub fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Replaces the line on screen.
pub fn draw(text: &str) {
    let text: String = text.chars().take(COLUMNS).collect();
    SHOWN.store(true, Ordering::Relaxed);
    let _ = io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes());
}

/// Removes the line, if there is one.
pub fn clear() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        let _ = io::stderr().write_all(b"\r\x1b[K");
    }
}

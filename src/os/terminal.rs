//! The one line on a terminal that redraws itself, and makes way for the log.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// May lines be drawn at all?
static DRAWN_ON: AtomicBool = AtomicBool::new(false);
/// Is one there now?
static SHOWN: AtomicBool = AtomicBool::new(false);
/// A narrow terminal must not wrap it.
const COLUMNS: usize = 79;

/// Lines are drawn from here on if standard error is a terminal that can.
pub fn draw_if_terminal() {
    let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb" || t.is_empty());
    DRAWN_ON.store(!dumb && io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Are lines drawn?
pub fn is_drawn_on() -> bool {
    DRAWN_ON.load(Ordering::Relaxed)
}

/// Draws the line in place of the one before.
pub fn draw(text: &str) {
    let text: String = text.chars().take(COLUMNS).collect();
    SHOWN.store(true, Ordering::Relaxed);
    let _ = io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes());
}

/// Takes the line away, if there is one.
pub fn clear() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        let _ = io::stderr().write_all(b"\r\x1b[K");
    }
}

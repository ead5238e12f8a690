//! Why a session or a statement failed.

use std::fmt;

/// Why a statement has no result.
#[derive(Debug)]
pub enum Trouble {
    /// The server answered with an error; the session goes on.
    Server {
        /// Its number.
        errno: u16,
        /// Its text. It may quote the statement: do not pass it on where that matters.
        text: String,
    },
    /// No answer within the time-out; the session is used up.
    TimedOut,
    /// The connection could not be made, or broke; the session is used up.
    Lost(String),
    /// One side would not have the other, before the login: no TLS, a certificate, a way to log
    /// in. Another try would end alike.
    Refused(String),
    /// Our own `ssl-*` files, or this build, cannot be used.
    Unusable(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Server { errno, text } => write!(f, "error {errno}: {text}"),
            Trouble::TimedOut => f.write_str("no answer in time"),
            Trouble::Lost(why) | Trouble::Refused(why) | Trouble::Unusable(why) => f.write_str(why),
        }
    }
}

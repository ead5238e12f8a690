//! Why a session or a statement failed.

use std::fmt;

/// Why a statement has no result.
#[derive(Debug)]
pub enum Trouble {
    /// The server answered with an error; the session is still usable.
    Server {
        /// Its number.
        errno: u16,
        /// Its text. It may quote the statement, so it must not be logged as it is.
        text: String,
    },
    /// No answer within the time-out; the session is unusable.
    TimedOut,
    /// The connection could not be made, or broke; the session is unusable.
    Lost(String),
    /// One side rejected the other before the login: no TLS, a certificate, a login method.
    /// Retrying would not help.
    Refused(String),
    /// Our own `ssl-*` files cannot be used, or this build has no TLS.
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

//! What a primary's refusal means: which errors waiting does not cure.

use std::fmt::Display;

use crate::error::Error;
use crate::mysql::trouble::Trouble;

/// Converts a primary's refusal.
pub fn refused(address: &dyn Display, trouble: Trouble) -> Error {
    match trouble {
        Trouble::Server { errno, text } if denies_access(errno) => Error::AccessDenied {
            primary: address.to_string(),
            text: format!("error {errno}: {text}"),
        },
        Trouble::Refused(text) => Error::AccessDenied { primary: address.to_string(), text },
        Trouble::Unusable(text) => Error::Configuration { text },
        trouble => {
            Error::PrimaryUnreachable { primary: address.to_string(), text: trouble.to_string() }
        }
    }
}

/// The client libraries' number for all TLS failures. A broken connection reports it once, a
/// rejected certificate at every attempt.
pub const TLS_FAILED: u16 = 2026;

/// Error numbers that waiting does not cure: the account, its password, its privileges or the way
/// it must connect. From the error references of both servers; 1184 is an init_connect that failed, 1597
/// and 13120 are a replica's rejected registration.
pub fn denies_access(errno: u16) -> bool {
    const NUMBERS: [u16; 21] = [
        1044, 1045, 1130, 1142, 1143, 1184, 1227, 1251, 1275, 1370, 1597, 1698, 1820, 1862, 2059,
        2061, 3118, 3159, 3955, 4151, 13120,
    ];
    NUMBERS.contains(&errno)
}

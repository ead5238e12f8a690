//! What is asked of the protection of the line to a primary, and said about it.

use crate::error::{Error, Result};
use crate::mysql::account::{Tls, TlsMode};
use crate::mysql::flavor::Flavor;
use crate::mysql::trouble::Trouble;

/// Refuses a promise of TLS that MariaDB's dump client and receiver do not keep: unless they verify
/// something, they go on without it where the other side offers none.
pub(super) fn check(address: &str, flavor: Flavor, tls: &Tls) -> Result<()> {
    if flavor == Flavor::MySql || tls.mode != TlsMode::Required {
        return Ok(());
    }
    Err(Error::config(format!(
        "primary {address} is MariaDB, whose dump client and replication cannot insist on TLS \
         without verifying a certificate, as ssl-mode=REQUIRED wants: set ssl-ca (and not \
         ssl-mode) in [client], or ssl-mode=PREFERRED if an unencrypted line is acceptable"
    )))
}

/// Adds advice to a rejected login: one rejected for lack of TLS or of a certificate looks like a
/// wrong password.
pub(super) fn with_hint(trouble: Trouble, tls: &Tls) -> Trouble {
    let hint = if tls.mode == TlsMode::Disabled {
        "check user and password; TLS is off: if the primary requires it, set ssl-mode in [client]"
    } else if tls.cert.is_none() {
        "check user and password; if the primary requires a client certificate, set ssl-cert and \
         ssl-key in [client]"
    } else {
        "check user, password and the client certificate in [client]"
    };
    match trouble {
        // 3159: insecure transport is prohibited.
        Trouble::Server { errno: errno @ (1045 | 3159), text } => {
            Trouble::Server { errno, text: format!("{text}; {hint}") }
        }
        trouble => trouble,
    }
}

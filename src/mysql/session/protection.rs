//! How a login to the primary is protected: by TLS, by the server's public key, or not at all.

use std::io::ErrorKind;

use mysql::OptsBuilder;
#[cfg(feature = "tls")]
use mysql::{ClientIdentity, SslOpts};

use crate::mysql::account::{ServerKey, Tls, TlsMode};
use crate::mysql::trouble::Trouble;
#[cfg(feature = "tls")]
use crate::text::plain;

/// The error for [`NOWHERE`], which no socket returns.
pub(super) const NO_KEY: ErrorKind = ErrorKind::NotADirectory;
/// A path where no file can exist. Without a path, the library would ask the server for its key.
const NOWHERE: &str = "/dev/null/no-key";

/// Sets the key that may encrypt a password where there is no TLS.
pub(super) fn with_server_key(opts: OptsBuilder, tls: &Tls) -> OptsBuilder {
    opts.server_key_path(match &tls.server_key {
        ServerKey::Unknown => Some(NOWHERE.into()),
        ServerKey::Asked => None,
        ServerKey::File(path) => Some(path.clone()),
    })
}

/// The primary requires its public key for the password, which the options do not allow.
pub(super) fn key_required() -> Trouble {
    Trouble::Refused(
        "without TLS the account needs the public key of the primary: set ssl-mode, \
         server-public-key-path or get-server-public-key in [client]"
            .into(),
    )
}

#[cfg(feature = "tls")]
pub(super) fn with_tls(opts: OptsBuilder, tls: &Tls) -> Result<OptsBuilder, Trouble> {
    if tls.mode == TlsMode::Disabled {
        return Ok(opts);
    }
    for path in [&tls.ca, &tls.cert, &tls.key].into_iter().flatten() {
        let read = crate::os::files::open(path).map_err(|e| plain(&e.to_string()));
        read.map_err(|e| Trouble::Unusable(format!("cannot read {}: {e}", path.display())))?;
    }
    let identity = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(ClientIdentity::new(cert.clone(), key.clone())),
        _ => None,
    };
    let ssl = SslOpts::default()
        .with_client_identity(identity)
        .with_root_cert_path(tls.verified_by().cloned())
        .with_danger_accept_invalid_certs(tls.mode != TlsMode::VerifyIdentity)
        .with_danger_skip_domain_validation(tls.mode != TlsMode::VerifyIdentity);
    Ok(opts.ssl_opts(ssl))
}

#[cfg(not(feature = "tls"))]
pub(super) fn with_tls(opts: OptsBuilder, tls: &Tls) -> Result<OptsBuilder, Trouble> {
    if matches!(tls.mode, TlsMode::Disabled | TlsMode::Preferred) {
        return Ok(opts);
    }
    let why = "this build has no TLS: set ssl-mode=DISABLED or use another build";
    Err(Trouble::Unusable(why.into()))
}

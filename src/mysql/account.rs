//! The account on a server, and what protects the connection to it.

use std::fmt;
use std::path::PathBuf;

/// A password, which Debug does not print.
#[derive(Clone, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a connection to the primary is protected, in the terms of the MySQL client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disabled,
    /// Encrypted where the server offers it, by any certificate. The default without any key.
    #[default]
    Preferred,
    /// Encrypted, but the server is not authenticated.
    Required,
    /// Encrypted, with a certificate from a trusted authority that names the host.
    VerifyIdentity,
}

/// The `ssl-*` keys.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `ssl-mode`.
    pub mode: TlsMode,
    /// `ssl-ca`.
    pub ca: Option<PathBuf>,
    /// `ssl-cert`; with `ssl-key`.
    pub cert: Option<PathBuf>,
    /// `ssl-key`.
    pub key: Option<PathBuf>,
    /// The public key that encrypts the password where TLS does not.
    pub server_key: ServerKey,
}

/// The public key of a MySQL primary, which encrypts the password when there is no TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerKey {
    /// None: refuse such a login.
    #[default]
    Unknown,
    /// `get-server-public-key`: accept any key the server sends.
    Asked,
    /// `server-public-key-path`.
    File(PathBuf),
}

impl Tls {
    /// The same once it is known whether the server offers TLS: PREFERRED becomes what was found.
    /// Whoever logs in later must not decide that anew, since not every client can.
    pub fn settled(&self, encrypted: bool) -> Tls {
        let mode = match (&self.mode, encrypted) {
            (TlsMode::Preferred, true) => TlsMode::Required,
            (TlsMode::Preferred, false) => TlsMode::Disabled,
            (mode, _) => mode.clone(),
        };
        Tls { mode, ..self.clone() }
    }

    /// The authority that must have signed the certificate; only VERIFY_IDENTITY checks one.
    pub fn verified_by(&self) -> Option<&PathBuf> {
        self.ca.as_ref().filter(|_| self.mode == TlsMode::VerifyIdentity)
    }
}

/// The account on the primary.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// `user`.
    pub user: String,
    /// `password`.
    pub password: Secret,
    /// `ssl-*`.
    pub tls: Tls,
    /// `--compress-stream`: replication asks for a compressed connection.
    pub compress: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let account = Account { password: Secret("hunter2".into()), ..Account::default() };
        assert!(!format!("{account:?}").contains("hunter2"));
    }
}

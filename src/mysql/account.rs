//! Who we are to a server, and what protects the way there.

use std::fmt;
use std::path::PathBuf;

/// A password. It shows itself to nobody who does not ask for it by name.
#[derive(Clone, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a connection to the primary is protected, by the words of the MySQL client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// `ssl-mode=DISABLED`, and the default without `ssl-ca`.
    #[default]
    Disabled,
    /// Encrypted, whoever answers.
    Required,
    /// Encrypted, and the certificate is of a trusted authority and names the host.
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
    /// Whose public key hides the password where TLS does not.
    pub server_key: ServerKey,
}

/// The public key of a MySQL primary: without TLS its default login sends the password under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerKey {
    /// None: such a login is refused.
    #[default]
    Unknown,
    /// `get-server-public-key`: whatever key the server sends.
    Asked,
    /// `server-public-key-path`.
    File(PathBuf),
}

impl Tls {
    /// The authority that a certificate must come from: REQUIRED asks for none.
    pub fn verified_by(&self) -> Option<&PathBuf> {
        self.ca.as_ref().filter(|_| self.mode == TlsMode::VerifyIdentity)
    }
}

/// Who we are to the primary.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// `user`.
    pub user: String,
    /// `password`.
    pub password: Secret,
    /// `ssl-*`.
    pub tls: Tls,
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

//! Certificates of the tests' own authorities, made by `openssl` in a directory of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Primary, TempDir, run_helper};

/// What `openssl` is told where it would read the system's configuration.
const CONFIG: &str = "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=unnamed\n";

/// A directory with two authorities (`ca`, `other`), certificates of the first for a server
/// (`server`), for one at another place (`elsewhere`) and for a client (`client`), a client's of
/// the second (`stranger`) and one that a server made for itself (`self`): `NAME.pem` and
/// `NAME.key` each.
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes them all.
    pub fn make() -> Certificates {
        let all = Certificates(TempDir::new("tls"));
        fs::write(all.path("config"), CONFIG).unwrap();
        for name in ["ca", "other"] {
            all.sign_itself(name, &["-addext", "basicConstraints=critical,CA:TRUE"]);
        }
        all.sign_itself("self", &[]);
        all.sign("server", "ca", "subjectAltName=IP:127.0.0.1,DNS:localhost");
        all.sign("elsewhere", "ca", "subjectAltName=IP:127.0.0.2,DNS:elsewhere.example");
        all.sign("client", "ca", "extendedKeyUsage=clientAuth");
        all.sign("stranger", "other", "extendedKeyUsage=clientAuth");
        all
    }

    /// The path of a file there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Options for a primary that shows the certificate `name` and knows the first authority.
    /// They name copies: see [`Certificates::show`].
    pub fn options(&self, name: &str) -> Vec<String> {
        self.copy(name);
        let option = |key: &str, file: &str| format!("--ssl-{key}={}", self.path(file).display());
        vec![option("ca", "ca.pem"), option("cert", "shown.pem"), option("key", "shown.key")]
    }

    /// From now on a primary with these options shows the certificate `name`.
    pub fn show(&self, primary: &Primary, name: &str) {
        self.copy(name);
        primary.sql("FLUSH SSL");
    }

    fn copy(&self, name: &str) {
        for end in ["pem", "key"] {
            let (from, to) = (format!("{name}.{end}"), format!("shown.{end}"));
            fs::copy(self.path(&from), self.path(&to)).unwrap();
        }
    }

    fn openssl(&self, args: &[&str]) {
        let mut command = Command::new("openssl");
        run_helper(command.args(args).current_dir(self.0.path()), "");
    }

    fn request(&self, name: &str, args: &[&str]) {
        let (subject, key) = (format!("/CN={name}"), format!("{name}.key"));
        let curve = "ec_paramgen_curve:prime256v1";
        let mut all = vec!["req", "-config", "config", "-newkey", "ec", "-pkeyopt", curve];
        all.extend(["-nodes", "-sha256", "-subj", &subject, "-keyout", &key]);
        all.extend(args);
        self.openssl(&all);
    }

    fn sign_itself(&self, name: &str, args: &[&str]) {
        let certificate = format!("{name}.pem");
        let mut all = vec!["-x509", "-days", "2", "-out", &certificate];
        all.extend(args);
        self.request(name, &all);
    }

    fn sign(&self, name: &str, authority: &str, extension: &str) {
        fs::write(self.path("extension"), format!("{extension}\n")).unwrap();
        let (request, certificate) = (format!("{name}.csr"), format!("{name}.pem"));
        let (ca, key) = (format!("{authority}.pem"), format!("{authority}.key"));
        self.request(name, &["-new", "-out", &request]);
        let mut all = vec!["x509", "-req", "-in", &request, "-out", &certificate, "-days", "2"];
        all.extend(["-sha256", "-extfile", "extension", "-CA", &ca, "-CAkey", &key]);
        all.push("-CAcreateserial");
        self.openssl(&all);
    }
}

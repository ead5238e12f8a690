//! Option files, addresses and TLS keys.

use super::*;

fn file(text: &str) -> OptionFile {
    let mut file = OptionFile::default();
    let mut group = String::new();
    for line in text.lines() {
        match line.strip_prefix('[') {
            Some(g) => group = g.trim_end_matches(']').into(),
            None => file.entry(&group, line),
        }
    }
    file
}

#[test]
fn values_as_mysql_reads_them() {
    let f = file("[client]\nuser = u # me\npassword=\"a#b\\\\c\\s\"\nport=3307\nhost='db1'\nx");
    let primary = f.primary(None, None).unwrap();
    assert_eq!(primary.1.user, "u");
    assert_eq!(primary.1.password.0, "a#b\\c ");
    assert_eq!(primary.0[0].to_string(), "db1:3307");
}

#[test]
fn addresses_in_all_their_forms() {
    for (text, shown) in [
        ("db", "db:3306"),
        ("db:1", "db:1"),
        ("localhost:3", "127.0.0.1:3"),
        ("[::1]:3307", "[::1]:3307"),
        ("::1", "[::1]:3306"),
    ] {
        assert_eq!(address(text, 3306).unwrap().to_string(), shown);
    }
    for bad in ["", ":3306", "db:", "db:x", "db:0", "db:70000", "[::1", "[::1]3", "a b", "a'b"]
        .into_iter()
        .chain(["[db]", "[db:1]:2", "a:b:c", "[1.2.3.4]:5"])
    {
        assert!(address(bad, 3306).is_none(), "{bad}");
    }
}

#[test]
fn verify_ca_is_refused_with_the_reason() {
    let error = file("[client]\nssl_mode=verify_ca").primary(None, None).unwrap_err();
    assert!(error.to_string().contains("public roots"), "{error}");
    let error = file("[client]\nssl-mode=VERIFY_IDENTITY").primary(None, None).unwrap_err();
    assert!(error.to_string().contains("needs ssl-ca"), "{error}");
}

#[test]
fn mariadb_ssl_switches_count_where_ssl_mode_is_silent() {
    let mode = |keys: &str| {
        let primary = file(&format!("[client]\n{keys}")).primary(None, None);
        primary.map(|p| p.1.tls.mode)
    };
    for on in ["ssl", "ssl=1", "ssl = ON"] {
        assert_eq!(mode(on).unwrap(), TlsMode::Required, "{on}");
    }
    for none in ["", "ssl-mode=preferred", "ssl\nssl-mode=PREFERRED", "skip-ssl-verify-server-cert"]
    {
        assert_eq!(mode(none).unwrap(), TlsMode::Preferred, "{none}");
    }
    for off in ["ssl=0", "ssl=off", "skip-ssl", "disable_ssl", "ssl\nskip-ssl"] {
        assert_eq!(mode(off).unwrap(), TlsMode::Disabled, "{off}");
    }
    assert_eq!(mode("ssl\nssl-mode=DISABLED").unwrap(), TlsMode::Disabled);
    let error = mode("ssl-verify-server-cert").unwrap_err().to_string();
    assert!(error.contains("ssl-verify-server-cert in [client] needs ssl-ca"), "{error}");
}

//! An option file: read line by line, includes refused, and the account taken out of it. What
//! we hand to the dump's client is an option file too: read back, it gives the same account.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rollforward::cli::option_file::OptionFile;
use rollforward::mysql::account::Account;
use rollforward::mysql::flavor::Flavor;
use rollforward::seed::dump_client::client_options;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(file) = read(text) else { return };
    // Certificates would be looked for on this machine.
    if ["ssl-", "ssl_"].iter().any(|key| text.contains(key)) {
        return;
    }
    let _ = file.primary(Some("db1,[::1]:3307"), None);
    let Ok((candidates, account)) = file.primary(None, None) else { return };
    for address in &candidates {
        assert!(address.port > 0 && !address.host.is_empty(), "{address}");
        let shown = read(&format!("[client]\nhost={address}\n")).expect("an address");
        assert_eq!(shown.primary(None, None).expect("an address").0, [address.clone()]);
        let again = read(&client_options(&account, address, Flavor::MariaDb)).expect("our own");
        let Account { user, password, tls, .. } = again.primary(None, None).expect("our own").1;
        assert_eq!(user, account.user);
        assert_eq!(password.0, account.password.0);
        assert_eq!(tls.mode, account.tls.mode);
    }
});

fn read(text: &str) -> Option<OptionFile> {
    let mut file = OptionFile::default();
    file.add_text(Path::new("fuzzed.cnf"), text, 0).ok().map(|()| file)
}

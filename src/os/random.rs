//! Random numbers of the system, for what must not be the same twice.

/// A server id that is hardly anybody else's, and never the primary's.
pub fn random_server_id(primary: u32) -> u32 {
    let id = (1 << 31) | (random_fraction() * f64::from(1u32 << 31)) as u32;
    if id == primary { id ^ 1 } else { id }
}

/// A word that nobody guesses: 32 hexadecimal digits.
///
/// # Errors
/// When the system has no random numbers.
pub fn random_name() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Between 0 and 1, from the system's random numbers.
pub fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
    if read.is_err() {
        bytes = std::process::id().to_be_bytes();
    }
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

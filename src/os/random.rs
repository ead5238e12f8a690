//! Random numbers from the system, for values that must not repeat.

/// A server id that is almost certainly unique, and never the primary's.
pub fn random_server_id(primary: u32) -> u32 {
    let id = (1 << 31) | (random_fraction() * f64::from(1u32 << 31)) as u32;
    if id == primary { id ^ 1 } else { id }
}

/// An unguessable word of 32 hexadecimal digits.
///
/// # Errors
/// When the system cannot supply random bytes.
pub fn random_name() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// A random number between 0 and 1.
pub fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
    if read.is_err() {
        bytes = std::process::id().to_be_bytes();
    }
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

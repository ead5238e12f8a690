//! Contents combined by exclusive or, and how much of one is set.

/// Combines `content` with `part` by exclusive or, as far as both reach: makes a difference, or undoes
/// one.
pub(super) fn add(content: &mut [u8], part: &[u8]) {
    let common = content.len().min(part.len());
    let (content, part) = (&mut content[..common], &part[..common]);
    for (content, part) in content.chunks_mut(PIECE).zip(part.chunks(PIECE)) {
        if is_zero(part) {
            continue;
        }
        // Eight bytes at a time, for builds that do not optimise.
        let (words, rest) = content.as_chunks_mut::<8>();
        let (others, other_rest) = part.as_chunks::<8>();
        for (word, other) in words.iter_mut().zip(others) {
            *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*other)).to_ne_bytes();
        }
        rest.iter_mut().zip(other_rest).for_each(|(byte, other)| *byte ^= other);
    }
}

/// The bytes of all words of eight that are not zeros.
pub(super) fn count_set(content: &[u8]) -> usize {
    let count = |piece: &[u8]| {
        let (words, rest) = piece.as_chunks::<8>();
        words.iter().filter(|word| **word != [0; 8]).count() + usize::from(!is_zero(rest))
    };
    content.chunks(PIECE).filter(|piece| !is_zero(piece)).map(count).sum::<usize>() * 8
}

/// Compared with zeros at once.
pub(super) const PIECE: usize = 4096;

pub(super) fn is_zero(content: &[u8]) -> bool {
    // Compares with the C library's memcmp, which is vectorized in any build.
    static ZEROS: [u8; PIECE] = [0; PIECE];
    content.chunks(PIECE).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_known_to_the_last_byte() {
        let mut content = vec![0; 10_001];
        assert!(is_zero(&content) && is_zero(&[]));
        for at in [0, 4095, 4096, 10_000] {
            content[at] = 1;
            assert!(!is_zero(&content), "{at}");
            assert_eq!(count_set(&content), 8);
            content[at] = 0;
        }
    }

    #[test]
    fn a_difference_is_undone_by_adding_it_again() {
        for (length, other) in [(0, 9), (3, 3), (10_001, 10_001), (10_001, 4099), (9000, 10_000)] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let part: Vec<u8> = (0..other).map(|n| (n % 13 * 7) as u8).collect();
            let mut both = content.clone();
            add(&mut both, &part);
            for (at, byte) in both.iter().enumerate() {
                assert_eq!(
                    *byte,
                    content[at] ^ part.get(at).unwrap_or(&0),
                    "{length} {other} {at}"
                );
            }
            add(&mut both, &part);
            assert_eq!(both, content);
        }
    }
}

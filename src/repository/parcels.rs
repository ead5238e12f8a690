//! The order in which the parcels of a long step are processed.
//!
//! The cost of a step is not evenly spread over the data: new rows are at the ends of tables, and
//! tables compress differently. In sequential order, an estimate from the first half is wrong for
//! the second. In this order every stretch is a sample of the whole. A parcel is large enough for
//! sequential reading to pay.

/// The largest parcel, in bytes: half a second of disk time or more.
const LARGEST: u64 = 64 << 20;

/// The minimum number of parcels per worker, so that all finish at about the same time.
const EACH: u64 = 64;

/// The size of a parcel, in whole blocks of `block` bytes, when `jobs` workers share `total` bytes.
pub fn parcel_size(total: u64, jobs: usize, block: u64) -> u64 {
    let share = total / (EACH * jobs.max(1) as u64);
    share.min(LARGEST).max(block) / block * block
}

/// Reorders `parcels` so that neighbours end up far apart. The step is the golden section of the
/// whole, which leaves the most even gaps after any number of steps.
pub fn spread<T>(parcels: Vec<T>) -> Vec<T> {
    let count = parcels.len();
    let mut step = (count as f64 * 0.618_034) as usize;
    while gcd(step, count) > 1 {
        step += 1;
    }
    let mut parcels: Vec<Option<T>> = parcels.into_iter().map(Some).collect();
    let mut at = 0;
    let order = std::iter::repeat_with(|| {
        at = (at + step) % count;
        at
    });
    order.take(count).filter_map(|at| parcels[at].take()).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parcel_is_dealt_out_once() {
        for count in (0..300).chain([4096, 10_007, 65_536]) {
            let mut dealt = spread((0..count).collect());
            assert_eq!(dealt.len(), count);
            dealt.sort_unstable();
            assert!(dealt.iter().enumerate().all(|(i, n)| i == *n), "{count}");
        }
    }

    #[test]
    fn each_stretch_is_like_the_whole() {
        // The last tenth costs ten times as much, as in a table that has grown.
        for count in [256, 1000, 16_384] {
            let dealt = spread((0..count).collect());
            let cost = |n: &usize| if *n >= count * 9 / 10 { 10.0 } else { 1.0 };
            let whole = dealt.iter().map(cost).sum::<f64>() / count as f64;
            for first in (0..count / 2).step_by(count / 16) {
                let stretch = &dealt[first..first + count / 2];
                let here = stretch.iter().map(cost).sum::<f64>() / stretch.len() as f64;
                assert!((here / whole - 1.0).abs() < 0.2, "{count}: {here} and {whole}");
            }
        }
    }

    #[test]
    fn a_parcel_is_of_whole_blocks() {
        const BLOCK: u64 = 4 << 20;
        assert_eq!(parcel_size(0, 2, BLOCK), BLOCK);
        assert_eq!(parcel_size(1 << 30, 2, BLOCK), 2 * BLOCK);
        assert_eq!(parcel_size(1 << 40, 2, BLOCK), 16 * BLOCK);
        assert_eq!(parcel_size(1 << 40, 2, 3 << 20), 63 << 20);
        assert_eq!(parcel_size(1 << 40, 2, 1 << 30), 1 << 30);
    }
}

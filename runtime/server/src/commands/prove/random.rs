//! A small seeded generator (SplitMix64, Steele et al. 2014), so that equal seeds give equal load everywhere.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// All orders are equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.between(0, last as i64) as usize);
        }
    }

    /// Uniform in low..=high.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = (i128::from(high) - i128::from(low) + 1).max(1) as u128;
        let offset = (u128::from(self.next()) * span) >> 64;
        (i128::from(low) + offset as i128) as i64
    }
}

/// The seed of a block: blocks of one seed, and equal blocks of different seeds, have nothing in common.
pub fn block_seed(seed: u64, block: u64) -> u64 {
    let own = Random::new(seed).next();
    Random::new(own.wrapping_add(block.wrapping_mul(0xd1b5_4a32_d192_ed03))).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_range_and_repeat() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.between(-3, 3)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert!(draw(5).iter().all(|v| (-3..=3).contains(v)) && draw(5).contains(&-3) && draw(5).contains(&3));
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
        assert_eq!(random.between(i64::MIN, i64::MAX).signum().abs(), 1);
    }

    #[test]
    fn blocks_have_seeds_of_their_own_and_shuffling_loses_nothing() {
        let seeds: std::collections::BTreeSet<u64> =
            (0..50).flat_map(|seed| (0..50).map(move |block| block_seed(seed, block))).collect();
        assert_eq!(seeds.len(), 2500);
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(3).shuffle(&mut items);
        assert!(items.windows(2).any(|w| w[0] > w[1]));
        items.sort_unstable();
        assert!(items.into_iter().eq(0..100));
    }
}

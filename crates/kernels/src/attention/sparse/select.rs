//! Descending order, as far as somebody asks for it.

/// Candidates put in order at once.
const RUN: usize = 32;

/// Candidates in descending order of rank, equal ones in ascending order of number.
#[derive(Debug, Default)]
pub(in super::super) struct Ranking {
    /// Rank, turned round so that smaller is better, above the candidate's number.
    keys: Vec<u64>,
    num_sorted: usize,
    num_taken: usize,
}

impl Ranking {
    /// Makes room for so many candidates.
    pub fn reserve(&mut self, num_candidates: usize) {
        self.keys.reserve(num_candidates.saturating_sub(self.keys.len()));
    }

    /// Begins anew with candidates of these ranks.
    pub fn fill(&mut self, ranks: &[f32]) {
        self.keys.clear();
        let keys = ranks.iter().enumerate().map(|(number, rank)| {
            let bits = rank.to_bits();
            let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
            u64::from(!ascending) << 32 | number as u64
        });
        self.keys.extend(keys);
        (self.num_sorted, self.num_taken) = (0, 0);
    }

    /// Takes the best candidate.
    pub fn take(&mut self) -> Option<usize> {
        if self.num_taken == self.num_sorted {
            let rest = &mut self.keys[self.num_sorted..];
            let run = rest.len().min(RUN);
            if rest.len() > RUN {
                rest.select_nth_unstable(RUN - 1);
            }
            rest[..run].sort_unstable();
            self.num_sorted += run;
        }
        let key = *self.keys.get(self.num_taken)?;
        self.num_taken += 1;
        Some(key as u32 as usize)
    }

    /// The candidates that were not taken, in no order.
    pub fn rest(&self) -> impl Iterator<Item = usize> + '_ {
        self.keys[self.num_taken..].iter().map(|&key| key as u32 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_come_in_order_whatever_their_number() {
        let mut ranking = Ranking::default();
        for count in [0usize, 1, 31, 32, 33, 200] {
            let ranks: Vec<f32> =
                (0..count).map(|i| ((i * 7_919) % 97) as f32 / 9.0 - 5.0).collect();
            let mut expected: Vec<usize> = (0..count).collect();
            expected.sort_by(|&a, &b| ranks[b].total_cmp(&ranks[a]).then(a.cmp(&b)));
            ranking.fill(&ranks);
            let half: Vec<usize> = (0..count / 2).map_while(|_| ranking.take()).collect();
            assert_eq!(half, expected[..count / 2]);
            let mut rest: Vec<usize> = ranking.rest().collect();
            rest.sort_unstable();
            let mut left = expected[count / 2..].to_vec();
            left.sort_unstable();
            assert_eq!(rest, left);
            let others: Vec<usize> = std::iter::from_fn(|| ranking.take()).collect();
            assert_eq!(others, expected[count / 2..]);
        }
    }

    #[test]
    fn what_is_no_number_does_no_harm() {
        let mut ranking = Ranking::default();
        ranking.fill(&[f32::NAN, f32::NEG_INFINITY, 1.0, -0.0]);
        let mut all: Vec<usize> = std::iter::from_fn(|| ranking.take()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}

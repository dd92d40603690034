//! Rows of a step as messages name them.

use super::layout::{MAX_ROWS, ROW_WORDS};

/// A row of a step: the next token of a sequence that lies with the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteRow {
    /// Number of the sequence with the executor.
    pub slot: u32,
    /// Of the slot: a sequence that was released is refused.
    pub generation: u32,
    /// The token's position.
    pub position: u32,
}

impl RemoteRow {
    pub(super) fn to_words(self) -> [u64; ROW_WORDS] {
        [u64::from(self.slot) << 32 | u64::from(self.generation), u64::from(self.position)]
    }

    pub(super) fn of_words([name, position]: [u64; ROW_WORDS]) -> RemoteRow {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        RemoteRow { slot: (name >> 32) as u32, generation: name as u32, position }
    }
}

/// Some rows of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSet(pub(super) [u64; MAX_ROWS / 64]);

impl RowSet {
    /// Adds a row; ones that no step can have are ignored.
    pub fn insert(&mut self, row: usize) {
        if let Some(word) = self.0.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// Whether it has the row.
    pub fn contains(&self, row: usize) -> bool {
        self.0.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The rows below `num_rows` that it has.
    pub fn rows(&self, num_rows: usize) -> Vec<usize> {
        (0..num_rows).filter(|&row| self.contains(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_words() {
        let row = RemoteRow { slot: 7, generation: u32::MAX, position: 123_456 };
        assert_eq!(RemoteRow::of_words(row.to_words()), row);
        assert_eq!(RemoteRow::of_words([0, 1 << 40]).position, u32::MAX);
        let mut set = RowSet::default();
        assert!(set.is_empty());
        for row in [0, 63, 64, 255, 256] {
            set.insert(row);
        }
        assert_eq!(set.rows(300), [0, 63, 64, 255]);
    }
}

//! Values that tell what wrote them.

use artesian_pool::store::MAX_INLINE_BYTES;

/// How the numbers of operations become bytes: each is a record of the number and of padding whose
/// length follows from it. What is put is one record, what is appended another one behind it.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    /// Longest padding of a record, in bytes.
    pub padding: u64,
}

impl Values {
    /// Whether some lie in pieces.
    pub fn are_large(self) -> bool {
        self.padding > MAX_INLINE_BYTES as u64
    }

    fn padding_of(self, value: u64) -> usize {
        ((value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % (self.padding + 1)) as usize
    }

    /// The record of that number.
    pub fn encode(self, value: u64) -> Vec<u8> {
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.resize(8 + self.padding_of(value), value as u8);
        bytes
    }

    /// What a history calls the value of these records.
    pub fn decode(self, bytes: &[u8]) -> Result<u64, String> {
        let (mut state, mut rest) = (None, bytes);
        while let Some((head, behind)) = rest.split_first_chunk::<8>() {
            let value = u64::from_le_bytes(*head);
            let Some((padding, behind)) = behind.split_at_checked(self.padding_of(value)) else {
                return Err(format!("a record of {value} that is cut short"));
            };
            if padding.iter().any(|&byte| byte != value as u8) {
                return Err(format!("a record of {value} with wrong padding"));
            }
            (state, rest) = (Some(artesian_linear::append(state, value)), behind);
        }
        state.filter(|_| rest.is_empty()).ok_or_else(|| format!("a value of {} bytes", bytes.len()))
    }
}

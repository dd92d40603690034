//! The bytes of values, from which their names can be read, and damage seen.

use super::model::joined;

/// Bytes of a value that is an integer.
pub const INTEGER: usize = 8;
const HEAD: usize = 16;

/// The value called `name` in `bytes` bytes: an integer, or 16 and more.
pub fn encode(name: u64, bytes: usize) -> Vec<u8> {
    let mut value = name.to_le_bytes().to_vec();
    if bytes > INTEGER {
        let padding = bytes.max(HEAD) - HEAD;
        value.extend_from_slice(&(padding as u64).to_le_bytes());
        value.resize(HEAD + padding, name as u8);
    }
    value
}

/// The name of a value, or of several behind each other.
pub fn decode(bytes: &[u8]) -> Result<u64, String> {
    let wrong = |at: usize| format!("a value of {} bytes is damaged at byte {at}", bytes.len());
    let word = |at: usize| {
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map(u64::from_le_bytes).ok_or_else(|| wrong(at))
    };
    if bytes.len() == INTEGER {
        return word(0);
    }
    let (mut at, mut name) = (0, None);
    while at < bytes.len() {
        let (part, padding) = (word(at)?, word(at + 8)?);
        let end = (at + HEAD).checked_add(padding as usize).ok_or_else(|| wrong(at))?;
        let filled = bytes.get(at + HEAD..end).ok_or_else(|| wrong(at))?;
        if filled.iter().any(|&byte| byte != part as u8) {
            return Err(wrong(at));
        }
        (at, name) = (end, Some(joined(name, part)));
    }
    name.ok_or_else(|| wrong(0))
}

//! Copies between private and shared memory.
//!
//! Others may read and write the shared side meanwhile, so every access to it is atomic: whole
//! aligned words, and single bytes where a copy begins or ends within a word. The last word of
//! a write becomes visible after all before it.

use std::sync::atomic::{fence, AtomicU64, AtomicU8, Ordering};

use super::bulk;

const WORD: usize = 8;

/// Bytes from `at` to the next word.
#[inline]
fn to_word(at: *const u8) -> usize {
    at.addr().wrapping_neg() % WORD
}

#[inline]
unsafe fn store_bytes(to: *mut u8, from: &[u8]) {
    for (i, &byte) in from.iter().enumerate() {
        // SAFETY: the caller has `from.len()` shared bytes at `to`.
        unsafe { AtomicU8::from_ptr(to.add(i)) }.store(byte, Ordering::Relaxed);
    }
}

#[inline]
unsafe fn load_bytes(from: *mut u8, into: &mut [u8]) {
    for (i, byte) in into.iter_mut().enumerate() {
        // SAFETY: the caller has `into.len()` shared bytes at `from`.
        *byte = unsafe { AtomicU8::from_ptr(from.add(i)) }.load(Ordering::Relaxed);
    }
}

/// Stores whole words at the aligned `to`.
#[inline]
unsafe fn store_words(to: *mut u8, from: &[[u8; WORD]]) {
    let copy = if from.len() < bulk::STREAM_WORDS { bulk::copy } else { bulk::stream };
    // SAFETY: the caller has `from.len()` shared words at `to`, aligned.
    let done = unsafe { copy(to, from.as_ptr().cast(), from.len()) };
    let to = to.cast::<u64>();
    for (i, word) in from.iter().enumerate().skip(done) {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(to.add(i)) }
            .store(u64::from_ne_bytes(*word), Ordering::Relaxed);
    }
}

/// Loads whole words from the aligned `from`.
#[inline]
unsafe fn load_words(from: *mut u8, into: &mut [[u8; WORD]]) {
    // SAFETY: the caller has `into.len()` shared words at `from`, aligned.
    let done = unsafe { bulk::copy(into.as_mut_ptr().cast(), from, into.len()) };
    let from = from.cast::<u64>();
    for (i, word) in into.iter_mut().enumerate().skip(done) {
        // SAFETY: as above.
        let value = unsafe { AtomicU64::from_ptr(from.add(i)) }.load(Ordering::Relaxed);
        *word = value.to_ne_bytes();
    }
}

/// Writes `from` to the shared memory at `to`.
///
/// # Safety
/// `from.len()` bytes at `to` are mapped, and accessed by atomics alone.
#[inline]
pub(super) unsafe fn write(to: *mut u8, from: &[u8]) {
    let (head, rest) = from.split_at(to_word(to).min(from.len()));
    let (words, tail) = rest.as_chunks::<WORD>();
    // SAFETY: the three pieces lie one behind the other within what the caller vouches for, and
    // the words are aligned as the head ends at a word.
    unsafe {
        store_bytes(to, head);
        let to = to.add(head.len());
        if let Some((last, before)) = words.split_last() {
            store_words(to, before);
            fence(Ordering::Release);
            store_words(to.add(before.len() * WORD), std::slice::from_ref(last));
        }
        if !tail.is_empty() {
            fence(Ordering::Release);
            store_bytes(to.add(words.len() * WORD), tail);
        }
    }
}

/// Reads from the shared memory at `from`. Later reads see no older state.
///
/// # Safety
/// `into.len()` bytes at `from` are mapped, and accessed by atomics alone.
#[inline]
pub(super) unsafe fn read(from: *mut u8, into: &mut [u8]) {
    let (head, rest) = into.split_at_mut(to_word(from).min(into.len()));
    let (words, tail) = rest.as_chunks_mut::<WORD>();
    // SAFETY: as in `write`.
    unsafe {
        load_bytes(from, head);
        let from = from.add(head.len());
        load_words(from, words);
        load_bytes(from.add(words.len() * WORD), tail);
    }
    fence(Ordering::Acquire);
}

/// Writes the parts one behind the other. A word that lies across parts is stored in one piece.
///
/// # Safety
/// As for [`write`], with the sum of the parts' lengths.
pub(super) unsafe fn gather(mut to: *mut u8, parts: &[&[u8]]) {
    let mut word = [0; WORD];
    // Bytes of `word` that wait for the rest of it.
    let mut held = 0;
    for &part in parts {
        let mut part = part;
        if held > 0 || to_word(to) > 0 {
            let wanted = if held > 0 { WORD - held } else { to_word(to) };
            let (now, rest) = part.split_at(wanted.min(part.len()));
            part = rest;
            // SAFETY: all stores go, in order, to the bytes that the caller vouches for.
            unsafe {
                if held == 0 {
                    write(to, now);
                    to = to.add(now.len());
                } else {
                    word[held..held + now.len()].copy_from_slice(now);
                    held += now.len();
                    if held == WORD {
                        write(to, &word);
                        to = to.add(WORD);
                        held = 0;
                    }
                }
            }
        }
        if held == 0 && to_word(to) == 0 {
            let (now, rest) = part.split_at(part.len() / WORD * WORD);
            // SAFETY: as above.
            unsafe {
                write(to, now);
                to = to.add(now.len());
            }
            word[..rest.len()].copy_from_slice(rest);
            held = rest.len();
        }
    }
    // SAFETY: as above.
    unsafe { write(to, &word[..held]) };
}

//! Many words at the speed of `memcpy`.
//!
//! Atomic accesses are compiled one by one, and an ordinary copy of memory that others write is
//! undefined. So this is assembly, outside the compiler's view: to it, relaxed accesses
//! to aligned words. The CPU keeps the promise, as every access below covers whole aligned words of
//! the shared side: wider ones are split, if at all, where cache lines meet.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a word, and of a cache line.
const WORD: usize = 8;
const LINE: usize = 64;
/// From here on writes go past the caches: parts of values that would fill them.
pub(super) const STREAM_WORDS: usize = (80 << 10) / WORD;
/// Shorter copies are left to the caller.
const VECTOR_WORDS: usize = 16;
/// From here on starting the string instruction pays, which need not read what it overwrites.
const STRING_WORDS: usize = 128;

/// Copies a number of words, at most `words`, and says how many.
///
/// # Safety
/// `words` words at `to` and at `from` are mapped. One of them is private, the other shared,
/// aligned and accessed by atomics alone.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, words: usize) -> usize {
    if words < VECTOR_WORDS {
        return 0;
    }
    // The string instruction aligns its target, by which it would split words if only the other
    // side were aligned.
    if words >= STRING_WORDS && (to.addr() | from.addr()).is_multiple_of(8) {
        // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
        unsafe {
            std::arch::asm!(
                "rep movsq",
                inout("rdi") to => _,
                inout("rsi") from => _,
                inout("rcx") words => _,
                options(nostack, preserves_flags),
            );
        }
        return words;
    }
    let done = words / 8 * 8;
    // SAFETY: the caller's promise; each round copies 64 of the `done * 8` bytes.
    unsafe {
        std::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 8",
            "jnz 2b",
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) done => _,
            options(nostack),
        );
    }
    done
}

/// Like [`copy`], for what nobody is about to read: past the caches, without reading what it
/// overwrites. Everything is visible to all when it returns.
///
/// # Safety
/// As for [`copy`]; the shared side is `to`.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn stream(to: *mut u8, from: *const u8, words: usize) -> usize {
    let head = (to.addr().wrapping_neg() % LINE / WORD).min(words);
    // SAFETY: the caller's promise; the lines begin behind the head, aligned.
    unsafe {
        let copied = copy(to, from, head);
        for word in copied..head {
            let value = from.cast::<u64>().add(word).read_unaligned();
            AtomicU64::from_ptr(to.cast::<u64>().add(word)).store(value, Ordering::Relaxed);
        }
        let lines = (words - head) / (LINE / WORD);
        if lines == 0 {
            return head;
        }
        std::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movntps [{to}], {a}",
            "movntps [{to} + 16], {b}",
            "movntps [{to} + 32], {c}",
            "movntps [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {left}",
            "jnz 2b",
            "sfence",
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            from = inout(reg) from.add(head * WORD) => _,
            to = inout(reg) to.add(head * WORD) => _,
            left = inout(reg) lines => _,
            options(nostack),
        );
        head + lines * (LINE / WORD)
    }
}

/// Elsewhere the caller copies word by word.
///
/// # Safety
/// None needed.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn copy(_to: *mut u8, _from: *const u8, _words: usize) -> usize {
    0
}

/// As [`copy`].
///
/// # Safety
/// None needed.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn stream(_to: *mut u8, _from: *const u8, _words: usize) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::copy::write;

    const MARGIN: usize = 128;

    /// A copy of `bytes` bytes to and from all alignments changes what it should, and nothing else.
    fn copies_exactly(bytes: usize, f: impl Fn(*mut u8, &[u8])) {
        let source: Vec<u8> = (0..bytes + 8).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut memory = vec![0_u64; bytes / WORD + 2 * MARGIN / WORD + LINE / WORD];
        for shift in 0..LINE / WORD {
            for skew in [0, 1, 4, 7] {
                memory.fill(u64::MAX);
                let from = &source[skew..skew + bytes];
                let start = MARGIN + shift * WORD;
                // SAFETY: within `memory`, margins included.
                f(unsafe { memory.as_mut_ptr().cast::<u8>().add(start) }, from);
                // SAFETY: all of `memory`, as bytes.
                let all = unsafe {
                    std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), memory.len() * WORD)
                };
                assert!(all[start..start + bytes] == *from, "{bytes} bytes, {shift}, {skew}");
                let mut around = all[..start].iter().chain(&all[start + bytes..]);
                assert!(around.all(|&byte| byte == 0xff), "{bytes} bytes, {shift}, {skew}");
            }
        }
    }

    #[test]
    fn streams_copy_what_they_say() {
        for words in (0..40).chain([127, 128, 1_000]) {
            copies_exactly(words * WORD, |to, from| {
                // SAFETY: so many words lie at both, and only this thread knows of them.
                let done = unsafe { stream(to, from.as_ptr(), words) };
                assert!(done <= words && (done == 0 || words - done < LINE / WORD));
                // SAFETY: as above; the rest is the caller's, here as everywhere.
                let rest = unsafe { to.add(done * WORD) };
                // SAFETY: as above.
                unsafe { write(rest, &from[done * WORD..]) };
            });
        }
    }

    #[test]
    fn writes_that_are_long_enough_to_stream_are_exact() {
        for bytes in [STREAM_WORDS * WORD, STREAM_WORDS * WORD + WORD, (100 << 10) + 5] {
            copies_exactly(bytes, |to, from| {
                // SAFETY: so many bytes lie at both, and only this thread knows of them.
                unsafe { write(to, from) };
            });
        }
    }
}

//! Many words at the speed of `memcpy`.
//!
//! Atomic accesses are compiled one by one, and an ordinary copy of memory that others write is
//! undefined. So this is assembly, outside the compiler's view: to it, relaxed accesses
//! to aligned words. The CPU keeps the promise, as every access below covers whole aligned words of
//! the shared side: wider ones are split, if at all, where cache lines meet.

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

/// Elsewhere the caller copies word by word.
///
/// # Safety
/// None needed.
#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn copy(_to: *mut u8, _from: *const u8, _words: usize) -> usize {
    0
}

//! Huge pages under shared memory.
//!
//! Attention walks through an arena block by block, and with small pages it waits for page tables.
//! The kernel gives shared memory huge pages by itself only where the system says so
//! (`shmem_enabled`, or how `/dev/shm` is mounted), and by default it does not. `MADV_COLLAPSE`
//! asks for them here and now, whatever the system's default (Linux 6.1, `madvise(2)`).

use std::ops::Range;

use super::shape::{HUGE_PAGE, PAGE};

/// From Linux 6.1 on.
const MADV_COLLAPSE: libc::c_int = 25;
/// From Linux 5.14 on.
const MADV_POPULATE_WRITE: libc::c_int = 23;

/// Tells the kernel that huge pages are welcome in `bytes` of the memory at `base`, page-aligned.
pub(super) fn advise(base: *mut u8, bytes: Range<usize>) {
    // SAFETY: advice changes no byte, and the caller has these mapped.
    unsafe { libc::madvise(base.add(bytes.start).cast(), bytes.len(), libc::MADV_HUGEPAGE) };
}

/// Backs whole huge pages from `start` to `end` of the memory at `base`, both multiples of one;
/// whether the kernel did. The bytes stay as they are.
pub(super) fn back(base: *mut u8, bytes: Range<usize>) -> bool {
    bytes.step_by(HUGE_PAGE as usize).all(|start| {
        // The kernel makes none where there is no page yet.
        // SAFETY: no byte changes, and the caller has them mapped.
        unsafe {
            let at = base.add(start).cast();
            libc::madvise(at, PAGE as usize, MADV_POPULATE_WRITE) == 0
                && libc::madvise(at, HUGE_PAGE as usize, MADV_COLLAPSE) == 0
        }
    })
}

//! Zeroed memory for weights and activations: page aligned, huge pages where they help, touched
//! only when used.

use std::marker::PhantomData;
use std::ptr::NonNull;

use bytemuck::Pod;

/// From this size on the kernel is asked for huge pages.
const HUGE_BYTES: usize = 2 << 20;

/// A fixed-size array of `T`, zeroed, aligned to a page at least.
pub struct Buffer<T: Pod> {
    base: NonNull<T>,
    len: usize,
    mapped_bytes: usize,
    owns: PhantomData<T>,
}

// SAFETY: a buffer owns its memory alone, and `T: Pod` values may move between threads.
unsafe impl<T: Pod + Send> Send for Buffer<T> {}
// SAFETY: shared access is read-only through `as_slice`; `as_ptr_mut` hands the duty to its caller.
unsafe impl<T: Pod + Sync> Sync for Buffer<T> {}

impl<T: Pod> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// When the system refuses the memory.
    pub fn zeroed(len: usize) -> Buffer<T> {
        let bytes = len.checked_mul(size_of::<T>()).expect("buffer size overflows");
        if bytes == 0 {
            return Buffer { base: NonNull::dangling(), len, mapped_bytes: 0, owns: PhantomData };
        }
        // SAFETY: an anonymous private mapping touches no existing memory.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(address != libc::MAP_FAILED, "the system refused {bytes} bytes of memory");
        if bytes >= HUGE_BYTES {
            // SAFETY: the range was just mapped; this is only advice, its failure changes nothing.
            unsafe { libc::madvise(address, bytes, libc::MADV_HUGEPAGE) };
        }
        let base = NonNull::new(address.cast::<T>()).expect("mmap never returns null here");
        Buffer { base, len, mapped_bytes: bytes, owns: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of address space held.
    pub fn num_bytes(&self) -> usize {
        self.mapped_bytes
    }

    /// All elements.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: base and len describe memory that this buffer owns, zeroed at birth.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// All elements, writable.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// The first element's address, for readers.
    pub fn as_ptr(&self) -> *const T {
        self.base.as_ptr()
    }

    /// The first element's address, for kernels whose threads write disjoint parts at once.
    pub fn as_ptr_mut(&self) -> *mut T {
        self.base.as_ptr()
    }
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.mapped_bytes > 0 {
            // SAFETY: exactly the range mapped in `zeroed`, and nothing borrows from a dropped
            // buffer.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
        }
    }
}

//! CPU kernels of the Artesian engine.
//!
//! Everything here is arithmetic on slices: no I/O, no policy. Each kernel has a portable form and,
//! where the processor has them, forms for AVX2, AVX-512 (with VNNI) and AMX. All forms of one
//! kernel perform the same operations in the same order per output element, so that a result never
//! depends on what shares the batch.

pub mod activation;
#[cfg(target_arch = "x86_64")]
pub mod amx;
pub mod attention;
pub mod buffer;
mod dispatch;
pub mod float;
pub mod gguf;
pub mod isa;
pub mod kv;
pub mod linear;
pub mod norm;
pub mod program;
pub mod sampling;
pub mod threads;

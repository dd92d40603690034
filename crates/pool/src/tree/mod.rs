//! The ordered index.

mod ops;

//! Allocation on two levels: nodes' regions are cut into blocks, which clients take through the
//! regions' block tables; a client cuts its blocks into objects of one size class.

pub mod geometry;

pub use geometry::{Geometry, Place, Shape};

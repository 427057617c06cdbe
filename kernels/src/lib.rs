//! **habit-kernels** holds the few loops that decide how fast memory and learning are: the layers of a sentence embedder,
//! the comparing of many vectors with one, and what a trainer computes besides products of matrices. Pure arithmetic on
//! slices, without any I/O, and without a type of the crates above.
//!
//! It is a crate of its own so that it is always compiled with full optimisation, also where the rest is built for quick
//! turnaround: without vector registers these loops are ten times slower.

pub mod encoder;
pub mod linear;
pub mod maths;
pub mod panels;
pub mod training;
pub mod vectors;

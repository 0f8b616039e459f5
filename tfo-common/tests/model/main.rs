//! tfo-common held against a second reading of the kernel's rules: slow, on vectors and slices, and
//! of another shape, so that the two do not share a mistake.

mod classify;
mod frames;
mod generate;
mod naive;
mod options;

//! Random numbers that one seed gives again.

use std::env;

use anyhow::{Context as _, Result};
use fastrand::Rng;

/// A generator with the seed `TFO_SEED`, or any; the seed is printed, and a test that fails shows what it printed.
///
/// # Errors
///
/// Where `TFO_SEED` is not a number.
pub fn rng() -> Result<Rng> {
    seed(fastrand::u64(..)).map(Rng::with_seed)
}

/// A generator with the seed `TFO_SEED`, or this one: for a test that takes long, and whose course is to be the same
/// each time.
///
/// # Errors
///
/// As [`rng`].
pub fn rng_with(default: u64) -> Result<Rng> {
    seed(default).map(Rng::with_seed)
}

/// `TFO_SEED`, or `default`; it is printed.
///
/// # Errors
///
/// As [`rng`].
pub fn seed(default: u64) -> Result<u64> {
    let seed = match env::var("TFO_SEED") {
        Ok(seed) => seed.parse().context("TFO_SEED is not a number")?,
        Err(_) => default,
    };
    println!("TFO_SEED={seed}");
    Ok(seed)
}

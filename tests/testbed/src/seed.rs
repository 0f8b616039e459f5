//! Reproducible random numbers.

use std::env;

use anyhow::{Context as _, Result};
use fastrand::Rng;

/// A generator with the seed `TFO_SEED`, or a random one. Prints the seed, so that a failed test shows it.
///
/// # Errors
///
/// `TFO_SEED` is not a number.
pub fn rng() -> Result<Rng> {
    seed(fastrand::u64(..)).map(Rng::with_seed)
}

/// A generator with the seed `TFO_SEED`, or `default`; for long tests whose course must not vary.
///
/// # Errors
///
/// As [`rng`].
pub fn rng_with(default: u64) -> Result<Rng> {
    seed(default).map(Rng::with_seed)
}

/// `TFO_SEED`, or `default`. Prints it.
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

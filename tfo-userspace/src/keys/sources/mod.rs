//! Sources of keys on this host: random keys, a secret, a file, and whatever the kernel holds.

mod file;
mod kernel;
mod random;
mod secret;

pub use file::{FileSource, read_key_file};
pub use kernel::KernelSource;
pub use random::RandomSource;
pub use secret::SecretSource;

//! The object's bytes.

use aya::include_bytes_aligned;

/// The ELF file of the eBPF programs, as the build script left it.
pub static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tfo-ebpf"));

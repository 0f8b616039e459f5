//! The window that the kernel advertises, and its scale.

use std::fs;

const TCP_RMEM: &str = "/proc/sys/net/ipv4/tcp_rmem";
const RMEM_MAX: &str = "/proc/sys/net/core/rmem_max";
/// Default of `net.core.rmem_max`, for a network namespace that does not show it.
const DEFAULT_RMEM_MAX: u32 = 212_992;
/// Default maximum of `net.ipv4.tcp_rmem`.
const DEFAULT_TCP_RMEM: u32 = 6_291_456;
/// Default of its second number.
const DEFAULT_BUFFER: u32 = 131_072;

/// The window scale in the calling thread's namespace, for listeners without `SO_RCVBUF`
/// (`tcp_select_initial_window`).
pub fn scale() -> u8 {
    let read = |path| {
        let text = fs::read_to_string(path).ok()?;
        text.split_whitespace().last()?.parse().ok()
    };
    of(
        read(TCP_RMEM).unwrap_or(DEFAULT_TCP_RMEM),
        read(RMEM_MAX).unwrap_or(DEFAULT_RMEM_MAX),
    )
}

/// The receive buffer of listeners without `SO_RCVBUF` in the calling thread's namespace, in bytes
/// (`net.ipv4.tcp_rmem`, the second number).
pub fn receive_buffer() -> u32 {
    let text = fs::read_to_string(TCP_RMEM).unwrap_or_default();
    let second = text.split_whitespace().nth(1);
    second
        .and_then(|number| number.parse().ok())
        .unwrap_or(DEFAULT_BUFFER)
}

fn of(buffer: u32, most: u32) -> u8 {
    const CLAMP: u32 = 0xffff << 14;
    const UNSCALED_BITS: u32 = 15;
    const MAX: u32 = 14;
    let space = buffer.max(most).clamp(1, CLAMP);
    space.ilog2().saturating_sub(UNSCALED_BITS).min(MAX) as u8
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn scales_are_the_kernels() {
        // As Linux 6.18 advertised for these sysctls.
        assert_eq!(of(6_291_456, 212_992), 7);
        assert_eq!(of(33_554_432, 4_194_304), 10);
        assert_eq!(of(4096, 212_992), 2);
        assert_eq!(of(u32::MAX, 0), 14);
        assert_eq!(of(0, 0), 0);
    }
}

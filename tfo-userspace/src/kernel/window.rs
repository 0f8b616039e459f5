//! The scale of the windows that the kernel will advertise.

use std::fs;

const RECEIVE_BUFFERS: &str = "/proc/sys/net/ipv4/tcp_rmem";
const MOST: &str = "/proc/sys/net/core/rmem_max";
/// `net.core.rmem_max` where nobody set it, for a network namespace that does not show it.
const USUAL_MOST: u32 = 212_992;
/// What `net.ipv4.tcp_rmem` ends with where it cannot be read.
const USUAL_BUFFER: u32 = 6_291_456;

/// The scale that the kernel chooses in the calling thread's namespace for listeners whose receive buffer has
/// no size of its own (`tcp_select_initial_window`).
pub fn scale() -> u8 {
    let read = |path| {
        let text = fs::read_to_string(path).ok()?;
        text.split_whitespace().last()?.parse().ok()
    };
    of(
        read(RECEIVE_BUFFERS).unwrap_or(USUAL_BUFFER),
        read(MOST).unwrap_or(USUAL_MOST),
    )
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
        // What Linux 6.18 advertised for these sysctls.
        assert_eq!(of(6_291_456, 212_992), 7);
        assert_eq!(of(33_554_432, 4_194_304), 10);
        assert_eq!(of(4096, 212_992), 2);
        assert_eq!(of(u32::MAX, 0), 14);
        assert_eq!(of(0, 0), 0);
    }
}

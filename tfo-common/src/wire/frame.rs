//! A frame, and what every header is read into.

/// The bytes of one frame, in the kernel or in a slice. Every read is bounds-checked.
pub trait Frame {
    /// Bytes that can be read, from the first on.
    fn len(&self) -> usize;

    /// Bytes of the frame. Those that a driver put into further buffers cannot be read.
    fn whole_len(&self) -> usize {
        self.len()
    }

    /// `true` if no byte can be read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `N` bytes from offset `at`, or `None` where the frame is shorter.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The `N` bytes from offset `at`, to read fields from, or `None` where the frame is shorter.
    fn view<const N: usize>(&self, at: usize) -> Option<impl View>;

    /// `N` little-endian 64-bit words from offset `at`, or `None` where the frame is shorter.
    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]>;

    /// `value`, hidden from the kernel's verifier, as `barrier_var` of the kernel's selftests hides one from the
    /// compiler. Without it, the verifier follows a loop over options along each of its millions of paths, and gives up.
    fn barrier_var(&self, value: u64) -> u64 {
        value
    }
}

/// `N` bytes that were bounds-checked at once. A field beyond them reads as 0.
pub trait View {
    /// The byte at an offset.
    fn byte(&self, at: usize) -> u8;

    /// The big-endian number of 16 bits at an offset.
    fn half(&self, at: usize) -> u16;

    /// The little-endian number of 64 bits at an offset.
    fn word(&self, at: usize) -> u64;
}

impl<const N: usize> View for &[u8; N] {
    fn byte(&self, at: usize) -> u8 {
        self.get(at).copied().unwrap_or(0)
    }

    fn half(&self, at: usize) -> u16 {
        self.bytes(at).map_or(0, u16::from_be_bytes)
    }

    fn word(&self, at: usize) -> u64 {
        self.bytes(at).map_or(0, u64::from_le_bytes)
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    fn view<const N: usize>(&self, at: usize) -> Option<impl View> {
        self.get(at..)?.first_chunk::<N>()
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (i, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(self.bytes(at + 8 * i)?);
        }
        Some(words)
    }
}

/// The header in front of the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header, with or without VLAN tags.
    Ethernet,
    /// None: the device carries bare packets, as a TUN device does.
    None,
}

/// Why a frame gave no [`Syn`](super::syn::Syn).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSyn {
    /// It is not a TCP segment that opens a connection.
    Other,
    /// It may be one, but this parser does not read it: a fragment, which the kernel reassembles later; too many VLAN
    /// tags or extension headers, or one that changes an address; headers that Linux would refuse; or a frame shorter
    /// than its headers say.
    Unparsed,
}

/// Bounds of the packet, by its IP header.
pub(super) struct Network {
    /// Offset of the transport header from the frame's first byte.
    pub(super) transport: usize,
    /// Offset of the packet's end from the frame's first byte.
    pub(super) end: usize,
}

/// The version of IP.
#[derive(Clone, Copy)]
pub(super) enum Version {
    V4,
    V6,
}

/// Hides the offset of a header, which has the bits of `MASK` alone, and a version from the verifier, which then goes on once, not
/// once for each version and each sum of header lengths.
#[inline(always)]
pub(super) fn hidden<F: Frame + ?Sized, const MASK: u64>(
    frame: &F,
    at: usize,
    version: Version,
) -> (usize, Version) {
    let is_v6 = MASK + 1;
    let version = match version {
        Version::V4 => 0,
        Version::V6 => is_v6,
    };
    let both = frame.barrier_var(at as u64 | version);
    let version = if both & is_v6 == 0 {
        Version::V4
    } else {
        Version::V6
    };
    ((both & MASK) as usize, version)
}

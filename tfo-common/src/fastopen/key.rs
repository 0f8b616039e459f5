//! Cookie keys, and the set of them that a server accepts.

#[cfg(feature = "user")]
use zeroize::Zeroize;

/// A 128-bit SipHash key, as the hash takes it: bytes 0 to 7 and 8 to 15, little-endian.
///
/// It has no `Debug` and no `Display`: a key is a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Zeroize))]
#[repr(C)]
pub struct Key {
    pub(super) k0: u64,
    pub(super) k1: u64,
}

impl Key {
    /// The key of these two halves.
    #[inline(always)]
    pub const fn from_words(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// Its two halves.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        [self.k0, self.k1]
    }

    /// Bytes of a key: `TCP_FASTOPEN_KEY_LENGTH`.
    pub const LEN: usize = 16;

    /// The key of all zeros. In `net.ipv4.tcp_fastopen_key` it means that there is none yet.
    pub const ZERO: Self = Self { k0: 0, k1: 0 };

    /// The key in these bytes, as `TCP_FASTOPEN_KEY` of setsockopt(2) takes them.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let key = u128::from_le_bytes(bytes);
        Self {
            k0: key as u64,
            k1: (key >> 64) as u64,
        }
    }

    /// The key's bytes, as `TCP_FASTOPEN_KEY` of setsockopt(2) takes them.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        ((self.k1 as u128) << 64 | self.k0 as u128).to_le_bytes()
    }

    /// The key that `net.ipv4.tcp_fastopen_key` shows as these four groups.
    pub const fn from_groups(groups: [u32; 4]) -> Self {
        Self {
            k0: (groups[1] as u64) << 32 | groups[0] as u64,
            k1: (groups[3] as u64) << 32 | groups[2] as u64,
        }
    }

    /// The four groups that `net.ipv4.tcp_fastopen_key` shows for this key.
    pub const fn to_groups(self) -> [u32; 4] {
        [
            self.k0 as u32,
            (self.k0 >> 32) as u32,
            self.k1 as u32,
            (self.k1 >> 32) as u32,
        ]
    }
}

/// The keys whose cookies are accepted, in the order in which they are tried.
///
/// The first is the primary: cookies are issued with it. A cookie of any other counts as one of the
/// kernel's backup key. The kernel has at most two; the data path has room for the ones that are on
/// their way in or out while both change.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct KeySet {
    len: u32,
    reserved: u32,
    keys: [Key; KeySet::MAX],
}

impl KeySet {
    /// Most keys that a set holds.
    pub const MAX: usize = 4;

    /// Accepts no cookie.
    pub const EMPTY: Self = Self {
        len: 0,
        reserved: 0,
        keys: [Key::ZERO; Self::MAX],
    };

    /// The set of these keys, each once, primary first; `None` where there are more than
    /// [`KeySet::MAX`] different ones.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Option<Self> {
        let mut set = Self::EMPTY;
        for key in keys {
            if !set.keys().contains(&key) {
                *set.keys.get_mut(set.len as usize)? = key;
                set.len += 1;
            }
        }
        Some(set)
    }

    /// The set of the first `count` of two keys, as a listener's own context holds them.
    #[inline(always)]
    pub const fn of_context(first: Key, second: Key, count: u32) -> Self {
        let mut set = Self::EMPTY;
        set.keys[0] = first;
        set.keys[1] = second;
        set.len = count;
        set
    }

    /// The keys, primary first.
    pub fn keys(&self) -> &[Key] {
        self.keys.get(..self.len as usize).unwrap_or(&self.keys)
    }

    /// The primary key, if there is any.
    #[inline(always)]
    pub const fn first(&self) -> Option<&Key> {
        if self.len == 0 {
            None
        } else {
            Some(&self.keys[0])
        }
    }

    /// The backup key, if there is one.
    #[inline(always)]
    pub const fn second(&self) -> Option<&Key> {
        if self.len < 2 {
            None
        } else {
            Some(&self.keys[1])
        }
    }

    /// The set itself, unless it has no key.
    #[inline(always)]
    pub(crate) const fn non_empty(&self) -> Option<&Self> {
        if self.len == 0 { None } else { Some(self) }
    }

    #[inline(always)]
    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    /// The key at `index`, without a bounds check that the kernel's verifier would have to follow.
    #[inline(always)]
    pub(crate) const fn key(&self, index: usize) -> &Key {
        &self.keys[index % Self::MAX]
    }
}

#[cfg(feature = "user")]
impl Zeroize for KeySet {
    fn zeroize(&mut self) {
        self.keys.zeroize();
        self.len = 0;
    }
}

// SAFETY: `repr(C)` and two u64: 16 bytes without padding, any of which are a key.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Key {}

// SAFETY: `repr(C)`, two u32 and an array of `Key`: no padding, and any bytes are a set, since
// `keys` clamps `len`.
#[cfg(feature = "user")]
unsafe impl aya::Pod for KeySet {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_little_endian_words() {
        let key = Key::from_groups([0xa1b2_c3d4, 1, 2, 3]);
        assert_eq!(&key.to_bytes()[..5], [0xd4, 0xc3, 0xb2, 0xa1, 1]);
        assert_eq!(key.to_groups(), [0xa1b2_c3d4, 1, 2, 3]);
        assert!(Key::from_bytes(key.to_bytes()) == key);
    }

    #[test]
    fn a_set_has_each_key_once_and_no_more_than_fit() {
        let key = |n| Key::from_groups([n, 0, 0, 0]);
        let set = KeySet::new([key(1), key(2), key(1)]).unwrap();
        assert!(set.keys() == [key(1), key(2)]);
        assert!(KeySet::new((0..4).map(key)).is_some());
        assert!(KeySet::new((0..5).map(key)).is_none());
    }
}

//! Histogram of the bytes of data in SYNs, by powers of two.

/// Number of buckets: 1, 2-3, 4-7, and so on to 32,768-65,535. An IP packet has no room for more.
pub const BUCKETS: usize = 16;

/// The bucket that counts SYNs with `len` bytes of data; at least 1.
#[inline(always)]
pub const fn bucket(len: u32) -> usize {
    // The machine has no instruction that counts leading zeros: four comparisons instead.
    let mut rest = if len >> BUCKETS == 0 {
        len
    } else {
        u16::MAX as u32
    };
    let mut bucket = 0;
    if rest >> 8 != 0 {
        rest >>= 8;
        bucket += 8;
    }
    if rest >> 4 != 0 {
        rest >>= 4;
        bucket += 4;
    }
    if rest >> 2 != 0 {
        rest >>= 2;
        bucket += 2;
    }
    if rest >> 1 != 0 {
        bucket += 1;
    }
    bucket
}

/// SYNs with data, by bucket: the value of the map `SIZES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sizes([u64; BUCKETS]);

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are counts.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Sizes {}

impl Sizes {
    /// Counts a SYN with `len` bytes of data; one without counts nothing.
    #[inline(always)]
    pub const fn count(&mut self, len: u32) {
        if len > 0 {
            // The mask changes nothing. It shows the verifier that the index is in bounds.
            let value = &mut self.0[bucket(len) & (BUCKETS - 1)];
            *value = value.wrapping_add(1);
        }
    }

    /// Least and greatest size in bytes of each bucket, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        (0..).zip(self.0).map(|(bucket, count)| {
            let least = 1 << bucket;
            (least, 2 * least - 1, count)
        })
    }
}

impl core::ops::AddAssign for Sizes {
    fn add_assign(&mut self, more: Self) {
        for (value, more) in self.0.iter_mut().zip(more.0) {
            *value = value.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_its_bucket() {
        for len in 1..=u32::from(u16::MAX) {
            let mut sizes = Sizes::default();
            sizes.count(len);
            let mut hit = sizes.buckets().filter(|(.., count)| *count == 1);
            let (least, most, _) = hit.next().unwrap();
            assert!(least <= len && len <= most, "{len}: {least}-{most}");
            assert!(hit.next().is_none());
            assert_eq!(bucket(len), len.ilog2() as usize);
        }
    }

    #[test]
    fn no_size_is_out_of_bounds() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(1 << 16), BUCKETS - 1);
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
        let mut sizes = Sizes::default();
        sizes.count(0);
        assert_eq!(sizes, Sizes::default());
    }
}

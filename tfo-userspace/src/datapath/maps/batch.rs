//! Many map entries in one system call: bpf(2)'s `BPF_MAP_LOOKUP_BATCH`, which aya 0.14 lacks.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};

const LOOKUP_BATCH: libc::c_long = 24;

/// Entries per call. The kernel copies whole hash buckets, which are far smaller.
const ROOM: usize = 4096;

/// The part of `union bpf_attr` that batches use.
#[derive(Default)]
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Up to `most` entries of a hash. Entries that change during the calls may be missing; one that stays is read
/// once.
pub(super) fn entries<K: Pod, V: Pod>(map: &MapData, most: usize) -> io::Result<Vec<(K, V)>> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::other("the map has entries of another size"));
    }
    let mut keys = vec![0_u8; ROOM * size_of::<K>()];
    let mut values = vec![0_u8; ROOM * size_of::<V>()];
    let mut entries = Vec::new();
    // The position after the last call: the size of a hash's batch token, or of a key.
    let mut token = [0_u64; 8];
    let mut first = true;
    while entries.len() < most {
        let place = token.as_mut_ptr() as u64;
        let mut batch = Batch {
            from: if first { 0 } else { place },
            next: place,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: ROOM as u32,
            map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        // SAFETY: the map is open, its keys and values have the sizes checked above, both buffers hold
        // `count` of them, and `token` a hash's position of 4 bytes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                &raw mut batch,
                size_of::<Batch>(),
            )
        };
        let error = io::Error::last_os_error();
        let over = result < 0;
        if over && error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
        let got = batch.count as usize;
        let both = keys
            .chunks(size_of::<K>())
            .zip(values.chunks(size_of::<V>()));
        entries.extend(both.take(got).map(|(key, value)| (read(key), read(value))));
        if over {
            break;
        }
        first = false;
    }
    entries.truncate(most);
    Ok(entries)
}

fn read<T: Pod>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: the slice has the size of `T`, any bytes are a valid `T`, and the read may be unaligned.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

//! The cookie keys, as the controller has set them.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use tfo_common::cookie::KeySet;

#[btf_map]
static KEYS: ArrayOfMaps<Array<KeySet, 1>, 1> = ArrayOfMaps::new();

/// The set in force. The kernel keeps it whole and alive until the program returns, even if the
/// controller puts another in its place meanwhile.
#[inline(always)]
pub(crate) fn in_force<'a>() -> Option<&'a KeySet> {
    KEYS.get_value(0, &0)
}

//! Local destinations, and the devices by which answers leave, as the controller takes them from the kernel's routing.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{HashMap, LpmTrie, lpm_trie::Key},
    macros::btf_map,
};
use tfo_common::{
    abi::{MAX_ANSWER_DEVICES, MAX_LOCAL_ROUTES, device::answer_key},
    wire::addresses::Address,
};

/// An [`Address`] in words that a trie aligns.
type Words = [u32; 4];

#[btf_map]
static LOCAL_ROUTES: LpmTrie<Words, u32, { MAX_LOCAL_ROUTES as usize }> = LpmTrie::new();

#[btf_map]
static ANSWER_DEVICES: HashMap<
    u64,
    u32,
    { MAX_ANSWER_DEVICES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// `true` if the kernel delivers packets to `address` on this host, as far as the controller knows.
#[inline(always)]
pub(crate) fn is_local(address: Address) -> bool {
    let Address([a, b]) = address;
    let words = [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32];
    LOCAL_ROUTES
        .get(&Key::new(128, words))
        .is_some_and(|local| *local != 0)
}

/// The index of the device by which answers leave to frames that came by device `index` with this VLAN identifier.
#[inline(always)]
pub(crate) fn answer_device(index: u32, vlan: u16) -> Option<u32> {
    let device = ANSWER_DEVICES.get_ptr(answer_key(index, vlan))?;
    // SAFETY: a value of the map, an aligned word.
    Some(unsafe { core::ptr::read_volatile(device) })
}

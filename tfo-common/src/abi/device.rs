//! The program's constant with the way to its interface, and the key of the map of answering devices.

/// Offsets that lead from a program's context to the interface that the packet came in by, in bytes; the controller takes
/// them from the running kernel's BTF. Beside them, the namespace of the interface that the program is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DeviceOffsets {
    /// Cookie of the interface's network namespace. 0: destinations are not checked, every frame is for this host.
    pub namespace: u64,
    /// 1 where the calls of [`super::CAST_KFUNC`] are patched and all offsets are known, else 0: devices are not looked
    /// at (before Linux 6.2).
    pub known: u32,
    /// `xdp_buff.rxq`, pointer.
    pub rxq: u32,
    /// `xdp_rxq_info.dev`, pointer.
    pub rxq_device: u32,
    /// `sk_buff.dev`, pointer.
    pub skb_device: u32,
    /// `net_device.dev_addr_shadow`, bytes: the MAC address.
    pub mac: u32,
    /// `net_device.flags`, u32.
    pub flags: u32,
    /// `net_device.nd_net.net`, pointer.
    pub net: u32,
    /// `net.net_cookie`, u64.
    pub net_cookie: u32,
    /// `net_device.ip6_ptr`, pointer.
    pub ipv6: u32,
    /// `inet6_dev.cnf.hop_limit`, s32.
    pub hop_limit: u32,
}

// SAFETY: `repr(C)`, a u64 and ten u32: no padding, and any bytes are offsets.
#[cfg(feature = "user")]
unsafe impl aya::Pod for DeviceOffsets {}

impl DeviceOffsets {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        namespace: 0,
        known: 0,
        rxq: 0,
        rxq_device: 0,
        skb_device: 0,
        mac: 0,
        flags: 0,
        net: 0,
        net_cookie: 0,
        ipv6: 0,
        hop_limit: 0,
    };
}

/// Key of [`super::ANSWER_DEVICES`]: frames that came by the device of this index with a VLAN tag of this identifier, 0 for
/// none.
#[inline(always)]
pub const fn answer_key(index: u32, vlan: u16) -> u64 {
    (vlan as u64) << 32 | index as u64
}

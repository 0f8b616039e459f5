//! What the data path and the controller say to each other: the maps' names, bounds and layouts.
//!
//! [`LAYOUT_VERSION`] is part of the path under which maps are pinned: whoever changes a layout or
//! its meaning raises it.

use crate::counters::Counters;

/// The version of everything in this file and of the types that it holds.
pub const LAYOUT_VERSION: u32 = 1;

/// The XDP program's name in the object.
pub const XDP_PROGRAM: &str = "tfo_xdp";

/// Array of maps, 1 entry: the array, of 1 entry, of the [`crate::cookie::KeySet`] in force.
///
/// To change keys, the controller puts another inner map in its place: a packet sees the old set or
/// the new one, never half of each.
pub const KEYS: &str = "KEYS";

/// Per-CPU array: one [`PortCounters`] per slot.
///
/// Slot 0 counts what belongs to no port's slot; the sum over all slots is the sum over all packets.
pub const COUNTERS: &str = "COUNTERS";

/// Array by port: the port's slot in [`COUNTERS`] as a u64, 0 for none.
pub const PORT_SLOTS: &str = "PORT_SLOTS";

/// Array, 1 entry: how many slots of [`COUNTERS`] have been asked for as a u64, slot 0 not among
/// them. It may pass the number of slots that there are.
pub const SLOTS_TAKEN: &str = "SLOTS_TAKEN";

/// Number of TCP ports, and so the entries of [`PORT_SLOTS`].
pub const PORTS: usize = 1 << 16;

/// Slots of [`COUNTERS`], slot 0 among them.
///
/// Ports get a slot at their first SYN. A plain SYN takes one only while less than half of them are
/// taken, so that a port scan leaves room for the ports that speak Fast Open.
pub const COUNTER_SLOTS: u64 = 1024;

/// The counters of one port, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortCounters {
    /// The port, or 0 where this CPU has counted nothing here.
    pub port: u64,
    /// What its SYNs came to.
    pub counters: Counters,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are counters.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortCounters {}

#[cfg(test)]
mod tests {
    use core::mem::{align_of, size_of};

    use super::*;
    use crate::cookie::{Key, KeySet};

    /// Another layout is another [`LAYOUT_VERSION`].
    #[test]
    fn layouts_are_pinned() {
        assert_eq!(LAYOUT_VERSION, 1);
        assert_eq!((size_of::<Key>(), align_of::<Key>()), (16, 8));
        assert_eq!((size_of::<KeySet>(), align_of::<KeySet>()), (72, 8));
        assert_eq!(
            (size_of::<PortCounters>(), align_of::<PortCounters>()),
            (88, 8)
        );
    }
}

//! The device that a packet came in by, as the kernel has it now: address, flags and network namespace.

use core::{ffi::c_void, ptr};

use tfo_common::{abi::DeviceOffsets, wire::ethernet};

use super::{kfunc::cast, offsets::load};

/// Set by the controller before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static DEVICE: DeviceOffsets = DeviceOffsets::UNKNOWN;

/// A fact, or the offset of a field. Volatile, or LLVM would take the value above for granted.
macro_rules! fact {
    ($field:ident) => {
        // SAFETY: a field of a live constant.
        unsafe { ptr::read_volatile(&raw const DEVICE.$field) }
    };
}

/// `IFF_LOOPBACK`.
const LOOPBACK: u32 = 1 << 3;

/// The kernel's `struct net_device`.
#[derive(Clone, Copy)]
pub(crate) struct Device(usize);

/// `true` where destinations are checked: the program was loaded for an interface.
#[inline(always)]
pub(crate) fn is_bound() -> bool {
    namespace() != 0
}

/// The cookie of the network namespace that the program was loaded for; 0 where it was for none.
#[inline(always)]
pub(crate) fn namespace() -> u64 {
    fact!(namespace)
}

impl Device {
    /// The device of a packet by its context, which is a socket buffer or an XDP frame; `None` where the kernel does not tell.
    #[inline(always)]
    pub(crate) fn of(context: *mut c_void, is_skb: bool) -> Option<Self> {
        if fact!(known) == 0 {
            return None;
        }
        let context = cast(context);
        let device = if is_skb {
            load::<usize>(context + fact!(skb_device) as usize)
        } else {
            let rxq = load::<usize>(context + fact!(rxq) as usize);
            load::<usize>(rxq + fact!(rxq_device) as usize)
        };
        Some(Self(device))
    }

    /// The device is in the network namespace that the program was loaded for. One that is moved takes its program along.
    #[inline(always)]
    pub(crate) fn is_at_home(self) -> bool {
        let net = load::<usize>(self.0 + fact!(net) as usize);
        load::<u64>(net + fact!(net_cookie) as usize) == namespace()
    }

    #[inline(always)]
    pub(crate) fn is_loopback(self) -> bool {
        load::<u32>(self.0 + fact!(flags) as usize) & LOOPBACK != 0
    }

    /// The MAC address, in a little-endian word.
    #[inline(always)]
    pub(crate) fn mac(self) -> u64 {
        ethernet::mac(load(self.0 + fact!(mac) as usize))
    }
}

/// The hop limit of IPv6 packets that leave by `device`, where no route and no socket says otherwise.
#[inline(always)]
pub(crate) fn hop_limit(device: Option<Device>) -> u8 {
    const LINUX: u8 = 64;
    let Some(Device(device)) = device else {
        return LINUX;
    };
    match load::<usize>(device + fact!(ipv6) as usize) {
        0 => LINUX,
        ipv6 => load::<u32>(ipv6 + fact!(hop_limit) as usize) as u8,
    }
}

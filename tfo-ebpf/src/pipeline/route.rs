//! The kernel's routes: back to the sender of a SYN, as the kernel's own answer would take it, and onward to its destination.

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    btf_maps::PerCpuArray,
    helpers::{bpf_check_mtu, bpf_fib_lookup},
    macros::btf_map,
};
use tfo_common::wire::{Frame as _, Link, View as _, addresses::Addresses, ethernet, syn::Syn};

use crate::{
    kernel::device,
    maps::routes::answer_device,
    packet::{
        answer::{Answer, Route, SHORTEST},
        read::PacketFrame,
    },
};

/// Words of `struct bpf_fib_lookup`.
const WORDS: usize = 16;
const LEN: i32 = 4 * WORDS.cast_signed() as i32;

/// Arguments and result of the look-up: a map's value, since the program has no stack left.
#[btf_map]
static ROUTE_SCRATCH: PerCpuArray<[u32; WORDS], 1> = PerCpuArray::new();

// Indices of words of `struct bpf_fib_lookup`.
const FAMILY_AND_PROTOCOL: usize = 0;
const MTU: usize = 1;
const DEVICE: usize = 2;
const SOURCE: usize = 4;
const DESTINATION: usize = 8;
const VLAN: usize = 12;
const MACS: usize = 13;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const TCP: u32 = 6;
/// The loopback device, by which the kernel's own packets seem to come in: look-ups by it are look-ups of output routes. The
/// controller sets its `forwarding`, without which the kernel tells nothing.
const OUTPUT: u32 = 1;
const SUCCESS: i64 = 0;
const SKIP_NEIGH: u32 = 1 << 2;
const ETHERNET_MTU: u32 = 1500;

/// The way back to the sender of `syn`; `None` where the kernel would send its answer by a device by which this hook cannot,
/// or does not know the next hop's address yet. `strict`: the kernel drops IPv4 packets that came by another device than the
/// one that leads back.
#[inline(always)]
pub(super) fn back(ctx: &(impl EbpfContext + Answer), syn: &Syn, strict: bool) -> Option<Route> {
    if !device::is_bound() {
        return returned(ctx);
    }
    let words = ROUTE_SCRATCH.get_ptr_mut(0)?.cast::<u32>();
    ask(words, OUTPUT, syn, Way::Back);
    let flags = match ctx.link() {
        Link::Ethernet => 0,
        // There is no neighbour, or the kernel looks for it when the answer leaves.
        Link::None => SKIP_NEIGH,
    };
    if look_up(ctx, words, flags) != SUCCESS {
        return None;
    }
    let device = get(words, DEVICE);
    let strict = strict && matches!(syn.addresses, Addresses::V4(_));
    if !may_leave_by(ctx, device, ctx.vlan(syn)?, strict) {
        return None;
    }
    let macs = [MACS, MACS + 1, MACS + 2].map(|index| get(words, index));
    let half = |word: u32, high: bool| (if high { word >> 16 } else { word }) as u16;
    Some(Route {
        device,
        mtu: (get(words, MTU) >> 16) as u16,
        // The kernel gives the source first.
        macs: [
            half(macs[1], true),
            half(macs[2], false),
            half(macs[2], true),
            half(macs[0], false),
            half(macs[0], true),
            half(macs[1], false),
        ],
    })
}

/// The MTU of the way onward, if the kernel forwards `syn`: there is a route, the device that it came by may forward, and
/// the next hop is resolved, so that it is alive.
#[inline(always)]
pub(super) fn onward(ctx: &(impl EbpfContext + Answer), syn: &Syn) -> Option<u16> {
    if !device::is_bound() {
        return Some(ETHERNET_MTU as u16);
    }
    let words = ROUTE_SCRATCH.get_ptr_mut(0)?.cast::<u32>();
    let index = ctx.device_index();
    let came_by = match ctx.vlan(syn)? {
        0 => index,
        vlan => answer_device(index, vlan)?,
    };
    ask(words, came_by, syn, Way::Onward);
    if look_up(ctx, words, 0) != SUCCESS {
        return None;
    }
    Some((get(words, MTU) >> 16) as u16)
}

/// Asks the kernel. The answer is in the same words.
#[inline(always)]
fn look_up(ctx: &impl EbpfContext, words: *mut u32, flags: u32) -> i64 {
    // SAFETY: the context is the kernel's own, and the argument has this size.
    unsafe { bpf_fib_lookup(ctx.as_ptr(), words.cast(), LEN, flags) }
}

/// `true` if the answer to a frame with this VLAN identifier may leave by `device`. `strict`: only by the one that it came by.
#[inline(always)]
fn may_leave_by<C: Answer>(ctx: &C, device: u32, vlan: u16, strict: bool) -> bool {
    let index = ctx.device_index();
    if device == index && vlan == 0 {
        return true;
    }
    let usual = answer_device(index, vlan);
    if C::REDIRECTS && !strict {
        // The kernel drops frames of a VLAN without a device.
        vlan == 0 || usual.is_some()
    } else {
        // XDP cannot add an Ethernet header.
        usual == Some(device) && ctx.link() != Link::None
    }
}

/// Returns the way by which the frame came, for where destinations are not checked.
#[inline(always)]
fn returned(ctx: &(impl EbpfContext + Answer)) -> Option<Route> {
    let mut mtu = 0;
    // SAFETY: the context is the kernel's own, and it writes a u32. The result tells whether the packet fits, which does
    // not matter here.
    unsafe { bpf_check_mtu(ctx.as_ptr(), 0, &raw mut mtu, 0, 0) };
    let mtu = if mtu == 0 { ETHERNET_MTU } else { mtu };
    let mut macs = [0; 6];
    if ctx.link() == Link::Ethernet {
        let frame = PacketFrame::new(ctx);
        let header = frame.view::<{ ethernet::HEADER_LEN }>(0)?;
        macs = [6, 8, 10, 0, 2, 4].map(|at| header.half(at).to_be());
    }
    Some(Route {
        device: ctx.device_index(),
        mtu: mtu.min(u16::MAX.into()) as u16,
        macs,
    })
}

/// The direction of a segment that the kernel is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The one of the SYN.
    Onward,
    /// The one of its answer.
    Back,
}

/// Writes the question: where a segment goes that came by `device`, `syn` itself or its answer.
#[inline(always)]
fn ask(words: *mut u32, device: u32, syn: &Syn, way: Way) {
    let set = |index: usize, word: u32| {
        // SAFETY: one of the value's words, this CPU's own. Volatile, or LLVM would call `memset`.
        unsafe { ptr::write_volatile(words.wrapping_add(index), word) };
    };
    let (from, to) = match way {
        Way::Onward => (SOURCE, DESTINATION),
        Way::Back => (DESTINATION, SOURCE),
    };
    let ports = match way {
        Way::Onward => syn.ports,
        Way::Back => syn.ports.rotate_right(16),
    };
    // Without a length, traffic control is told the device's MTU instead of the route's.
    set(MTU, ports >> 16 | u32::from(SHORTEST) << 16);
    set(DEVICE, device);
    set(DEVICE + 1, 0);
    // One branch for all that depends on the family, or the verifier would follow those that cannot be.
    let family = match syn.addresses {
        Addresses::V4(word) => {
            set(from, word as u32);
            set(to, (word >> 32) as u32);
            AF_INET
        }
        Addresses::V6([a, b, c, d]) => {
            let set_half = |index: usize, word: u64| {
                set(index, word as u32);
                set(index + 1, (word >> 32) as u32);
            };
            set_half(from, a);
            set_half(from + 2, b);
            set_half(to, c);
            set_half(to + 2, d);
            AF_INET6
        }
    };
    set(FAMILY_AND_PROTOCOL, family | TCP << 8 | ports << 16);
    set(VLAN, 0);
}

#[inline(always)]
fn get(words: *mut u32, index: usize) -> u32 {
    // SAFETY: one of the value's words, this CPU's own.
    unsafe { ptr::read_volatile(words.wrapping_add(index)) }
}

//! The route back to the sender of a SYN, as the kernel's own answer would take it.

use core::ptr;

use aya_ebpf::{
    EbpfContext,
    btf_maps::PerCpuArray,
    helpers::{bpf_check_mtu, bpf_fib_lookup},
    macros::btf_map,
};
use tfo_common::wire::{Frame as _, Link, View as _, addresses::Addresses, ethernet, syn::Syn};

use super::device;
use crate::{
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
/// or does not know the next hop's address yet.
#[inline(always)]
pub(crate) fn back(ctx: &(impl EbpfContext + Answer), syn: &Syn) -> Option<Route> {
    if !device::is_bound() {
        return returned(ctx);
    }
    let words = ROUTE_SCRATCH.get_ptr_mut(0)?.cast::<u32>();
    ask(words, syn);
    let flags = match ctx.link() {
        Link::Ethernet => 0,
        Link::None => SKIP_NEIGH,
    };
    // SAFETY: the context is the kernel's own, and the argument has this size.
    let result = unsafe { bpf_fib_lookup(ctx.as_ptr(), words.cast(), LEN, flags) };
    if result != SUCCESS {
        return None;
    }
    let device = get(words, DEVICE);
    if !may_leave_by(ctx, device, ctx.vlan(syn)?) {
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

/// `true` if the answer to a frame with this VLAN identifier may leave by `device`.
#[inline(always)]
fn may_leave_by<C: Answer>(ctx: &C, device: u32, vlan: u16) -> bool {
    let index = ctx.device_index();
    let same = device == index && vlan == 0;
    // An Ethernet header cannot be added.
    if same || ctx.link() == Link::None {
        return same;
    }
    let usual = answer_device(index, vlan);
    if C::REDIRECTS {
        // The kernel drops frames of a VLAN without a device.
        vlan == 0 || usual.is_some()
    } else {
        usual == Some(device)
    }
}

/// Where destinations are not checked, the way that the frame came.
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

/// Writes the question.
#[inline(always)]
fn ask(words: *mut u32, syn: &Syn) {
    let set = |index: usize, word: u32| {
        // SAFETY: one of the value's words, this CPU's own. Volatile, or LLVM would call `memset`.
        unsafe { ptr::write_volatile(words.wrapping_add(index), word) };
    };
    let family = match syn.addresses {
        Addresses::V4(_) => AF_INET,
        Addresses::V6(_) => AF_INET6,
    };
    let ports = syn.ports.rotate_right(16);
    set(FAMILY_AND_PROTOCOL, family | TCP << 8 | ports << 16);
    // Without a length, traffic control is told the device's MTU instead of the route's.
    set(MTU, ports >> 16 | u32::from(SHORTEST) << 16);
    set(DEVICE, OUTPUT);
    set(DEVICE + 1, 0);
    match syn.addresses {
        Addresses::V4(word) => {
            set(SOURCE, (word >> 32) as u32);
            set(DESTINATION, word as u32);
        }
        Addresses::V6([a, b, c, d]) => {
            let halves = [c, d, a, b];
            for (index, word) in halves.into_iter().enumerate() {
                set(SOURCE + 2 * index, word as u32);
                set(SOURCE + 2 * index + 1, (word >> 32) as u32);
            }
        }
    }
    set(VLAN, 0);
}

#[inline(always)]
fn get(words: *mut u32, index: usize) -> u32 {
    // SAFETY: one of the value's words, this CPU's own.
    unsafe { ptr::read_volatile(words.wrapping_add(index)) }
}

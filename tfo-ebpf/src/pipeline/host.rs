//! Step: is the packet for a socket of this host? The only place that decides it, for mirror, policy, guard and ACKs alike.

use tfo_common::wire::{
    Frame as _, View as _,
    addresses::{Address, Addresses, is_martian, is_to_loopback, is_to_mapped},
    ipv4, ipv6,
    syn::Syn,
};

use crate::{
    kernel::{barrier::barrier_var, device},
    maps::routes::is_local,
    packet::read::{Packet, PacketFrame},
};

/// As [`receives`], of a SYN, whose IPv4 header has to be intact.
#[inline(always)]
pub(super) fn receives_syn(ctx: &impl Packet, syn: &Syn) -> bool {
    receives(ctx, &syn.addresses) && (!device::is_bound() || is_intact(ctx, syn))
}

/// `true` if the kernel delivers the packet of `ctx` with these addresses to a socket of this host: the frame is for its
/// device, which is in the namespace that the program was loaded for, and both addresses can be. Firewalls and address
/// translation decide later, and are not known here.
#[inline(always)]
pub(super) fn receives(ctx: &impl Packet, addresses: &Addresses) -> bool {
    if !device::is_bound() {
        return true;
    }
    // The verifier then goes on once, not once for each way to the answer.
    let of = |addresses: &Addresses| match addresses {
        Addresses::V4(word) | Addresses::V6([word, ..]) => *word,
    };
    barrier_var(is_delivered(ctx, addresses).into(), of(addresses)) != 0
}

/// `true` if the SYN of `ctx` is for a host behind this one: the frame is for its device, as above, and both addresses are
/// others'. Whether there is a route, and what firewalls say, is not known here.
#[inline(always)]
pub(super) fn forwards(ctx: &impl Packet, syn: &Syn) -> bool {
    if !device::is_bound() {
        return true;
    }
    let at_home = ctx.device().is_none_or(|device| {
        device.is_at_home() && !device.is_loopback() && ctx.is_sent_to(device.mac())
    });
    let forwards = at_home
        && !is_martian(&syn.addresses)
        && !is_to_loopback(&syn.addresses)
        && !is_to_mapped(&syn.addresses)
        && !is_local(Address::source(&syn.addresses))
        && is_intact(ctx, syn)
        && is_plain(ctx, syn);
    barrier_var(forwards.into(), syn.sequence.into()) != 0
}

/// The network header has no options and no extensions, which the kernel may have to act on, and a hop is left.
#[inline(always)]
fn is_plain(ctx: &impl Packet, syn: &Syn) -> bool {
    /// IPv6's hop limit, and behind it IPv4's TTL: read at once, or the verifier would meet an address that depends on the
    /// family.
    const HOPS: usize = 7;
    let start = syn.layout.network;
    let both = PacketFrame::new(ctx)
        .view::<{ HOPS + 2 }>(start.into())
        .map_or(0, |header| header.half(HOPS));
    let (len, hops) = match syn.addresses {
        Addresses::V4(_) => (ipv4::MIN_HEADER_LEN, both & 0xff),
        Addresses::V6(_) => (ipv6::HEADER_LEN, both >> 8),
    };
    usize::from(syn.layout.tcp) == usize::from(start) + len && hops > 1
}

/// The IPv4 header's checksum is right; IPv6 has none.
#[inline(always)]
fn is_intact(ctx: &impl Packet, syn: &Syn) -> bool {
    match syn.addresses {
        Addresses::V4(_) => ipv4::is_intact(&PacketFrame::new(ctx), syn.layout.network.into()),
        Addresses::V6(_) => true,
    }
}

#[inline(always)]
fn is_delivered(ctx: &impl Packet, addresses: &Addresses) -> bool {
    if let Some(device) = ctx.device() {
        if !device.is_at_home() {
            return false;
        }
        if device.is_loopback() {
            return true;
        }
        if !ctx.is_sent_to(device.mac()) {
            return false;
        }
    }
    // An IPv4 packet from one of this host's own addresses is martian, and so is one to its loopback address.
    let own_source = matches!(addresses, Addresses::V4(_)) && is_local(Address::source(addresses));
    !is_martian(addresses)
        && !is_to_loopback(addresses)
        && !is_to_mapped(addresses)
        && is_local(Address::destination(addresses))
        && !own_source
}

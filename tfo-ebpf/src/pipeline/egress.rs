//! The kernel's SYN-ACKs on their way out: the cookie in one becomes an own cookie.

use aya_ebpf::programs::TcContext;
use tfo_common::{
    counters::Counter,
    wire::{addresses::Address, issued},
};

use super::{finish, step::Step};
use crate::{
    kernel::{clock, device, socket},
    maps::{own_cookies, routes::is_local},
    packet::{
        read::{Packet, PacketFrame},
        write::store_cookie,
    },
};

/// The program. No failure here costs a frame: the client then keeps a cookie of the kernel's, which is as good.
#[inline(always)]
pub(crate) fn egress(ctx: &TcContext) -> Step {
    if let Ok(issued) = issued::parse(&PacketFrame::new(ctx), ctx.link())
        && let Some(rules) = own_cookies::in_force()
        && is_own(ctx, &issued)
        && let Some(cookie) = rules.issue(&issued.addresses, clock::now())
        && store_cookie(ctx, &issued, cookie)
    {
        return finish::count(issued.server_port(), Counter::OwnIssued, Step::Pass);
    }
    Step::Pass
}

/// A socket of this host answers so. Of a forwarded SYN-ACK, or one whose address is translated here, the SYN that brings
/// the cookie back would meet no listener, and could not be translated.
#[inline(always)]
fn is_own(ctx: &TcContext, issued: &issued::Issued) -> bool {
    (!device::is_bound() || is_local(Address::destination(&issued.addresses)))
        && socket::exists(ctx, &issued.addresses, issued.ports)
}

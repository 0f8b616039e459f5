//! The kernel's SYN-ACKs on their way out: the cookie in one becomes an own cookie.

use aya_ebpf::programs::TcContext;
use tfo_common::{counters::Counter, wire::issued};

use super::{finish, step::Step};
use crate::{
    kernel::{clock, socket},
    maps::own_cookies,
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

/// The SYN that brings the cookie back will be translated: the one that is answered met the program for that, and a
/// connection of this host answers. The kernel knows that before it answers; where only a listener is found, addresses are
/// translated on the way, and the cookie would meet another listener, or none.
#[inline(always)]
fn is_own(ctx: &TcContext, issued: &issued::Issued) -> bool {
    own_cookies::has_asked(&issued.addresses, issued.ports)
        && socket::is_connection(ctx, &issued.addresses, issued.ports)
}

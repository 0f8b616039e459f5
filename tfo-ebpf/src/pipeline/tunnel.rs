//! Step: does this host take the tunnel in which a SYN came, and what acts on such a SYN?

use tfo_common::{
    switches::Switches,
    wire::{addresses::Address, syn::Arrived, tunnel::outer_addresses},
};

use super::host;
use crate::{
    kernel::barrier::barrier_var,
    packet::{
        decap,
        read::{Packet, PacketFrame},
    },
};

/// The SYN came in a tunnel.
#[inline(always)]
pub(super) fn was_read(arrived: &Arrived) -> bool {
    decap::is_on() && arrived.is_tunnelled()
}

/// `true` if the outer packet is for this host, and from a source whose tunnels are read: anyone could forge an outer header.
#[inline(always)]
pub(super) fn is_accepted(ctx: &impl Packet, arrived: &Arrived) -> bool {
    let outer = outer_addresses(&PacketFrame::new(ctx), arrived.outer.into());
    let accepted = outer.is_some_and(|outer| {
        decap::is_source(&Address::source(&outer)) && host::receives(ctx, &outer)
    });
    // The verifier then goes on once, not once for each source.
    barrier_var(accepted.into(), arrived.syn.sequence.into()) != 0
}

/// The switches for a SYN in a tunnel. It is not challenged here: the answer to a challenge would come in a tunnel, too.
#[inline(always)]
pub(super) const fn switches(switches: Switches) -> Switches {
    switches.replaced(Switches::GUARD, 0)
}

//! Step: classify a SYN by the socket that it meets and by the keys in force.

use aya_ebpf::EbpfContext;
use tfo_common::{
    classify::{Classification, socket::Socket},
    wire::syn::Syn,
};

use crate::{
    kernel::{
        barrier::barrier_var,
        socket::{self, ListenerSink},
    },
    maps::keys,
};

/// Classifies an ordinary SYN, which costs no look-up.
#[inline(always)]
pub(crate) fn ordinary(syn: &Syn) -> Classification {
    Classification::of(syn, &Socket::Unknown, || None)
}

/// Classifies as far as the kernel would: the cookie is checked only where the socket does not decide, or `in_full`. `sink`
/// takes what else is needed of the listener.
#[inline(always)]
pub(crate) fn classify(
    ctx: &impl EbpfContext,
    syn: &Syn,
    in_full: bool,
    sink: impl ListenerSink,
) -> Classification {
    let socket = socket::look_up(ctx, syn, sink);
    Classification::to_extent(in_full, syn, &socket, keys::in_force, |word| {
        barrier_var(word, syn.sequence.into())
    })
}

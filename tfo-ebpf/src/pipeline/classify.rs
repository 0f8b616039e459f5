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

/// Classifies as far as the kernel would: the cookie is checked only where the socket does not decide.
#[inline(always)]
pub(crate) fn classify(ctx: &impl EbpfContext, syn: &Syn) -> Classification {
    let socket = socket::look_up(ctx, syn, ());
    Classification::of(syn, &socket, keys::in_force)
        .barrier_var(|word| barrier_var(word, syn.sequence.into()))
}

/// Classifies, and checks the cookie whatever the socket decides. `sink` takes what else
/// is needed of the listener.
#[inline(always)]
pub(crate) fn classify_in_full(
    ctx: &impl EbpfContext,
    syn: &Syn,
    sink: impl ListenerSink,
) -> Classification {
    let socket = socket::look_up(ctx, syn, sink);
    Classification::in_full(syn, &socket, keys::in_force, |word| {
        barrier_var(word, syn.sequence.into())
    })
}

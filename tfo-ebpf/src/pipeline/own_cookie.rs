//! Step: an own cookie becomes the one that the kernel would take. From here on the SYN is as the kernel will see it.

use aya_ebpf::EbpfContext;
use tfo_common::{
    classify::{Classification, Outcome, socket::Socket},
    context::SynContext,
    fastopen::{Key, own::OwnCookie},
    wire::options::fast_open::FastOpen,
};

use crate::{
    kernel::{barrier::barrier_var, clock, socket},
    maps::own_cookies,
    packet::write::{WritePacket, replace_cookie},
};

/// `true` if the SYN may have an own cookie.
#[inline(always)]
pub(super) fn applies(context: &SynContext) -> bool {
    matches!(context.syn.options.fast_open, FastOpen::Cookie(_))
        && own_cookies::in_force().is_some()
}

/// Translates the cookie, if it is an own one; the SYN is classified then.
#[inline(always)]
pub(super) fn translate(ctx: &(impl EbpfContext + WritePacket), context: &mut SynContext) {
    let syn = &mut context.syn;
    let FastOpen::Cookie(own) = syn.options.fast_open else {
        return;
    };
    let Some(rules) = own_cookies::in_force() else {
        return;
    };
    let hide = |word| barrier_var(word, syn.sequence.into());
    // The verifier then goes on once, not once for each age.
    let age = hide(rules.age(own, &syn.addresses, clock::now()) as u64) as u32;
    let age = OwnCookie::from_number(age);
    context.own_cookie = age;
    if !matches!(age, OwnCookie::Young | OwnCookie::Old) {
        return;
    }
    let socket = socket::look_up(ctx, syn, ());
    let Socket::Listener(listener) = &socket else {
        context.own_cookie = match socket {
            // It belongs to a connection, which the kernel knows.
            Socket::Existing => OwnCookie::None,
            _ => OwnCookie::Untranslated,
        };
        return;
    };
    let renews = matches!(age, OwnCookie::Old) && listener.keys.second().is_some();
    let (key, outcome) = match listener.keys.second() {
        Some(backup) if renews => (Some(backup), Outcome::Backup),
        _ => (listener.keys.first(), Outcome::Primary),
    };
    let [k0, k1] = key.unwrap_or(&Key::ZERO).words();
    // As above: one hash, under whichever key.
    let cookie = Key::from_words(hide(k0), hide(k1)).cookie(&syn.addresses);
    if key.is_none() || !replace_cookie(ctx, syn, own, cookie) {
        context.own_cookie = OwnCookie::Untranslated;
        return;
    }
    syn.options.fast_open = FastOpen::Cookie(cookie);
    context.classification = Classification::with_known_cookie(syn, &socket, outcome, |word| {
        barrier_var(word, syn.sequence.into())
    });
}

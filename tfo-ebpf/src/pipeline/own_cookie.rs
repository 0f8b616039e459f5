//! Step: an own cookie becomes the one that the kernel would take. From here on the SYN is as the kernel will see it.

use aya_ebpf::EbpfContext;
use tfo_common::{
    classify::{Classification, Outcome, socket::Socket},
    context::SynContext,
    fastopen::{Cookie, Key, own::OwnCookie},
    switches::Switches,
    wire::options::fast_open::FastOpen,
};

use crate::{
    kernel::{barrier::barrier_var, clock, socket},
    maps::own_cookies,
    packet::write::{WritePacket, replace_cookie},
};

/// `true` if the SYN may have an own cookie, or be given one.
#[inline(always)]
pub(super) fn applies(context: &SynContext) -> bool {
    context.switches.has(Switches::OWN_COOKIES)
        && context.syn.has_fast_open()
        && !context.syn.options.signatures().cover_options()
}

/// Translates the cookie, if it is an own one; the SYN is classified then. Notes a SYN that may be given one.
#[inline(always)]
pub(super) fn translate(ctx: &(impl EbpfContext + WritePacket), context: &mut SynContext) {
    let syn = &mut context.syn;
    let hide = |word| barrier_var(word, syn.sequence.into());
    let (own, age) = match (syn.options.fast_open(), own_cookies::in_force()) {
        (FastOpen::Cookie(own), Some(rules)) => {
            (own, rules.age(own, &syn.addresses, clock::now()) as u64)
        }
        _ => (Cookie::from_word(0), OwnCookie::Foreign as u64),
    };
    // The verifier then goes on once, not once for each age.
    let age = OwnCookie::from_number(hide(age) as u32);
    context.own_cookie = age;
    // A young one, too: a policy may have it ask for another.
    own_cookies::note_asked(&syn.addresses, syn.ports);
    if !age.is_good() {
        return;
    }
    let socket = socket::look_up(ctx, syn, ());
    let Socket::Listener(listener) = &socket else {
        context.own_cookie = match socket {
            // It belongs to a connection, which the kernel knows.
            Socket::Existing => OwnCookie::Foreign,
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
    syn.options.set_cookie(cookie);
    context.classification = Classification::with_known_cookie(syn, &socket, outcome, |word| {
        barrier_var(word, syn.sequence.into())
    });
}

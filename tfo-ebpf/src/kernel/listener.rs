//! The fields of a listener.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_probe_read_kernel};
use tfo_common::{
    classify::socket::Listener,
    fastopen::{Key, KeySet},
    guard::{HeaderRules, ListenerFlags},
    wire::options::{negotiated::HostOptions, signature::SignatureRules},
};

use super::offsets::{load, offset};

/// Reads the fields of the listener `tcp` on which Fast Open depends. `exempt`: the SYN reopens a connection in
/// `TIME_WAIT`, and passes no flood checks.
#[inline(always)]
pub(crate) fn read_listener(tcp: usize, exempt: bool) -> Listener {
    let net: usize = load(tcp + offset!(net));
    let fast_open: u32 = load(net + offset!(sysctl_fastopen));
    let syn_cookies: u8 = load(net + offset!(sysctl_syncookies));
    let backlog: u32 = load(tcp + offset!(ack_backlog));
    let max_backlog: u32 = load(tcp + offset!(max_ack_backlog));
    let pending: u32 = load(tcp + offset!(syn_queue_len));
    let max_qlen: u32 = load(tcp + offset!(fastopen_max_qlen));
    let qlen: u32 = load(tcp + offset!(fastopen_qlen));
    let no_cookie: u8 = load(tcp + offset!(no_cookie));
    Listener {
        fast_open,
        syn_cookies: if exempt { 0 } else { syn_cookies },
        // Before Linux 6.14, and stable releases with its fix, the SYN queue takes one less:
        // inet_csk_reqsk_queue_is_full().
        syn_queue_full: !exempt && pending > max_backlog,
        accept_queue_full: backlog > max_backlog,
        max_qlen,
        qlen,
        queue_full: qlen >= max_qlen && !frees_slot(tcp),
        no_cookie: u32::from(no_cookie) & offset!(no_cookie_mask) as u32 != 0,
        keys: keys_at(match own_keys(tcp) {
            0 => load(net + offset!(host_keys)),
            own => own,
        }),
        signatures: SignatureRules {
            fault_from: match offset!(fault_from) {
                0 => None,
                from => Some(from as u8),
            },
            refuses_md5: lacks_keys(tcp, offset!(md5_keys)),
            refuses_ao: lacks_keys(tcp, offset!(ao_keys)),
        },
    }
}

/// `true` if the kernel knows the kind of signature whose keys are at `offset`, and the listener has none.
#[inline(always)]
fn lacks_keys(tcp: usize, offset: usize) -> bool {
    offset != 0 && load::<usize>(tcp + offset) == 0
}

/// `true` if the kernel will free an entry of a full Fast Open queue: that of a connection which was reset long enough ago
/// (`tcp_fastopen_queue_check`).
#[inline(always)]
fn frees_slot(tcp: usize) -> bool {
    let head: usize = load(tcp + offset!(rst_head));
    if head == 0 {
        return false;
    }
    let expires: u64 = load(head + offset!(expires));
    // SAFETY: it only reads a clock.
    let now = unsafe { bpf_jiffies64() };
    // The kernel's time_after(), on the low 64 bits.
    now.wrapping_sub(expires).cast_signed() >= 0
}

/// The address of the listener's own keys; 0 where it has none.
#[inline(always)]
pub(crate) fn own_keys(tcp: usize) -> usize {
    load(tcp + offset!(keys))
}

/// The keys in a `struct tcp_fastopen_context`, which a rotation replaces as a whole.
#[inline(always)]
pub(crate) fn keys_at(context: usize) -> KeySet {
    if context == 0 {
        return KeySet::EMPTY;
    }
    let keys = context + offset!(context_key);
    let [a, b, c, d] = if offset!(copies_keys) == 0 {
        [load(keys), load(keys + 8), load(keys + 16), load(keys + 24)]
    } else {
        // SAFETY: it reads kernel memory and survives an address that is none.
        unsafe { bpf_probe_read_kernel(keys as *const [u64; 4]) }.unwrap_or_default()
    };
    let (first, second) = (Key::from_words(a, b), Key::from_words(c, d));
    KeySet::of_context(first, second, load(context + offset!(context_num)))
}

/// Reads the fields of the listener `tcp` on which the guard depends.
#[inline(always)]
pub(crate) fn read_flags(tcp: usize) -> ListenerFlags {
    let net: usize = load(tcp + offset!(net));
    let on = |offset: usize| load::<u8>(net + offset) != 0;
    let host = HostOptions {
        window_scaling: on(offset!(sysctl_window_scaling)),
        sack: on(offset!(sysctl_sack)),
        ecn: on(offset!(sysctl_ecn)),
        timestamps: on(offset!(sysctl_timestamps)),
    };
    let max_backlog: u32 = load(tcp + offset!(max_ack_backlog));
    let pending: u32 = load(tcp + offset!(syn_queue_len));
    receive_buffer(tcp, host)
        .syn_queue(pending, max_backlog)
        .accept_queue_full(is_accept_queue_full(tcp))
        .unfit(is_unfit(tcp))
}

/// The receive buffer of the listener `tcp`, on a host with these options.
#[inline(always)]
fn receive_buffer(tcp: usize, host: HostOptions) -> ListenerFlags {
    /// `SOCK_RCVBUF_LOCK`.
    const LOCKED: u8 = 2;
    let locks: u8 = load(tcp + offset!(user_locks));
    ListenerFlags::new(load(tcp + offset!(receive_buffer)), host).buffer_locked(locks & LOCKED != 0)
}

/// The window scale that the kernel advertises at the listener `tcp`, where that of listeners without `SO_RCVBUF` is
/// `of_host`.
#[inline(always)]
pub(crate) fn window_scale(tcp: usize, of_host: u32) -> u32 {
    receive_buffer(tcp, HostOptions::NONE).window_scale(of_host)
}

/// `true` if the accept queue of the listener `tcp` is full (`sk_acceptq_is_full`).
#[inline(always)]
pub(crate) fn is_accept_queue_full(tcp: usize) -> bool {
    let backlog: u32 = load(tcp + offset!(ack_backlog));
    let max_backlog: u32 = load(tcp + offset!(max_ack_backlog));
    backlog > max_backlog
}

/// `true` if the SYN queue of the listener `tcp` overflowed so recently that the kernel checks SYN cookies there
/// (`tcp_synq_no_recent_overflow`). A listener of a reuseport group shares the time with its group, which is not read: it
/// always seems to have overflowed.
#[inline(always)]
pub(crate) fn overflowed(tcp: usize) -> bool {
    /// `TCP_SYNCOOKIE_VALID`, in seconds.
    const VALID: u64 = 120;
    if load::<usize>(tcp + offset!(reuseport)) != 0 {
        return true;
    }
    let last: u32 = load(tcp + offset!(overflow_stamp));
    // SAFETY: it only reads a clock.
    let now = unsafe { bpf_jiffies64() } as u32;
    last != 0 && u64::from(now.wrapping_sub(last)) < VALID * offset!(ticks) as u64
}

/// Reads the fields of the listener `tcp` that show in the headers of a SYN-ACK.
#[inline(always)]
pub(crate) fn read_header_rules(tcp: usize, v4: bool) -> HeaderRules {
    let net: usize = load(tcp + offset!(net));
    let mss: u16 = load(tcp + offset!(user_mss));
    let reflects: u8 = load(net + offset!(sysctl_reflect_tos));
    let (own, default, class) = if v4 {
        (
            load::<i16>(tcp + offset!(ttl)),
            load::<u8>(net + offset!(sysctl_default_ttl)),
            load::<u8>(tcp + offset!(tos)),
        )
    } else {
        let v6: usize = load(tcp + offset!(ipv6_info));
        (
            load::<i16>(v6 + offset!(hop_limit)),
            HeaderRules::OF_DEVICE,
            load::<u8>(v6 + offset!(traffic_class)),
        )
    };
    let own = own.cast_unsigned();
    let hop_limit = if own > u8::MAX.into() {
        default
    } else {
        own as u8
    };
    HeaderRules::new(mss, hop_limit, class).reflecting(reflects != 0)
}

/// `true` if the kernel opens no connection by an ACK at the listener `tcp`: it is MPTCP or has keys for signatures, or
/// the namespace sends no SYN cookies.
#[inline(always)]
pub(crate) fn is_unfit(tcp: usize) -> bool {
    let net: usize = load(tcp + offset!(net));
    let signs = |offset: usize| offset != 0 && !lacks_keys(tcp, offset);
    load::<u8>(net + offset!(sysctl_syncookies)) == 0
        || is_mptcp(tcp)
        || signs(offset!(md5_keys))
        || signs(offset!(ao_keys))
}

/// `true` if `tcp` is the TCP socket of an MPTCP listener.
#[inline(always)]
pub(crate) fn is_mptcp(tcp: usize) -> bool {
    let mptcp = offset!(mptcp);
    mptcp != 0 && load::<u8>(tcp + mptcp) != 0
}

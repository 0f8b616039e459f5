//! The fields of a listener.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_probe_read_kernel};
use tfo_common::{
    classify::socket::Listener,
    fastopen::{Key, KeySet},
    guard::{HeaderRules, ListenerFlags},
    wire::options::{negotiated::HostOptions, signature::SignatureRules},
};

use super::offsets::{load, offset};

/// A socket in `LISTEN`, with the fields on which both Fast Open and the guard depend: each is read once.
#[derive(Clone, Copy)]
pub(crate) struct ListenSocket {
    /// The kernel's `struct tcp_sock`.
    tcp: usize,
    /// Its `struct net`.
    net: usize,
    syn_cookies: u8,
    backlog: u32,
    max_backlog: u32,
    pending: u32,
    refuses_md5: bool,
    refuses_ao: bool,
}

impl ListenSocket {
    /// Reads the listener whose `struct tcp_sock` is at `tcp`.
    #[inline(always)]
    pub(crate) fn read(tcp: usize) -> Self {
        let net: usize = load(tcp + offset!(net));
        Self {
            tcp,
            net,
            syn_cookies: load(net + offset!(sysctl_syncookies)),
            backlog: load(tcp + offset!(ack_backlog)),
            max_backlog: load(tcp + offset!(max_ack_backlog)),
            pending: load(tcp + offset!(syn_queue_len)),
            refuses_md5: lacks_keys(tcp, offset!(md5_keys)),
            refuses_ao: lacks_keys(tcp, offset!(ao_keys)),
        }
    }

    /// Reads what else Fast Open depends on. `exempt`: the SYN reopens a connection in `TIME_WAIT`, and passes no flood
    /// checks.
    #[inline(always)]
    pub(crate) fn fast_open(&self, exempt: bool) -> Listener {
        let Self { tcp, net, .. } = *self;
        let max_qlen: u32 = load(tcp + offset!(fastopen_max_qlen));
        let qlen: u32 = load(tcp + offset!(fastopen_qlen));
        let no_cookie: u8 = load(tcp + offset!(no_cookie));
        Listener {
            fast_open: load(net + offset!(sysctl_fastopen)),
            syn_cookies: if exempt { 0 } else { self.syn_cookies },
            // Before Linux 6.14, and stable releases with its fix, the SYN queue takes one less:
            // inet_csk_reqsk_queue_is_full().
            syn_queue_full: !exempt && self.pending > self.max_backlog,
            accept_queue_full: self.is_accept_queue_full(),
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
                refuses_md5: self.refuses_md5,
                refuses_ao: self.refuses_ao,
            },
        }
    }

    /// Reads what else the guard depends on.
    #[inline(always)]
    pub(crate) fn flags(&self) -> ListenerFlags {
        let on = |offset: usize| load::<u8>(self.net + offset) != 0;
        let host = HostOptions {
            window_scaling: on(offset!(sysctl_window_scaling)),
            sack: on(offset!(sysctl_sack)),
            ecn: on(offset!(sysctl_ecn)),
            timestamps: on(offset!(sysctl_timestamps)),
        };
        receive_buffer(self.tcp, host)
            .syn_queue(self.pending, self.max_backlog)
            .accept_queue_full(self.is_accept_queue_full())
            .unfit(self.is_unfit())
    }

    /// Reads the fields that show in the headers of a SYN-ACK.
    #[inline(always)]
    pub(crate) fn header_rules(&self, v4: bool) -> HeaderRules {
        let Self { tcp, net, .. } = *self;
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

    /// `true` if the accept queue is full (`sk_acceptq_is_full`).
    #[inline(always)]
    pub(crate) const fn is_accept_queue_full(&self) -> bool {
        self.backlog > self.max_backlog
    }

    /// `true` if the kernel opens no connection by an ACK there: the listener is MPTCP or has keys for signatures, or the
    /// namespace sends no SYN cookies.
    #[inline(always)]
    pub(crate) fn is_unfit(&self) -> bool {
        let signs = |offset: usize, refuses: bool| offset != 0 && !refuses;
        self.syn_cookies == 0
            || is_mptcp(self.tcp)
            || signs(offset!(md5_keys), self.refuses_md5)
            || signs(offset!(ao_keys), self.refuses_ao)
    }

    /// `true` if the SYN queue overflowed so recently that the kernel checks SYN cookies there
    /// (`tcp_synq_no_recent_overflow`). A listener of a reuseport group shares the time with its group, which is not read: it
    /// always seems to have overflowed.
    #[inline(always)]
    pub(crate) fn overflowed(&self) -> bool {
        /// `TCP_SYNCOOKIE_VALID`, in seconds.
        const VALID: u64 = 120;
        if load::<usize>(self.tcp + offset!(reuseport)) != 0 {
            return true;
        }
        let last: u32 = load(self.tcp + offset!(overflow_stamp));
        // SAFETY: it only reads a clock.
        let now = unsafe { bpf_jiffies64() } as u32;
        last != 0 && u64::from(now.wrapping_sub(last)) < VALID * offset!(ticks) as u64
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

/// `true` if `tcp` is the TCP socket of an MPTCP listener.
#[inline(always)]
pub(crate) fn is_mptcp(tcp: usize) -> bool {
    let mptcp = offset!(mptcp);
    mptcp != 0 && load::<u8>(tcp + mptcp) != 0
}

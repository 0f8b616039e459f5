//! The socket that a SYN meets, as the kernel's own tables have it.
//!
//! The kernel's structures differ between kernels. The controller takes the offsets of their fields
//! from the running kernel's BTF and puts them into a constant; the verifier then knows them, and
//! checks every load against the same BTF.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::{
        bpf_jiffies64, bpf_probe_read_kernel, bpf_sk_release, bpf_skc_lookup_tcp,
        bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock,
    },
};
use tfo_common::{
    classify::Outcome,
    cookie::{Addresses, Key, KeySet},
    maps::SocketOffsets,
    socket::{Listener, Socket, TimeWait},
    syn::Syn,
    wire::signature::SignatureRules,
};

use crate::{case::Findings, site::Site};

/// Set by the controller before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
pub(crate) static SOCKET_OFFSETS: SocketOffsets = SocketOffsets {
    known: 0,
    ack_backlog: 0,
    max_ack_backlog: 0,
    net: 0,
    sysctl_fastopen: 0,
    sysctl_syncookies: 0,
    syn_queue: 0,
    reset_head: 0,
    queue: 0,
    queue_limit: 0,
    keys: 0,
    host_keys: 0,
    context_key: 0,
    context_num: 0,
    copies_keys: 0,
    expires: 0,
    no_cookie: 0,
    no_cookie_mask: 0,
    md5_keys: 0,
    authentication_keys: 0,
    fault_from: 0,
    sysctl_timestamps: 0,
    sysctl_sack: 0,
    sysctl_window_scaling: 0,
    sysctl_ecn: 0,
    receive_buffer: 0,
    mptcp: 0,
    substate: 0,
    next: 0,
    clock: 0,
    clock_stamp: 0,
    checks_reopened: 0,
    state: 0,
    family: 0,
    port: 0,
    ipv4: 0,
    ipv6: 0,
};

/// The offset of a field. Volatile, or the compiler would take the value above for granted.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a field of a live constant.
        unsafe {
            core::ptr::read_volatile(&raw const $crate::socket::SOCKET_OFFSETS.$field) as usize
        }
    };
}
pub(crate) use offset;

/// The bits of a SYN's ports that are its source's.
const SOURCE_PORT: u32 = 0xffff;

/// The network namespace of the interface: `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;

// States of a socket, as include/net/tcp_states.h has them.
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u32 = 6;
pub(crate) const LISTEN: u32 = 10;

/// What the kernel looks a segment up by: addresses, then ports, as on the wire.
pub(crate) struct Tuple {
    words: [u64; 5],
    len: u32,
}

impl Tuple {
    #[inline(always)]
    pub(crate) const fn new(addresses: &Addresses, ports: u32) -> Self {
        let ports = ports as u64;
        match addresses {
            Addresses::V4(word) => Self {
                words: [*word, ports, 0, 0, 0],
                len: 12,
            },
            Addresses::V6([a, b, c, d]) => Self {
                words: [*a, *b, *c, *d, ports],
                len: 36,
            },
        }
    }

    /// The socket of that tuple, which is to be released. Null where there is none.
    #[inline(always)]
    pub(crate) fn look_up(&mut self, ctx: &impl EbpfContext) -> *mut bpf_sock {
        let tuple = self.words.as_mut_ptr().cast::<bpf_sock_tuple>();
        // SAFETY: the context is the kernel's own, and the tuple has `len` bytes.
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, self.len, CURRENT_NETNS, 0) }
    }
}

/// Looks up what the SYN will meet in the kernel.
#[inline(always)]
pub(crate) fn look_up(ctx: &impl EbpfContext, syn: &Syn) -> Socket {
    find(ctx, syn, None)
}

/// Whether a SYN meets nothing that floods are met with.
#[inline(always)]
fn is_exempt(reopens: bool) -> bool {
    reopens && offset!(checks_reopened) == 0
}

/// As [`look_up`]. With `findings`, notes what the guard has to know of a listener, and asks one that gets an
/// ordinary SYN no more than that.
#[inline(always)]
pub(crate) fn find(ctx: &impl EbpfContext, syn: &Syn, findings: Option<Findings>) -> Socket {
    if offset!(known) == 0 {
        return Socket::Unknown;
    }
    let mut socket = Tuple::new(&syn.addresses, syn.ports).look_up(ctx);
    if socket.is_null() {
        return Socket::None;
    }
    // SAFETY: not null, and not released yet.
    let mut state = unsafe { (*socket).state };
    let reopens = state == TIME_WAIT;
    if reopens {
        let opens = time_wait(socket.cast()).is_none_or(|old| old.reopens(syn));
        release(socket);
        if !opens {
            return Socket::Existing;
        }
        // The kernel opens the connection anew, at the listener: one look-up that no connection can
        // answer, since none has the source port 0.
        socket = Tuple::new(&syn.addresses, syn.ports & !SOURCE_PORT).look_up(ctx);
        if socket.is_null() {
            return Socket::None;
        }
        // SAFETY: as above.
        state = unsafe { (*socket).state };
    }
    let found = if state == LISTEN {
        match tcp_sock(socket.cast()) {
            Some(tcp) => {
                if let Some(findings) = findings
                    && !reopens
                {
                    findings.put_site(Site::read(tcp));
                }
                if findings.is_some() && !Outcome::depends_on_socket(syn) {
                    Socket::Unknown
                } else {
                    let listener = read_listener(tcp, is_exempt(reopens));
                    if let Some(findings) = findings
                        && listener.hands_out_cookies()
                    {
                        findings.put_issuer(listener.keys.first());
                    }
                    Socket::Listener(listener)
                }
            }
            None => Socket::Unknown,
        }
    } else {
        Socket::Existing
    };
    release(socket);
    found
}

#[inline(always)]
pub(crate) fn release(socket: *mut bpf_sock) {
    // SAFETY: the socket was looked up, is not null, and is not used after this.
    unsafe { bpf_sk_release(socket.cast()) };
}

/// The kernel's structure of a TCP socket; `None` for any other.
#[inline(always)]
pub(crate) fn tcp_sock(socket: *mut c_void) -> Option<usize> {
    // SAFETY: the kernel gave the socket, and it is not null.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) } as usize;
    (tcp != 0).then_some(tcp)
}

/// Reads what decides whether a SYN opens the connection of `socket` anew.
#[inline(always)]
fn time_wait(socket: *mut c_void) -> Option<TimeWait> {
    // SAFETY: the kernel gave the socket, and it is not null.
    let old = unsafe { bpf_skc_to_tcp_timewait_sock(socket) } as usize;
    if old == 0 {
        return None;
    }
    let net: usize = load(old + offset!(net));
    let in_use = load::<u8>(net + offset!(sysctl_timestamps)) != 0
        && load::<u32>(old + offset!(clock_stamp)) != 0;
    let clock = load(old + offset!(clock));
    Some(TimeWait {
        half_closed: load::<u8>(old + offset!(substate)) == FIN_WAIT2,
        next: load(old + offset!(next)),
        clock: in_use.then_some(clock),
    })
}

/// Reads what decides about Fast Open at the listener `tcp`. `exempt`: the SYN opens a connection anew
/// out of `TIME_WAIT`, and the kernel meets it with nothing that floods are met with.
#[inline(always)]
pub(crate) fn read_listener(tcp: usize, exempt: bool) -> Listener {
    let net: usize = load(tcp + offset!(net));
    let fast_open: u32 = load(net + offset!(sysctl_fastopen));
    let syn_cookies: u8 = load(net + offset!(sysctl_syncookies));
    let backlog: u32 = load(tcp + offset!(ack_backlog));
    let max_backlog: u32 = load(tcp + offset!(max_ack_backlog));
    let pending: u32 = load(tcp + offset!(syn_queue));
    let limit: u32 = load(tcp + offset!(queue_limit));
    let queue: u32 = load(tcp + offset!(queue));
    let no_cookie: u8 = load(tcp + offset!(no_cookie));
    Listener {
        fast_open,
        syn_cookies: if exempt { 0 } else { syn_cookies },
        // Before Linux 6.14, and stable releases with its fix, the SYN queue takes one less:
        // inet_csk_reqsk_queue_is_full().
        syn_queue_full: !exempt && pending > max_backlog,
        accept_queue_full: backlog > max_backlog,
        limit,
        queue,
        queue_full: queue >= limit && !frees_slot(tcp),
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
            refuses_authentication: lacks_keys(tcp, offset!(authentication_keys)),
        },
    }
}

/// Whether the listener has no key for signatures of the kind whose keys are at `offset`; not so where the
/// kernel does not know that kind.
#[inline(always)]
pub(crate) fn lacks_keys(tcp: usize, offset: usize) -> bool {
    offset != 0 && load::<usize>(tcp + offset) == 0
}

/// Whether the kernel will free a slot of a full Fast Open queue: that of a connection which was reset
/// so long ago that its sender cannot profit (`tcp_fastopen_queue_check`).
#[inline(always)]
fn frees_slot(tcp: usize) -> bool {
    let head: usize = load(tcp + offset!(reset_head));
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

/// Reads a field of a kernel structure.
#[inline(always)]
pub(crate) fn load<T: Copy>(address: usize) -> T {
    // SAFETY: the verifier knows which structure the address points into and has checked that a field
    // of this size is there. The kernel catches a fault of a pointer that was followed.
    unsafe { ptr::read_volatile(address as *const T) }
}

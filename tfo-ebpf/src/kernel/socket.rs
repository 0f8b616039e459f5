//! The look-up of sockets in the kernel's own tables.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::{
        bpf_sk_release, bpf_skc_lookup_tcp, bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock,
    },
};
use tfo_common::{
    classify::socket::{Socket, TimeWait},
    fastopen::Key,
    guard::{HeaderRules, ListenerFlags},
    wire::{addresses::Addresses, syn::Syn},
};

use super::{
    listener::ListenSocket,
    offsets::{load, offset},
};

/// Mask of the source port in a pair of ports.
pub(super) const SOURCE_PORT: u32 = 0xffff;

/// The network namespace of the interface: `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;

// States of a socket: include/net/tcp_states.h.
const FIN_WAIT2: u8 = 5;
const TIME_WAIT: u32 = 6;
pub(crate) const LISTEN: u32 = 10;

/// A receiver of further fields of a listener, besides [`Listener`][tfo_common::classify::socket::Listener].
pub(crate) trait ListenerSink: Copy {
    /// `false` if nothing else is read.
    const WANTED: bool;

    /// Takes the fields on which the guard depends.
    fn set_listener(self, listener: ListenerFlags, headers: HeaderRules);

    /// Takes the key with which the listener issues cookies, if it issues any.
    fn set_key(self, key: Option<&Key>);
}

impl ListenerSink for () {
    const WANTED: bool = false;

    #[inline(always)]
    fn set_listener(self, _: ListenerFlags, _: HeaderRules) {}

    #[inline(always)]
    fn set_key(self, _: Option<&Key>) {}
}

/// A socket that was looked up, and has to be released.
pub(super) struct Found {
    pub(super) socket: *mut bpf_sock,
    pub(super) state: u32,
}

impl Found {
    /// Looks up the socket of these addresses and ports, as on the wire.
    #[inline(always)]
    pub(super) fn look_up(
        ctx: &impl EbpfContext,
        addresses: &Addresses,
        ports: u32,
    ) -> Option<Self> {
        let ports = ports.into();
        let (mut words, len) = match addresses {
            Addresses::V4(word) => ([*word, ports, 0, 0, 0], 12),
            Addresses::V6([a, b, c, d]) => ([*a, *b, *c, *d, ports], 36),
        };
        let tuple = words.as_mut_ptr().cast::<bpf_sock_tuple>();
        // SAFETY: the context is the kernel's own, and the tuple has `len` bytes.
        let socket = unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, len, CURRENT_NETNS, 0) };
        if socket.is_null() {
            return None;
        }
        // SAFETY: not null, and not released yet.
        let state = unsafe { (*socket).state };
        Some(Self { socket, state })
    }

    #[inline(always)]
    pub(super) fn release(self) {
        // SAFETY: the socket was looked up, is not null, and is not used after this.
        unsafe { bpf_sk_release(self.socket.cast()) };
    }
}

/// `true` if a connection of this namespace, or the request for one, has these addresses and ports.
#[inline(always)]
pub(crate) fn is_connection(ctx: &impl EbpfContext, addresses: &Addresses, ports: u32) -> bool {
    let Some(found) = Found::look_up(ctx, addresses, ports) else {
        return false;
    };
    let listens = found.state == LISTEN;
    found.release();
    !listens
}

/// Looks up the socket that the SYN will meet. With a sink, nothing else is read for an ordinary SYN, the most
/// frequent one in a flood.
#[inline(always)]
pub(crate) fn look_up(ctx: &impl EbpfContext, syn: &Syn, sink: impl ListenerSink) -> Socket {
    sink.set_listener(ListenerFlags::NONE, HeaderRules::DEFAULT);
    sink.set_key(None);
    if offset!(known) == 0 {
        return Socket::Unknown;
    }
    let Some(mut found) = Found::look_up(ctx, &syn.addresses, syn.ports) else {
        return Socket::None;
    };
    let reopens = found.state == TIME_WAIT;
    if reopens {
        let opens = time_wait(found.socket.cast()).is_none_or(|old| old.reopens(syn));
        found.release();
        if !opens {
            return Socket::Existing;
        }
        // The kernel reopens the connection at the listener. No connection has the source port 0, so this look-up finds
        // the listener.
        let ports = syn.ports & !SOURCE_PORT;
        let Some(listener) = Found::look_up(ctx, &syn.addresses, ports) else {
            return Socket::None;
        };
        found = listener;
    }
    let socket = if found.state == LISTEN {
        match tcp_sock(found.socket.cast()) {
            Some(tcp) => read(tcp, syn, reopens, sink),
            None => Socket::Unknown,
        }
    } else {
        Socket::Existing
    };
    found.release();
    socket
}

/// Reads the listener `tcp`, which gets `syn`.
#[inline(always)]
fn read<O: ListenerSink>(tcp: usize, syn: &Syn, reopens: bool, sink: O) -> Socket {
    let listener = ListenSocket::read(tcp);
    if O::WANTED && !reopens {
        let v4 = matches!(syn.addresses, Addresses::V4(_));
        sink.set_listener(listener.flags(), listener.header_rules(v4));
    }
    if O::WANTED && !syn.concerns_fast_open() {
        return Socket::Unknown;
    }
    let exempt = reopens && offset!(checks_reopened) == 0;
    let listener = listener.fast_open(exempt);
    if O::WANTED && listener.issues_cookies() {
        sink.set_key(listener.keys.first());
    }
    Socket::Listener(listener)
}

/// Reads the connection in `TIME_WAIT` that `socket` is.
#[inline(always)]
fn time_wait(socket: *mut c_void) -> Option<TimeWait> {
    // SAFETY: the kernel gave the socket, and it is not null.
    let old = unsafe { bpf_skc_to_tcp_timewait_sock(socket) } as usize;
    if old == 0 {
        return None;
    }
    let net: usize = load(old + offset!(net));
    let timestamps = load::<u8>(net + offset!(sysctl_timestamps)) != 0
        && load::<u32>(old + offset!(ts_recent_stamp)) != 0;
    let ts_recent = load(old + offset!(ts_recent));
    Some(TimeWait {
        half_closed: load::<u8>(old + offset!(tw_substate)) == FIN_WAIT2,
        rcv_nxt: load(old + offset!(rcv_nxt)),
        ts_recent: timestamps.then_some(ts_recent),
    })
}

/// The kernel's `struct tcp_sock`; `None` for any other socket.
#[inline(always)]
pub(crate) fn tcp_sock(socket: *mut c_void) -> Option<usize> {
    // SAFETY: the kernel gave the socket, and it is not null.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) } as usize;
    (tcp != 0).then_some(tcp)
}

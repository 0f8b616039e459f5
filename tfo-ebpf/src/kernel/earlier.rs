//! The socket of an earlier connection that meets an ACK.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_timewait_sock};
use tfo_common::{
    guard::earlier::{Earlier, Sent},
    wire::ack::Ack,
};

use super::{
    offsets::{load, offset},
    socket::tcp_sock,
};

// States of a socket: include/net/tcp_states.h.
const SYN_SENT: u32 = 2;
const TIME_WAIT: u32 = 6;
const NEW_SYN_RECV: u32 = 12;

/// The sequence number of the reset that removes `socket`, in `state`, if `ack` takes its place where it answers a challenge.
#[inline(always)]
pub(super) fn reset_number(socket: *mut c_void, state: u32, ack: &Ack) -> Option<u32> {
    let earlier = match state {
        TIME_WAIT => time_wait(socket)?,
        NEW_SYN_RECV => request(socket)?,
        SYN_SENT => return None,
        _ => connection(socket)?,
    };
    earlier.gives_way_to(ack).then_some(earlier.rcv_nxt)
}

#[inline(always)]
fn time_wait(socket: *mut c_void) -> Option<Earlier> {
    // SAFETY: the kernel gave the socket, and it is not null.
    let old = unsafe { bpf_skc_to_tcp_timewait_sock(socket) } as usize;
    if old == 0 {
        return None;
    }
    let ts_recent = match load::<u32>(old + offset!(ts_recent_stamp)) {
        0 => 0,
        _ => load(old + offset!(ts_recent)),
    };
    Some(Earlier {
        sent: None,
        rcv_nxt: load(old + offset!(rcv_nxt)),
        ts_recent,
    })
}

#[inline(always)]
fn request(socket: *mut c_void) -> Option<Earlier> {
    // SAFETY: as above.
    let request = unsafe { bpf_skc_to_tcp_request_sock(socket) } as usize;
    (request != 0).then(|| Earlier {
        sent: None,
        rcv_nxt: load(request + offset!(rcv_nxt_of_request)),
        ts_recent: load(request + offset!(ts_recent_of_request)),
    })
}

#[inline(always)]
fn connection(socket: *mut c_void) -> Option<Earlier> {
    let tcp = tcp_sock(socket)?;
    Some(Earlier {
        sent: Some(Sent {
            snd_una: load(tcp + offset!(snd_una)),
            snd_nxt: load(tcp + offset!(snd_nxt)),
            bytes_acked: load::<u64>(tcp + offset!(bytes_acked)) as u32,
        }),
        rcv_nxt: load(tcp + offset!(rcv_nxt_of_socket)),
        ts_recent: load(tcp + offset!(ts_recent_of_socket)),
    })
}

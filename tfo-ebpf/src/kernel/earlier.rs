//! The socket of an earlier connection that meets an ACK.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_timewait_sock};
use tfo_common::{guard::earlier::Earlier, wire::ack::Ack};

use super::{
    offsets::{load, offset},
    socket::tcp_sock,
};

// States of a socket: include/net/tcp_states.h.
const SYN_SENT: u32 = 2;
const TIME_WAIT: u32 = 6;
const NEW_SYN_RECV: u32 = 12;

/// The sequence number of the reset that removes `socket`, in `state`, if `ack` takes its place where it answers a challenge.
/// Nobody holds a connection in `TIME_WAIT`, or one that its client has not completed.
#[inline(always)]
pub(super) fn reset_number(socket: *mut c_void, state: u32, ack: &Ack) -> Option<u32> {
    match state {
        TIME_WAIT => {
            // SAFETY: the kernel gave the socket, and it is not null.
            let old = unsafe { bpf_skc_to_tcp_timewait_sock(socket) } as usize;
            (old != 0).then(|| load(old + offset!(rcv_nxt)))
        }
        NEW_SYN_RECV => {
            // SAFETY: as above.
            let request = unsafe { bpf_skc_to_tcp_request_sock(socket) } as usize;
            (request != 0).then(|| load(request + offset!(rcv_nxt_of_request)))
        }
        SYN_SENT => None,
        _ => {
            let tcp = tcp_sock(socket)?;
            let earlier = Earlier {
                snd_una: load(tcp + offset!(snd_una)),
                snd_nxt: load(tcp + offset!(snd_nxt)),
                bytes_acked: load::<u64>(tcp + offset!(bytes_acked)) as u32,
                rcv_nxt: load(tcp + offset!(rcv_nxt_of_socket)),
                ts_recent: load(tcp + offset!(ts_recent_of_socket)),
            };
            earlier.gives_way_to(ack).then_some(earlier.rcv_nxt)
        }
    }
}

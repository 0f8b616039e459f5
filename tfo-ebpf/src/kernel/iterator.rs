//! An iterator over the listening sockets of a network namespace, with their Fast Open state.
//!
//! It runs when the controller reads its file, never on packets. No other interface shows a listener's Fast Open queue
//! and its own keys.

use core::ffi::c_void;

use aya_ebpf::{bindings::seq_file, helpers::bpf_seq_write};
use tfo_common::abi::ListenerRecord;

use super::{
    listener::{ListenSocket, is_mptcp, keys_at, own_keys},
    offsets::{load, offset},
    socket::{LISTEN, tcp_sock},
};

/// The context of an iterator over TCP sockets: `struct bpf_iter__tcp`.
#[repr(C)]
struct Context {
    meta: *const Meta,
    socket: *mut c_void,
    uid: u64,
}

/// The start of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    file: *mut seq_file,
}

const AF_INET: u16 = 2;

/// Called for each TCP socket, and at the end without one. Returns 0: continue.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn tfo_listeners(context: *const Context) -> i32 {
    // SAFETY: the kernel's own context, which is never null.
    let socket = unsafe { (*context).socket };
    if offset!(known) == 0 || socket.is_null() {
        return 0;
    }
    let Some(tcp) = tcp_sock(socket) else {
        return 0;
    };
    if u32::from(load::<u8>(tcp + offset!(state))) == LISTEN {
        // SAFETY: as above.
        let uid = unsafe { (*context).uid } as u32;
        write(context, &record(tcp, uid));
    }
    0
}

#[inline(always)]
fn record(tcp: usize, uid: u32) -> ListenerRecord {
    let listener = ListenSocket::read(tcp).fast_open(false);
    let family = load(tcp + offset!(family));
    let words: [u32; 4] = if family == AF_INET {
        [load(tcp + offset!(ipv4)), 0, 0, 0]
    } else {
        let at = tcp + offset!(ipv6);
        [load(at), load(at + 4), load(at + 8), load(at + 12)]
    };
    ListenerRecord {
        address: words,
        family,
        port: load(tcp + offset!(port)),
        uid,
        fast_open: listener.fast_open,
        max_qlen: listener.max_qlen,
        qlen: listener.qlen,
        keys: keys_at(own_keys(tcp)).keys().len() as u32,
        backlog: load(tcp + offset!(ack_backlog)),
        max_backlog: load(tcp + offset!(max_ack_backlog)),
        device: load(tcp + offset!(bound_device)),
        no_cookie: listener.no_cookie.into(),
        mptcp: is_mptcp(tcp).into(),
    }
}

#[inline(always)]
fn write(context: *const Context, record: &ListenerRecord) {
    // SAFETY: the kernel's own context, which is never null.
    let meta = unsafe { (*context).meta };
    // SAFETY: nor is its meta.
    let file = unsafe { (*meta).file };
    let bytes = core::ptr::from_ref(record).cast();
    // Where the file's buffer is full, the kernel calls again for this socket with a larger one.
    // SAFETY: the record has that many bytes, all of them written.
    let _ = unsafe { bpf_seq_write(file, bytes, size_of::<ListenerRecord>() as u32) };
}

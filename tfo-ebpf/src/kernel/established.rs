//! Connections that the kernel opens, from its own tracepoint of socket states.

use aya_ebpf::{helpers::bpf_probe_read_kernel, programs::RawTracePointContext};
use tfo_common::wire::addresses::Addresses;

use super::{device, offsets::offset};

// States of a socket: include/net/tcp_states.h.
const ESTABLISHED: i32 = 1;
const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
const FIN_WAIT2: i32 = 5;
const CLOSING: i32 = 11;

const AF_INET6: u16 = 10;
/// The second 32-bit word but one of an IPv4-mapped address.
const MAPPED: u32 = 0xffff_0000;

/// A connection that a client of this host has just opened.
pub(crate) struct Established {
    /// The client's address, then the server's.
    pub(crate) addresses: Addresses,
    /// The ports as in the client's segments: those of [`tfo_common::wire::syn::Syn`].
    pub(crate) ports: u32,
    /// The sequence number of its SYN.
    pub(crate) sequence: u32,
}

impl Established {
    /// From the arguments of the tracepoint: a socket, its state before and after. `None` for a change that does not show that a
    /// client completed its handshake, and for a socket of another network namespace.
    ///
    /// A server may close a Fast Open connection before that: the client's ACK then ends `FIN_WAIT1`, as it ends that state of
    /// any other connection, too.
    #[inline(always)]
    pub(crate) fn of(ctx: &RawTracePointContext) -> Option<Self> {
        let (before, after): (i32, i32) = (ctx.arg(1), ctx.arg(2));
        let opened = matches!(
            (before, after),
            (SYN_RECV, ESTABLISHED) | (FIN_WAIT1, FIN_WAIT2 | CLOSING)
        );
        if !opened || offset!(known) == 0 {
            return None;
        }
        let socket: *const u8 = ctx.arg(0);
        let socket = socket as usize;
        let net: usize = read(socket + offset!(net))?;
        if read::<u64>(net + offset!(net_cookie))? != device::namespace() {
            return None;
        }
        let server: u16 = read(socket + offset!(port))?;
        let client: u16 = read(socket + offset!(remote_port))?;
        let expected: u32 = read(socket + offset!(rcv_nxt_of_socket))?;
        let received: u64 = read(socket + offset!(bytes_received))?;
        // The client's FIN counts, too.
        let flags = 1 + u32::from(after == CLOSING);
        Some(Self {
            addresses: addresses(socket)?,
            ports: u32::from(server.swap_bytes()) << 16 | u32::from(client),
            sequence: expected.wrapping_sub(received as u32).wrapping_sub(flags),
        })
    }

    /// The server's port.
    #[inline(always)]
    pub(crate) const fn port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }
}

#[inline(always)]
fn addresses(socket: usize) -> Option<Addresses> {
    let family: u16 = read(socket + offset!(family))?;
    if family == AF_INET6 {
        let client: [u64; 2] = read(socket + offset!(remote_ipv6))?;
        if client[0] != 0 || client[1] as u32 != MAPPED {
            let server: [u64; 2] = read(socket + offset!(ipv6))?;
            return Some(Addresses::V6([client[0], client[1], server[0], server[1]]));
        }
    }
    let client: u32 = read(socket + offset!(remote_ipv4))?;
    let server: u32 = read(socket + offset!(ipv4))?;
    Some(Addresses::V4(
        u64::from(client) | u64::from(server) << u32::BITS,
    ))
}

/// Reads a field of a kernel structure whose type the verifier does not know.
#[inline(always)]
fn read<T>(address: usize) -> Option<T> {
    // SAFETY: it reads kernel memory and survives an address that is none; any bytes are a number.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

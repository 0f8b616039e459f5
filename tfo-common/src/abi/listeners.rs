//! The records of the iterator over listening sockets.

/// A listening socket, as the iterator over `iter/tcp` writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListenerRecord {
    /// Local address as on the wire, in little-endian words: the first of `AF_INET`, all four of `AF_INET6`.
    pub address: [u32; 4],
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Local port.
    pub port: u16,
    /// Owner.
    pub uid: u32,
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: u32,
    /// Length of the Fast Open queue; 0 for no Fast Open.
    pub max_qlen: u32,
    /// Fast Open connections that are pending.
    pub qlen: u32,
    /// Number of keys of its own.
    pub keys: u32,
    /// Connections that wait for accept(2).
    pub backlog: u32,
    /// Length of the accept queue: listen(2)'s argument.
    pub max_backlog: u32,
    /// Index of the device to which it is bound; 0 for none.
    pub device: u32,
    /// 1 if it takes data without a cookie.
    pub no_cookie: u16,
    /// 1 if it is the TCP socket of an MPTCP listener.
    pub mptcp: u16,
}

//! The program's constant with the kernel's field offsets.

/// Offsets of kernel fields, in bytes from the start of the structure named; the controller takes them from the running
/// kernel's BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SocketOffsets {
    /// 1 where all of these are known, else 0: sockets are not looked up then.
    pub known: u32,
    /// `sock.sk_ack_backlog`, u32.
    pub ack_backlog: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub max_ack_backlog: u32,
    /// `sock.__sk_common.skc_net.net`, pointer.
    pub net: u32,
    /// `net.ipv4.sysctl_tcp_fastopen`, int.
    pub sysctl_fastopen: u32,
    /// `net.ipv4.sysctl_tcp_syncookies`, u8.
    pub sysctl_syncookies: u32,
    /// `inet_connection_sock.icsk_accept_queue.qlen`, int.
    pub syn_queue_len: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.rskq_rst_head`, pointer.
    pub rst_head: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.qlen`, int.
    pub fastopen_qlen: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.max_qlen`, int.
    pub fastopen_max_qlen: u32,
    /// `inet_connection_sock.icsk_accept_queue.fastopenq.ctx`, pointer.
    pub keys: u32,
    /// `net.ipv4.tcp_fastopen_ctx`, pointer.
    pub host_keys: u32,
    /// `tcp_fastopen_context.key`, two of 16 bytes.
    pub context_key: u32,
    /// `tcp_fastopen_context.num`, int.
    pub context_num: u32,
    /// 1 where the verifier refuses to load a key from there (before Linux 6.12): a helper copies it.
    pub copies_keys: u32,
    /// `request_sock.rsk_timer.expires`, unsigned long.
    pub expires: u32,
    /// The byte with `tcp_sock.fastopen_no_cookie`.
    pub no_cookie: u32,
    /// Mask of that bit in its byte.
    pub no_cookie_mask: u32,
    /// `tcp_sock.md5sig_info`, pointer; 0 where this kernel knows no TCP-MD5.
    pub md5_keys: u32,
    /// `tcp_sock.ao_info`, pointer; 0 where this kernel knows no TCP-AO.
    pub ao_keys: u32,
    /// The kernel drops a SYN whose options have a fault with so many bytes left, or more; 0 where it ignores faults
    /// (before Linux 6.7).
    pub fault_from: u32,
    /// `net.ipv4.sysctl_tcp_timestamps`, u8.
    pub sysctl_timestamps: u32,
    /// `net.ipv4.sysctl_tcp_sack`, u8.
    pub sysctl_sack: u32,
    /// `net.ipv4.sysctl_tcp_window_scaling`, u8.
    pub sysctl_window_scaling: u32,
    /// `net.ipv4.sysctl_tcp_ecn`, u8.
    pub sysctl_ecn: u32,
    /// `sock.sk_rcvbuf`, int.
    pub receive_buffer: u32,
    /// `tcp_sock.is_mptcp`, bool; 0 where this kernel knows no MPTCP.
    pub mptcp: u32,
    /// `inet_timewait_sock.tw_substate`, u8.
    pub tw_substate: u32,
    /// `inet_timewait_sock.__tw_common.skc_tw_rcv_nxt`, u32.
    pub rcv_nxt: u32,
    /// `tcp_timewait_sock.tw_ts_recent`, u32.
    pub ts_recent: u32,
    /// `tcp_timewait_sock.tw_ts_recent_stamp`, int: 0 without timestamps.
    pub ts_recent_stamp: u32,
    /// 1 where a SYN that reopens a connection in `TIME_WAIT` passes the flood checks like any other (before Linux 6.10, by
    /// mistake).
    pub checks_reopened: u32,
    /// `sock.sk_userlocks`, u8.
    pub user_locks: u32,
    /// `sock.sk_reuseport_cb`, pointer.
    pub reuseport: u32,
    /// `tcp_sock.rx_opt.ts_recent_stamp`, int: of a listener, the time of the last overflow in ticks.
    pub overflow_stamp: u32,
    /// Ticks of the kernel's clock in a second: `CONFIG_HZ`.
    pub ticks: u32,
    /// `tcp_sock.rx_opt.user_mss`, u16.
    pub user_mss: u32,
    /// `inet_sock.uc_ttl`, s16: -1 for the host's.
    pub ttl: u32,
    /// `inet_sock.tos`, u8.
    pub tos: u32,
    /// `inet_sock.pinet6`, pointer.
    pub ipv6_info: u32,
    /// `ipv6_pinfo.hop_limit`, s16: -1 for the host's.
    pub hop_limit: u32,
    /// `ipv6_pinfo.tclass`, u8.
    pub traffic_class: u32,
    /// `net.ipv4.sysctl_ip_default_ttl`, u8.
    pub sysctl_default_ttl: u32,
    /// `net.ipv4.sysctl_tcp_reflect_tos`, u8.
    pub sysctl_reflect_tos: u32,
    /// `sock.__sk_common.skc_state`, u8.
    pub state: u32,
    /// `sock.__sk_common.skc_family`, u16.
    pub family: u32,
    /// `sock.__sk_common.skc_num`, u16: the local port, in the host's order.
    pub port: u32,
    /// `sock.__sk_common.skc_bound_dev_if`, int: 0 for none.
    pub bound_device: u32,
    /// `sock.__sk_common.skc_rcv_saddr`, 4 bytes: the local address.
    pub ipv4: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`, 16 bytes: the local address.
    pub ipv6: u32,
    /// `sock.__sk_common.skc_dport`, 2 bytes: the remote port, as on the wire.
    pub remote_port: u32,
    /// `sock.__sk_common.skc_daddr`, 4 bytes: the remote address.
    pub remote_ipv4: u32,
    /// `sock.__sk_common.skc_v6_daddr`, 16 bytes: the remote address.
    pub remote_ipv6: u32,
    /// `tcp_sock.rcv_nxt`, u32.
    pub rcv_nxt_of_socket: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub bytes_received: u32,
    /// `tcp_sock.snd_una`, u32.
    pub snd_una: u32,
    /// `tcp_sock.snd_nxt`, u32.
    pub snd_nxt: u32,
    /// `tcp_sock.bytes_acked`, u64.
    pub bytes_acked: u32,
    /// `tcp_sock.rx_opt.ts_recent`, u32.
    pub ts_recent_of_socket: u32,
    /// `tcp_request_sock.rcv_nxt`, u32.
    pub rcv_nxt_of_request: u32,
    /// `request_sock.ts_recent`, u32.
    pub ts_recent_of_request: u32,
    /// `net.net_cookie`, u64.
    pub net_cookie: u32,
}

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are offsets.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SocketOffsets {}

impl SocketOffsets {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        known: 0,
        ack_backlog: 0,
        max_ack_backlog: 0,
        net: 0,
        sysctl_fastopen: 0,
        sysctl_syncookies: 0,
        syn_queue_len: 0,
        rst_head: 0,
        fastopen_qlen: 0,
        fastopen_max_qlen: 0,
        keys: 0,
        host_keys: 0,
        context_key: 0,
        context_num: 0,
        copies_keys: 0,
        expires: 0,
        no_cookie: 0,
        no_cookie_mask: 0,
        md5_keys: 0,
        ao_keys: 0,
        fault_from: 0,
        sysctl_timestamps: 0,
        sysctl_sack: 0,
        sysctl_window_scaling: 0,
        sysctl_ecn: 0,
        receive_buffer: 0,
        mptcp: 0,
        tw_substate: 0,
        rcv_nxt: 0,
        ts_recent: 0,
        ts_recent_stamp: 0,
        checks_reopened: 0,
        user_locks: 0,
        reuseport: 0,
        overflow_stamp: 0,
        ticks: 0,
        user_mss: 0,
        ttl: 0,
        tos: 0,
        ipv6_info: 0,
        hop_limit: 0,
        traffic_class: 0,
        sysctl_default_ttl: 0,
        sysctl_reflect_tos: 0,
        state: 0,
        family: 0,
        port: 0,
        bound_device: 0,
        ipv4: 0,
        ipv6: 0,
        remote_port: 0,
        remote_ipv4: 0,
        remote_ipv6: 0,
        rcv_nxt_of_socket: 0,
        bytes_received: 0,
        snd_una: 0,
        snd_nxt: 0,
        bytes_acked: 0,
        ts_recent_of_socket: 0,
        rcv_nxt_of_request: 0,
        ts_recent_of_request: 0,
        net_cookie: 0,
    };
}

//! Offsets of the running kernel's structure fields and numbers of its kfuncs, from its BTF (`/sys/kernel/btf/vmlinux`).

use std::{collections::HashMap, sync::Arc};

use aya::util::KernelVersion;
use btf::{Btf, FlattenedType, StructMember, Type};
use tfo_common::abi::{ASSIGN_KFUNC, CAST_KFUNC, DeviceOffsets, SocketOffsets};

use super::{clock, once::Once, support::BTF};

/// The kernel's parser of TCP-MD5 and TCP-AO options, and the fewest option bytes that it looks at: the length of
/// the shortest option it knows.
const SIGNATURE_PARSER: &str = "tcp_do_parse_auth_options";
const MD5_SIZE: u32 = 18;
const AUTHENTICATION_MIN: u32 = 5;

/// A field's offset is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TypesError {
    /// The BTF is not readable.
    #[error("cannot read the kernel's types from {BTF}: {0}")]
    Read(#[source] Arc<btf::Error>),
    /// The kernel has no such field.
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// The kernel's BTF.
pub struct KernelTypes {
    types: Btf,
    /// IDs of structures and unions by name. Each field would else search the list of all types.
    structures: HashMap<String, u32>,
}

/// The offsets that the data path needs from the kernel's types.
#[derive(Debug)]
pub struct Offsets {
    /// Those that lead to listeners and their settings.
    pub sockets: SocketOffsets,
    /// Those that lead from a program's context to its device, for no namespace yet.
    pub devices: Result<DeviceOffsets, TypesError>,
}

/// All that the data path needs of the kernel's types.
struct Facts {
    offsets: Result<Offsets, TypesError>,
    /// BTF IDs by name.
    kfuncs: [(&'static str, Option<u32>); 2],
}

/// Parses BTF once in a process: each interface and each namespace needs the same.
fn facts() -> Result<&'static Facts, TypesError> {
    static FACTS: Once<Facts> = Once::new();
    FACTS.get(|| {
        let types = KernelTypes::read()?;
        Ok(Facts {
            offsets: types.socket_offsets().map(|sockets| Offsets {
                sockets,
                devices: types.device_offsets(),
            }),
            kfuncs: [ASSIGN_KFUNC, CAST_KFUNC].map(|name| (name, types.function(name))),
        })
    })
}

/// Parses BTF, if that was not done. Where it fails, who needs it tries again, and is told.
pub(crate) fn find() {
    let _ = facts();
}

/// The running kernel's offsets.
///
/// # Errors
///
/// [`TypesError`] of [`KernelTypes::read`] and [`KernelTypes::socket_offsets`].
pub fn offsets() -> Result<&'static Offsets, TypesError> {
    facts()?.offsets.as_ref().map_err(TypesError::clone)
}

/// The BTF ID of one of the data path's kfuncs; `None` where the kernel lacks it.
///
/// # Errors
///
/// [`TypesError`] of [`KernelTypes::read`].
pub(crate) fn kfunc(name: &str) -> Result<Option<u32>, TypesError> {
    let kfuncs = &facts()?.kfuncs;
    let found = kfuncs.iter().find(|(known, _)| *known == name);
    Ok(found.and_then(|(_, id)| *id))
}

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    /// Offset in bits.
    bits: u32,
    /// BTF id of the type.
    type_id: u32,
}

impl KernelTypes {
    /// Parses the BTF, which takes some tenths of a second.
    ///
    /// # Errors
    ///
    /// [`TypesError::Read`].
    pub fn read() -> Result<Self, TypesError> {
        let types = Btf::from_file(BTF).map_err(|error| TypesError::Read(Arc::new(error)))?;
        let mut structures = HashMap::new();
        for each in types.get_types() {
            if let Some(name) = &each.name
                && members(each).is_some()
            {
                structures.entry(name.clone()).or_insert(each.type_id);
            }
        }
        Ok(Self { types, structures })
    }

    /// Offsets of the fields that decide on Fast Open and on the guard's SYN-ACKs.
    ///
    /// # Errors
    ///
    /// [`TypesError::Missing`] with the first field that this kernel lacks.
    pub fn socket_offsets(&self) -> Result<SocketOffsets, TypesError> {
        let no_cookie = self.field("tcp_sock", "fastopen_no_cookie")?;
        let accept = |path: &str| {
            let path = format!("icsk_accept_queue.{path}");
            self.byte("inet_connection_sock", &path)
        };
        // Absent without CONFIG_TCP_MD5SIG and CONFIG_TCP_AO.
        let md5_keys = self.byte("tcp_sock", "md5sig_info").ok();
        let ao_keys = self.byte("tcp_sock", "ao_info").ok();
        let fault_from = match (self.has(SIGNATURE_PARSER), ao_keys) {
            (false, _) => 0,
            (true, None) => MD5_SIZE,
            (true, Some(_)) => AUTHENTICATION_MIN,
        };
        Ok(SocketOffsets {
            known: 1,
            ack_backlog: self.byte("sock", "sk_ack_backlog")?,
            max_ack_backlog: self.byte("sock", "sk_max_ack_backlog")?,
            net: self.byte("sock", "__sk_common.skc_net.net")?,
            sysctl_fastopen: self.byte("net", "ipv4.sysctl_tcp_fastopen")?,
            sysctl_syncookies: self.byte("net", "ipv4.sysctl_tcp_syncookies")?,
            syn_queue_len: accept("qlen")?,
            rst_head: accept("fastopenq.rskq_rst_head")?,
            fastopen_qlen: accept("fastopenq.qlen")?,
            fastopen_max_qlen: accept("fastopenq.max_qlen")?,
            keys: accept("fastopenq.ctx")?,
            host_keys: self.byte("net", "ipv4.tcp_fastopen_ctx")?,
            context_key: self.byte("tcp_fastopen_context", "key")?,
            context_num: self.byte("tcp_fastopen_context", "num")?,
            copies_keys: is_before(6, 12).into(),
            expires: self.byte("request_sock", "rsk_timer.expires")?,
            no_cookie: no_cookie.bits / 8,
            no_cookie_mask: 1 << (no_cookie.bits % 8),
            md5_keys: md5_keys.unwrap_or(0),
            ao_keys: ao_keys.unwrap_or(0),
            fault_from,
            sysctl_timestamps: self.byte("net", "ipv4.sysctl_tcp_timestamps")?,
            sysctl_sack: self.byte("net", "ipv4.sysctl_tcp_sack")?,
            sysctl_window_scaling: self.byte("net", "ipv4.sysctl_tcp_window_scaling")?,
            sysctl_ecn: self.byte("net", "ipv4.sysctl_tcp_ecn")?,
            receive_buffer: self.byte("sock", "sk_rcvbuf")?,
            mptcp: self.byte("tcp_sock", "is_mptcp").unwrap_or(0),
            tw_substate: self.byte("inet_timewait_sock", "tw_substate")?,
            rcv_nxt: self.byte("inet_timewait_sock", "__tw_common.skc_tw_rcv_nxt")?,
            ts_recent: self.byte("tcp_timewait_sock", "tw_ts_recent")?,
            ts_recent_stamp: self.byte("tcp_timewait_sock", "tw_ts_recent_stamp")?,
            // No field tells them apart: the one that exempts a socket is present in both.
            checks_reopened: is_before(6, 10).into(),
            user_locks: self.byte("sock", "sk_userlocks")?,
            reuseport: self.byte("sock", "sk_reuseport_cb")?,
            overflow_stamp: self.byte("tcp_sock", "rx_opt.ts_recent_stamp")?,
            ticks: clock::ticks(),
            user_mss: self.byte("tcp_sock", "rx_opt.user_mss")?,
            ttl: self.byte("inet_sock", "uc_ttl")?,
            tos: self.byte("inet_sock", "tos")?,
            ipv6_info: self.byte("inet_sock", "pinet6")?,
            hop_limit: self.byte("ipv6_pinfo", "hop_limit")?,
            traffic_class: self.byte("ipv6_pinfo", "tclass")?,
            sysctl_default_ttl: self.byte("net", "ipv4.sysctl_ip_default_ttl")?,
            sysctl_reflect_tos: self.byte("net", "ipv4.sysctl_tcp_reflect_tos")?,
            state: self.byte("sock_common", "skc_state")?,
            family: self.byte("sock_common", "skc_family")?,
            port: self.byte("sock_common", "skc_num")?,
            bound_device: self.byte("sock_common", "skc_bound_dev_if")?,
            ipv4: self.byte("sock_common", "skc_rcv_saddr")?,
            ipv6: self.byte("sock_common", "skc_v6_rcv_saddr")?,
            remote_port: self.byte("sock_common", "skc_dport")?,
            remote_ipv4: self.byte("sock_common", "skc_daddr")?,
            remote_ipv6: self.byte("sock_common", "skc_v6_daddr")?,
            rcv_nxt_of_socket: self.byte("tcp_sock", "rcv_nxt")?,
            bytes_received: self.byte("tcp_sock", "bytes_received")?,
            snd_una: self.byte("tcp_sock", "snd_una")?,
            snd_nxt: self.byte("tcp_sock", "snd_nxt")?,
            bytes_acked: self.byte("tcp_sock", "bytes_acked")?,
            ts_recent_of_socket: self.byte("tcp_sock", "rx_opt.ts_recent")?,
            rcv_nxt_of_request: self.byte("tcp_request_sock", "rcv_nxt")?,
            ts_recent_of_request: self.byte("request_sock", "ts_recent")?,
            net_cookie: self.byte("net", "net_cookie")?,
        })
    }

    /// Offsets that lead from a program's context to its device, for no namespace yet.
    ///
    /// # Errors
    ///
    /// [`TypesError::Missing`] with the first field that this kernel lacks.
    pub fn device_offsets(&self) -> Result<DeviceOffsets, TypesError> {
        Ok(DeviceOffsets {
            namespace: 0,
            known: 1,
            rxq: self.byte("xdp_buff", "rxq")?,
            rxq_device: self.byte("xdp_rxq_info", "dev")?,
            skb_device: self.byte("sk_buff", "dev")?,
            mac: self.byte("net_device", "dev_addr_shadow")?,
            flags: self.byte("net_device", "flags")?,
            net: self.byte("net_device", "nd_net.net")?,
            net_cookie: self.byte("net", "net_cookie")?,
            ipv6: self.byte("net_device", "ip6_ptr")?,
            hop_limit: self.byte("inet6_dev", "cnf.hop_limit")?,
        })
    }

    /// The kernel has a structure or a function of this name.
    pub fn has(&self, name: &str) -> bool {
        self.structures.contains_key(name) || self.function(name).is_some()
    }

    /// The BTF ID of a function.
    fn function(&self, name: &str) -> Option<u32> {
        let named = |each: &&FlattenedType| each.is_function && each.name.as_deref() == Some(name);
        let found = self.types.get_types().iter().find(named);
        found.map(|each| each.type_id)
    }

    /// A field's offset in bytes.
    fn byte(&self, structure: &str, path: &str) -> Result<u32, TypesError> {
        Ok(self.field(structure, path)?.bits / 8)
    }

    /// A field by its path, such as `icsk_accept_queue.qlen`. Anonymous structures and unions are transparent, as
    /// in C.
    fn field(&self, structure: &str, path: &str) -> Result<Field, TypesError> {
        let missing = || TypesError::Missing(format!("struct {structure}, field {path}"));
        let type_id = *self.structures.get(structure).ok_or_else(missing)?;
        let mut field = Field { bits: 0, type_id };
        for name in path.split('.') {
            let inner = self.member(field.type_id, name).ok_or_else(missing)?;
            field = Field {
                bits: field.bits + inner.bits,
                type_id: inner.type_id,
            };
        }
        Ok(field)
    }

    fn member(&self, type_id: u32, name: &str) -> Option<Field> {
        let members = members(self.types.get_type_by_id(type_id).ok()?)?;
        members.iter().find_map(|member| match &member.name {
            Some(own) if !own.is_empty() => (own == name).then_some(Field {
                bits: member.offset,
                type_id: member.type_id,
            }),
            _ => {
                let inner = self.member(member.type_id, name)?;
                Some(Field {
                    bits: member.offset + inner.bits,
                    type_id: inner.type_id,
                })
            }
        })
    }
}

/// The running kernel is older than this; `true` where its version is unknown.
fn is_before(major: u8, minor: u8) -> bool {
    KernelVersion::current().map_or(true, |running| {
        running < KernelVersion::new(major, minor, 0)
    })
}

fn members(of: &FlattenedType) -> Option<&[StructMember]> {
    match &of.base_type {
        Type::Struct(body) | Type::Union(body) if of.num_refs == 0 => Some(&body.members),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets that do not depend on the kernel's configuration.
    #[test]
    fn finds_fields_by_name() {
        let types = KernelTypes::read().unwrap();
        let byte = |structure, path| types.byte(structure, path).unwrap();
        assert_eq!(byte("iphdr", "protocol"), 9);
        assert_eq!(byte("ipv6hdr", "nexthdr"), 6);
        // Through an unnamed structure in an unnamed union.
        assert_eq!(byte("iphdr", "daddr"), 16);
        assert_eq!(byte("tcphdr", "check"), 16);
        assert_eq!(types.field("tcphdr", "syn").unwrap().bits % 8, 1);
        let error = types.byte("tcp_sock", "no_such_field").unwrap_err();
        assert!(error.to_string().contains("no_such_field"), "{error}");
        types.socket_offsets().unwrap();
        assert!(types.has("tcp_sock") && types.has("tcp_v4_rcv"));
        assert!(!types.has("no_such_thing"));
    }
}

//! The base chains of nftables: nfnetlink's `NFT_MSG_GETCHAIN`.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`.
const NFTABLES: u16 = 10;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const GET_CHAIN: u16 = NFTABLES << 8 | 4;
const CHAIN_HOOK: u16 = 4;
/// `linux/netlink.h`.
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;
/// `struct nfgenmsg`.
const GENERIC: usize = 4;

/// There are base chains in the calling thread's namespace; none where this kernel has no nftables.
///
/// # Errors
///
/// The kernel's error: `EPERM` without `CAP_NET_ADMIN`.
pub(super) fn any() -> io::Result<bool> {
    let Ok(mut socket) = Socket::new(NETLINK_NETFILTER) else {
        return Ok(false);
    };
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::new();
    request.extend(((HEADER + GENERIC) as u32).to_ne_bytes());
    request.extend(GET_CHAIN.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence number and port id; then every family, version 0, no resource.
    request.extend([0; 8 + GENERIC]);
    socket.send(&request, 0)?;
    let mut count = 0;
    loop {
        let (reply, _) = socket.recv_from_full()?;
        match count_in(&reply, &mut count) {
            // Without nftables nobody answers for it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(false),
            Err(error) => return Err(error),
            Ok(true) => return Ok(count > 0),
            Ok(false) => {}
        }
    }
}

/// Counts the base chains in a part of the dump. `true` where it is the last one.
fn count_in(mut reply: &[u8], count: &mut usize) -> io::Result<bool> {
    while let Some((head, _)) = reply.split_first_chunk::<HEADER>() {
        let len = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = reply.get(HEADER..len).ok_or(io::ErrorKind::InvalidData)?;
        match u16::from_ne_bytes([head[4], head[5]]) {
            ERROR => {
                let (errno, _) = body.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
                return match i32::from_ne_bytes(*errno) {
                    0 => Ok(true),
                    errno => Err(io::Error::from_raw_os_error(-errno)),
                };
            }
            DONE => return Ok(true),
            NEW_CHAIN if has_hook(body.get(GENERIC..).unwrap_or_default()) => *count += 1,
            _ => {}
        }
        reply = reply.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn has_hook(mut attributes: &[u8]) -> bool {
    while let Some((head, _)) = attributes.split_first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) & !NESTED == CHAIN_HOOK {
            return true;
        }
        attributes = attributes
            .get(len.max(4).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message
    }

    #[test]
    fn base_chains_are_those_with_a_hook() {
        let chain = |attribute: u16| {
            let mut body = vec![0; GENERIC];
            body.extend(4_u16.to_ne_bytes());
            body.extend(attribute.to_ne_bytes());
            message(NEW_CHAIN, &body)
        };
        let mut count = 0;
        let dump = [chain(CHAIN_HOOK | NESTED), chain(3), chain(CHAIN_HOOK)].concat();
        assert!(!count_in(&dump, &mut count).unwrap());
        assert!(count_in(&message(DONE, &[0; 4]), &mut count).unwrap());
        assert_eq!(count, 2);
        let refused = message(ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = count_in(&refused, &mut count).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}

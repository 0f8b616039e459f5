//! A connection that has the addresses and ports of the ACK that answers a challenge: an edge does not see it, so the host
//! decides what becomes of it. The kernel, asked by a SYN, would have the client reset it, or reopen it (RFC 9293 section
//! 3.10.7.4, RFC 6191).

use crate::wire::{ack::Ack, tcp::after};

/// TCP's numbers of such a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// `snd_una`: the first number that the client has not acknowledged.
    pub snd_una: u32,
    /// `snd_nxt`: the next number to send.
    pub snd_nxt: u32,
    /// The low bits of `bytes_acked`.
    pub bytes_acked: u32,
    /// `rcv_nxt`: the next number that is expected from the client.
    pub rcv_nxt: u32,
    /// `rx_opt.ts_recent`: the client's last `TSval`; 0 without timestamps.
    pub ts_recent: u32,
}

/// An acknowledgement number so close behind the next number to send is taken for the connection's own, and costs no MAC.
const NEAR: u32 = 1 << 24;

impl Earlier {
    /// `true` if `ack`, provided that it answers a challenge, opens another connection than this one, and a later one: by its
    /// timestamps, or by its sequence number.
    #[inline(always)]
    pub const fn gives_way_to(&self, ack: &Ack) -> bool {
        if self.snd_nxt.wrapping_sub(ack.acknowledged) < NEAR {
            return false;
        }
        // What opened this connection, and arrives once more.
        if ack.acknowledged == self.snd_una.wrapping_sub(self.bytes_acked) {
            return false;
        }
        let later = match ack.timestamps {
            Some(timestamps) if self.ts_recent != 0 => after(timestamps.tsval, self.ts_recent),
            _ => false,
        };
        later || after(ack.sequence, self.rcv_nxt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{addresses::Addresses, options::negotiated::Timestamps};

    const EARLIER: Earlier = Earlier {
        snd_una: 0x4000_1000,
        snd_nxt: 0x4000_1100,
        bytes_acked: 0x1000,
        rcv_nxt: 0x8000_0000,
        ts_recent: 700,
    };

    fn ack(acknowledged: u32, sequence: u32, tsval: Option<u32>) -> Ack {
        Ack {
            addresses: Addresses::v4([10, 0, 0, 2], [10, 0, 0, 1]),
            ports: 7,
            sequence,
            acknowledged,
            timestamps: tsval.map(|tsval| Timestamps { tsval, tsecr: 0 }),
            tcp: 0,
            len: 0,
        }
    }

    #[test]
    fn only_a_later_connection_takes_the_place_of_an_earlier_one() {
        let (next, other) = (EARLIER.rcv_nxt + 1000, 0xc000_0000);
        for (acknowledged, sequence, tsval, expected) in [
            // Its own segments, at the window's ends and far behind.
            (EARLIER.snd_nxt, EARLIER.rcv_nxt, Some(701), false),
            (EARLIER.snd_una, EARLIER.rcv_nxt, Some(701), false),
            (0x4000_0000, 0x7fff_f000, Some(1), false),
            (other, next, Some(701), true),
            (other, next, None, true),
            // Its clock went on, and its sequence numbers began anew.
            (other, EARLIER.rcv_nxt - 1, Some(701), true),
            // It was restarted, clock and all; or its ACK comes late.
            (other, next, Some(1), true),
            (other, EARLIER.rcv_nxt - 1, Some(1), false),
            (other, EARLIER.rcv_nxt - 1, None, false),
        ] {
            let found = EARLIER.gives_way_to(&ack(acknowledged, sequence, tsval));
            assert_eq!(found, expected, "{acknowledged:x} {sequence:x} {tsval:?}");
        }
        let without = Earlier {
            ts_recent: 0,
            ..EARLIER
        };
        assert!(!without.gives_way_to(&ack(other, EARLIER.rcv_nxt - 1, Some(701))));
    }

    /// The ACK that opened a connection which has sent gigabytes since.
    #[test]
    fn no_connection_gives_way_to_what_opened_it() {
        let long = Earlier {
            snd_una: EARLIER.snd_una.wrapping_add(3 << 30),
            snd_nxt: EARLIER.snd_nxt.wrapping_add(3 << 30),
            bytes_acked: EARLIER.bytes_acked.wrapping_add(3 << 30),
            ..EARLIER
        };
        let next = EARLIER.rcv_nxt + 1000;
        assert!(!long.gives_way_to(&ack(0x4000_0000, next, Some(701))));
        assert!(long.gives_way_to(&ack(0x4000_0001, next, Some(701))));
    }
}

//! A connection that has the addresses and ports of the ACK that answers a challenge: an edge does not see it, so the host
//! decides what becomes of it. The kernel, asked by a SYN, would have the client reset it, or reopen it (RFC 9293 section
//! 3.10.7.4, RFC 6191).

use crate::wire::{ack::Ack, tcp::after};

/// Such a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The numbers of what it sends; `None` in `TIME_WAIT`, and while it is a request.
    pub sent: Option<Sent>,
    /// `rcv_nxt`: the next number that is expected from the client.
    pub rcv_nxt: u32,
    /// `ts_recent`: the client's last `TSval`; 0 without timestamps.
    pub ts_recent: u32,
}

/// The numbers of what a connection sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// `snd_una`: the first number that the client has not acknowledged.
    pub snd_una: u32,
    /// `snd_nxt`: the next number to send.
    pub snd_nxt: u32,
    /// The low bits of `bytes_acked`.
    pub bytes_acked: u32,
}

/// Numbers so close to those of a connection are taken for its own, and cost no MAC.
const NEAR: u32 = 1 << 24;

impl Earlier {
    /// `true` if `ack`, provided that it answers a challenge, opens another connection than this one, and a later one, as the kernel
    /// has it of a SYN that meets `TIME_WAIT` (`tcp_timewait_state_process`, RFC 6191): what arrives twice or late of a
    /// handshake removes nothing. An ACK without timestamps, which is easier to guess, removes no connection that has them.
    #[inline(always)]
    pub const fn gives_way_to(&self, ack: &Ack) -> bool {
        if let Some(sent) = self.sent
            && self.is_own(&sent, ack)
        {
            return false;
        }
        let ahead = after(ack.sequence, self.rcv_nxt);
        match ack.timestamps {
            Some(timestamps) if self.ts_recent != 0 => {
                let newer = after(timestamps.tsval, self.ts_recent);
                newer || ahead && timestamps.tsval == self.ts_recent
            }
            _ => ahead && self.ts_recent == 0,
        }
    }

    #[inline(always)]
    const fn is_own(&self, sent: &Sent, ack: &Ack) -> bool {
        let near = sent.snd_nxt.wrapping_sub(ack.acknowledged) < NEAR
            && ack.sequence.wrapping_sub(self.rcv_nxt).wrapping_add(NEAR) < 2 * NEAR;
        // What opened this connection, and arrives once more.
        near || ack.acknowledged == sent.snd_una.wrapping_sub(sent.bytes_acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{addresses::Addresses, options::negotiated::Timestamps};

    const SENT: Sent = Sent {
        snd_una: 0x4000_1000,
        snd_nxt: 0x4000_1100,
        bytes_acked: 0x1000,
    };
    const EARLIER: Earlier = Earlier {
        sent: Some(SENT),
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
            (SENT.snd_nxt, EARLIER.rcv_nxt, Some(701), false),
            (SENT.snd_una, EARLIER.rcv_nxt, Some(701), false),
            (0x4000_0000, 0x7fff_f000, Some(1), false),
            (other, next, Some(701), true),
            // Its clock went on, and its sequence numbers began anew.
            (other, EARLIER.rcv_nxt - 1, Some(701), true),
            (SENT.snd_nxt, EARLIER.rcv_nxt + 2 * NEAR, Some(701), true),
            // In the same tick of its clock.
            (other, next, Some(700), true),
            (other, EARLIER.rcv_nxt - 1, Some(700), false),
            // Its ACK comes late; or it was restarted, clock and all.
            (other, next, Some(1), false),
            (other, EARLIER.rcv_nxt - 1, Some(1), false),
            // A guess.
            (other, next, None, false),
        ] {
            let found = EARLIER.gives_way_to(&ack(acknowledged, sequence, tsval));
            assert_eq!(found, expected, "{acknowledged:x} {sequence:x} {tsval:?}");
        }
        let without = Earlier {
            ts_recent: 0,
            ..EARLIER
        };
        for tsval in [None, Some(701)] {
            assert!(without.gives_way_to(&ack(other, next, tsval)));
            assert!(!without.gives_way_to(&ack(other, EARLIER.rcv_nxt - 1, tsval)));
        }
    }

    /// The request of a client, sent again after the host closed the connection first.
    #[test]
    fn time_wait_outlives_what_is_sent_again() {
        let time_wait = Earlier {
            sent: None,
            ..EARLIER
        };
        let again = time_wait.rcv_nxt - 100;
        for (sequence, tsval, expected) in [
            (again, 700, false),
            (again, 699, false),
            (time_wait.rcv_nxt, 700, false),
            (time_wait.rcv_nxt + 1000, 701, true),
            (again, 701, true),
        ] {
            let found = time_wait.gives_way_to(&ack(0xc000_0000, sequence, Some(tsval)));
            assert_eq!(found, expected, "{sequence:x} {tsval}");
        }
    }

    /// The ACK that opened a connection which has sent gigabytes since.
    #[test]
    fn no_connection_gives_way_to_what_opened_it() {
        let more = 3 << 30;
        let long = Earlier {
            sent: Some(Sent {
                snd_una: SENT.snd_una.wrapping_add(more),
                snd_nxt: SENT.snd_nxt.wrapping_add(more),
                bytes_acked: SENT.bytes_acked.wrapping_add(more),
            }),
            ..EARLIER
        };
        let next = EARLIER.rcv_nxt + 1000;
        assert!(!long.gives_way_to(&ack(0x4000_0000, next, Some(701))));
        assert!(long.gives_way_to(&ack(0x4000_0001, next, Some(701))));
    }
}

//! The part of a probe that takes raw SYNs: what kernel sockets do not show.
//!
//! A SYN-ACK reaches the kernel, too, which knows of no connection and resets it: the server keeps nothing. SYNs with a cookie
//! and data are sent only where kernel sockets failed, since a connection that is reset may hold a place in the server's Fast
//! Open queue for a minute.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tfo_common::fastopen::Cookie;

use super::{
    path::{Hop, Path},
    segment::{Answer, ProbeOption, ProbeSyn, answer, quoted_header},
};
use crate::kernel::{client_socket::ReservedPort, raw_socket::RawSocket};

/// SYNs without an answer until the probe takes it for silence, and the wait for each.
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause before each SYN.
const PAUSE: Duration = Duration::from_millis(20);

/// What came back for a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Heard {
    /// A SYN-ACK.
    SynAck {
        /// Round-trip time in microseconds.
        rtt_us: u64,
        /// Bytes of the SYN's data that it acknowledges.
        acked: u32,
        /// The number of its cookie among the different ones that were seen, from 1 on.
        cookie: Option<usize>,
    },
    /// A reset.
    Reset,
    /// Nothing, to several SYNs.
    Silence,
}

impl Heard {
    /// The number of the cookie.
    pub const fn cookie(self) -> Option<usize> {
        match self {
            Self::SynAck { cookie, .. } => cookie,
            _ => None,
        }
    }

    /// A SYN-ACK.
    pub const fn is_syn_ack(self) -> bool {
        matches!(self, Self::SynAck { .. })
    }
}

/// What raw SYNs showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Syns {
    /// SYNs that were sent, with those to routers and those that were repeated.
    pub sent: u32,
    /// For a SYN without the option and without data.
    pub plain: Heard,
    /// For cookie requests of kind 34, each from another port.
    pub requests: Vec<Heard>,
    /// For a cookie request of kind 254, the experimental form.
    pub experimental: Heard,
    /// For a cookie and data, where sockets had no success with them.
    pub presented: Option<Heard>,
    /// For a cookie without data, where [`Self::presented`] is silence.
    pub cookie_alone: Option<Heard>,
    /// For data without the option, where [`Self::presented`] is silence.
    pub data_alone: Option<Heard>,
    /// The path of the SYN that did not get through, or whose option did not; empty where all did.
    pub hops: Vec<Hop>,
    /// The path of a plain SYN, where another did not get through.
    pub plain_hops: Vec<Hop>,
}

/// Sends SYNs and hears answers.
pub(super) struct Prober {
    pub(super) tcp: RawSocket,
    pub(super) icmp: RawSocket,
    pub(super) from: IpAddr,
    pub(super) to: SocketAddr,
    pub(super) sent: u32,
    sequence: u32,
    cookies: Vec<Cookie>,
}

impl Prober {
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`.
    pub(super) fn new(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            tcp: RawSocket::tcp(from, to.ip())?,
            icmp: RawSocket::icmp(from)?,
            from,
            to,
            sent: 0,
            sequence: getrandom::u32().map_err(io::Error::other)?,
            cookies: Vec::new(),
        })
    }

    /// Sends all that is asked of it: `count` requests, and what finds the cause where sockets had no success.
    ///
    /// # Errors
    ///
    /// As send(2) and recv(2).
    pub(super) fn look(mut self, count: u32, data: &[u8], data_failed: bool) -> io::Result<Syns> {
        let bare = |data| ProbeSyn { option: None, data };
        let plain = self.ask(&bare(&[]))?;
        let mut syns = Syns {
            sent: 0,
            plain,
            requests: Vec::new(),
            experimental: Heard::Silence,
            presented: None,
            cookie_alone: None,
            data_alone: None,
            hops: Vec::new(),
            plain_hops: Vec::new(),
        };
        // Without an answer to this one, the others would tell nothing.
        if plain.is_syn_ack() {
            self.look_on(&mut syns, count, data, data_failed)?;
        }
        syns.sent = self.sent;
        Ok(syns)
    }

    fn look_on(
        &mut self,
        syns: &mut Syns,
        count: u32,
        data: &[u8],
        data_failed: bool,
    ) -> io::Result<()> {
        let option = |experimental, cookie| {
            Some(ProbeOption {
                experimental,
                cookie,
            })
        };
        let request = ProbeSyn {
            option: option(false, None),
            data: &[],
        };
        for _ in 0..count {
            let heard = self.ask(&request)?;
            syns.requests.push(heard);
            if heard == Heard::Silence {
                break;
            }
        }
        let request_254 = ProbeSyn {
            option: option(true, None),
            data: &[],
        };
        syns.experimental = self.ask(&request_254)?;
        let first = syns.requests.first().copied().unwrap_or(Heard::Silence);
        let Some(number) = first.cookie() else {
            syns.hops = self.trace(&request)?;
            if first == Heard::Silence {
                syns.plain_hops = self.trace(&ProbeSyn {
                    option: None,
                    data: &[],
                })?;
            }
            return Ok(());
        };
        if !data_failed {
            return Ok(());
        }
        let cookie = Some(self.cookies[number - 1]);
        let both = ProbeSyn {
            option: option(false, cookie),
            data,
        };
        let presented = self.ask(&both)?;
        syns.presented = Some(presented);
        if presented == Heard::Silence {
            let alone = ProbeSyn { data: &[], ..both };
            syns.cookie_alone = Some(self.ask(&alone)?);
            syns.data_alone = Some(self.ask(&ProbeSyn { option: None, data })?);
            syns.plain_hops = self.trace(&ProbeSyn {
                option: None,
                data: &[],
            })?;
        }
        let taken = matches!(presented, Heard::SynAck { acked, .. } if acked > 0);
        if !taken {
            syns.hops = self.trace(&both)?;
        }
        Ok(())
    }

    fn trace(&mut self, syn: &ProbeSyn<'_>) -> io::Result<Vec<Hop>> {
        Path::new(self, syn).trace()
    }

    /// Sends a SYN from a port that nobody uses, and again where nothing comes back.
    fn ask(&mut self, syn: &ProbeSyn<'_>) -> io::Result<Heard> {
        let reserved = ReservedPort::take(self.from)?;
        self.sequence = self.sequence.wrapping_add(0x0100_0000);
        for _ in 0..TRIES {
            thread::sleep(PAUSE);
            let sequence = self.sequence;
            let start = Instant::now();
            self.send(syn, reserved.port, sequence, None)?;
            if let Some(answer) = self.hear(reserved.port, sequence, start + PATIENCE)? {
                return Ok(self.note(answer, start));
            }
        }
        Ok(Heard::Silence)
    }

    pub(super) const fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(0x0100_0000);
        self.sequence
    }

    pub(super) fn send(
        &mut self,
        syn: &ProbeSyn<'_>,
        port: u16,
        sequence: u32,
        hop_limit: Option<u8>,
    ) -> io::Result<()> {
        let from = SocketAddr::new(self.from, port);
        self.tcp
            .send(&syn.segment(from, self.to, sequence), hop_limit)?;
        self.sent += 1;
        Ok(())
    }

    fn hear(&self, port: u16, sequence: u32, until: Instant) -> io::Result<Option<Answer>> {
        while let Some((segment, _)) = self.tcp.receive(until)? {
            let answer = answer(&segment, self.to.port(), port, sequence);
            if answer.is_some() {
                return Ok(answer);
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(None)
    }

    fn note(&mut self, answer: Answer, start: Instant) -> Heard {
        let Answer::SynAck { acked, cookie, .. } = answer else {
            return Heard::Reset;
        };
        let number = cookie.map(|cookie| {
            let known = self.cookies.iter().position(|known| *known == cookie);
            known.unwrap_or_else(|| {
                self.cookies.push(cookie);
                self.cookies.len() - 1
            }) + 1
        });
        Heard::SynAck {
            rtt_us: start.elapsed().as_micros() as u64,
            acked,
            cookie: number,
        }
    }

    /// The next ICMP message about a segment: the TCP header that it quotes, and who sent it.
    pub(super) fn next_quote(&self, until: Instant) -> io::Result<Option<(Vec<u8>, IpAddr)>> {
        while let Some((message, router)) = self.icmp.receive(until)? {
            if let Some(header) = quoted_header(&message, self.from.is_ipv4()) {
                return Ok(Some((header.to_vec(), router)));
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(None)
    }
}

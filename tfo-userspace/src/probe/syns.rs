//! The part of a probe that takes raw SYNs: what kernel sockets do not show.
//!
//! A SYN-ACK reaches the kernel, too, which knows of no connection and resets it: the server keeps nothing. SYNs with a cookie
//! and data are sent only where kernel sockets failed, since a connection that is reset may hold a place in the server's Fast
//! Open queue for a minute.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tfo_common::fastopen::Cookie;

use super::{
    path::{Hop, Path},
    prober::Prober,
    segment::{Answer, ProbeOption, ProbeSyn},
};

/// SYNs without an answer until the probe takes it for silence, and the wait for each.
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause before each SYN.
const PAUSE: Duration = Duration::from_millis(20);

/// The answer to a SYN.
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

/// The results of raw SYNs.
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

/// Asks with SYNs, and numbers the cookies that come back.
pub(super) struct Look {
    prober: Prober,
    cookies: Vec<Cookie>,
}

impl Look {
    pub(super) const fn new(prober: Prober) -> Self {
        Self {
            prober,
            cookies: Vec::new(),
        }
    }

    /// Sends all that is asked of it: `count` requests, and what finds the cause where sockets had no success.
    ///
    /// # Errors
    ///
    /// As send(2) and recv(2).
    pub(super) fn run(mut self, count: u32, data: &[u8], data_failed: bool) -> io::Result<Syns> {
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
        syns.sent = self.prober.sent();
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
        Path::new(&mut self.prober, syn).trace()
    }

    /// Sends a SYN from a port that nobody uses, and again where nothing comes back.
    fn ask(&mut self, syn: &ProbeSyn<'_>) -> io::Result<Heard> {
        let way = self.prober.reserve()?;
        for _ in 0..TRIES {
            thread::sleep(PAUSE);
            let start = Instant::now();
            self.prober.send(syn, &way, None)?;
            if let Some(answer) = self.prober.hear(&way, start + PATIENCE)? {
                return Ok(self.note(answer, start));
            }
        }
        Ok(Heard::Silence)
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
}

//! The hop that a SYN reaches, and what is left of its option there: SYNs with a small TTL, and
//! what routers quote of them, as tracebox does (Detal et al., 2013).

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    prober::{Prober, Way},
    segment::{ProbeSyn, Quoted, answer, quoted},
};

/// The longest path, SYNs on their way at a time, and silent hops in a row after which the rest is given up.
const LONGEST: u8 = 30;
const BATCH: u8 = 3;
const SILENT: usize = 6;
/// The wait for the answers to a batch.
const PATIENCE: Duration = Duration::from_secs(1);

/// A hop of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The TTL, or hop limit, with which the SYN was sent.
    pub ttl: u8,
    /// The router that told of its end; `None` where nobody did.
    pub router: Option<IpAddr>,
    /// The Fast Open option in its quote.
    pub option: Option<Quoted>,
    /// The server answered, or what answers for it.
    pub server: bool,
}

/// A SYN on its way along the path.
pub(super) struct Path<'p, 's> {
    prober: &'p mut Prober,
    syn: &'p ProbeSyn<'s>,
}

/// A SYN that was sent.
struct OnItsWay {
    hop: Hop,
    way: Way,
}

impl OnItsWay {
    const fn is_done(&self) -> bool {
        self.hop.server || self.hop.router.is_some()
    }
}

impl<'p, 's> Path<'p, 's> {
    pub(super) const fn new(prober: &'p mut Prober, syn: &'p ProbeSyn<'s>) -> Self {
        Self { prober, syn }
    }

    /// Goes on until the server answers, or nobody does any more. Silent hops at the end are left out.
    pub(super) fn trace(mut self) -> io::Result<Vec<Hop>> {
        let mut hops: Vec<Hop> = Vec::new();
        let mut next = 1;
        while next <= LONGEST {
            let last = (next + BATCH - 1).min(LONGEST);
            hops.extend(self.batch(next..=last)?);
            next = last + 1;
            if let Some(server) = hops.iter().position(|hop| hop.server) {
                hops.truncate(server + 1);
                return Ok(hops);
            }
            let heard = hops.iter().rposition(|hop| hop.router.is_some());
            if hops.len() - heard.map_or(0, |at| at + 1) >= SILENT {
                break;
            }
        }
        let heard = hops.iter().rposition(|hop| hop.router.is_some());
        hops.truncate(heard.map_or(0, |at| at + 1));
        Ok(hops)
    }

    fn batch(&mut self, ttls: std::ops::RangeInclusive<u8>) -> io::Result<Vec<Hop>> {
        let mut sent = Vec::new();
        for ttl in ttls {
            let way = self.prober.reserve()?;
            self.prober.send(self.syn, &way, Some(ttl))?;
            let hop = Hop {
                ttl,
                router: None,
                option: None,
                server: false,
            };
            sent.push(OnItsWay { hop, way });
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !sent.iter().all(OnItsWay::is_done) {
            let soon = deadline.min(Instant::now() + Duration::from_millis(20));
            self.hear_router(&mut sent, soon)?;
            self.hear_server(&mut sent)?;
        }
        Ok(sent.into_iter().map(|it| it.hop).collect())
    }

    fn hear_router(&self, sent: &mut [OnItsWay], until: Instant) -> io::Result<()> {
        let Some((header, router)) = self.prober.next_quote(until)? else {
            return Ok(());
        };
        let to = self.prober.port();
        for each in sent {
            let seen = quoted(&header, to, each.way.port(), each.way.sequence, self.syn);
            if let Some(seen) = seen {
                each.hop.router = Some(router);
                each.hop.option = self.syn.option.is_some().then_some(seen);
            }
        }
        Ok(())
    }

    fn hear_server(&self, sent: &mut [OnItsWay]) -> io::Result<()> {
        let to = self.prober.port();
        while let Some(segment) = self.prober.next_segment(Instant::now())? {
            for each in &mut *sent {
                each.hop.server |=
                    answer(&segment, to, each.way.port(), each.way.sequence).is_some();
            }
        }
        Ok(())
    }
}

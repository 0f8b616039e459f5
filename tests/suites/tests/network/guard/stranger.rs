//! A raw client that can answer a challenge in any way.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use etherparse::TcpSlice;
use tfo_testbed::{
    packet::{self, Segment, flag},
    raw::RawClient,
    veth::{Family, Pair, server_port},
};

/// The `TSval` of its segments.
const CLOCK: u32 = 0x5c3f_109a;

/// The fields of a SYN-ACK that the next segment repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) sequence: u32,
    /// Its `TSval`, if it has timestamps.
    pub(crate) clock: Option<u32>,
}

pub(crate) struct Stranger {
    pub(crate) raw: RawClient,
    server: SocketAddr,
    timestamps: bool,
}

impl Stranger {
    /// A client at the spare address `number`, for the server's `port`.
    pub(crate) fn new(pair: &Pair, family: Family, number: u8, port: u16) -> Result<Self> {
        let mut raw = RawClient::new(pair, family, number)?;
        raw.patience = Duration::from_secs(2);
        Ok(Self {
            raw,
            server: server_port(family, port),
            timestamps: true,
        })
    }

    pub(crate) const fn without_timestamps(mut self) -> Self {
        self.timestamps = false;
        self
    }

    /// Sends a SYN from the next port.
    pub(crate) fn knock(&mut self) -> Result<Challenge> {
        self.raw.next_port();
        self.knock_again()
    }

    /// Sends the last SYN again.
    pub(crate) fn knock_again(&self) -> Result<Challenge> {
        self.syn()?;
        let challenge = self.raw.receive(self.server, |tcp| {
            (tcp.syn() && tcp.ack()).then(|| Challenge::of(tcp))
        })?;
        challenge.context("no SYN-ACK arrived")
    }

    /// Sends the last SYN again, without waiting for the answer.
    pub(crate) fn syn(&self) -> Result<()> {
        let options = if self.timestamps {
            packet::linux_options(&[]).to_vec()
        } else {
            // Segment size and window scale.
            b"\x02\x04\x05\xb4\x01\x03\x03\x07".to_vec()
        };
        let client = SocketAddr::new(self.raw.address(), self.raw.port());
        let syn = Segment::syn(client, self.server).numbers(self.raw.sequence(), 0);
        self.raw.transmit(&syn.options(&options))
    }

    /// The ACK that answers `challenge`, with this data.
    pub(crate) fn proof(&self, challenge: &Challenge, data: &[u8]) -> Segment {
        let mut options = Vec::new();
        if let Some(clock) = challenge.clock {
            options.extend(b"\x01\x01\x08\x0a");
            options.extend((CLOCK + 1).to_be_bytes());
            options.extend(clock.to_be_bytes());
        }
        let flags = if data.is_empty() { 0 } else { flag::PSH };
        let client = SocketAddr::new(self.raw.address(), self.raw.port());
        Segment::new(client, self.server, flags | flag::ACK)
            .numbers(
                self.raw.sequence().wrapping_add(1),
                challenge.sequence.wrapping_add(1),
            )
            .options(&options)
            .data(data)
    }

    /// Sends [`Self::proof`].
    pub(crate) fn prove(&self, challenge: &Challenge, data: &[u8]) -> Result<()> {
        self.raw.transmit(&self.proof(challenge, data))
    }
}

impl Challenge {
    pub(crate) fn of(tcp: &TcpSlice<'_>) -> Self {
        let mut clock = None;
        for option in tcp.options_iterator().flatten() {
            if let etherparse::TcpOptionElement::Timestamp(value, _) = option {
                clock = Some(value);
            }
        }
        Self {
            sequence: tcp.sequence_number(),
            clock,
        }
    }
}

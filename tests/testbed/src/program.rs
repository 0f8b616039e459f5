//! The data path's XDP program under `BPF_PROG_TEST_RUN`, one frame at a time, not attached.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use tfo_common::{
    abi::{TC_EGRESS, TC_PROGRAM},
    counters::{Counter, Counters},
    fastopen::{Key, KeySet},
};
use tfo_userspace::{
    datapath::{Datapath, Snapshot},
    model::{Mirror, Settings},
};

/// The bytes of a cookie key.
pub type KeyBytes = [u8; Key::LEN];

/// `XDP_PASS`.
pub const PASS: u32 = 2;

/// The loaded program and its maps.
pub struct Program(Datapath);

impl Program {
    /// Loads it with [`Mirror::Packet`] and no key set, not even an empty one.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn load() -> Result<Self> {
        Self::load_as(Mirror::Packet)
    }

    /// Loads it with this mirror mode. Sockets are looked up in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn load_as(mirror: Mirror) -> Result<Self> {
        let datapath = Datapath::load(mirror).context("cannot load the program: run as root")?;
        ensure!(datapath.mirror() == mirror, "{:?}", datapath.not_exact());
        Ok(Self(datapath))
    }

    /// Loads it with these settings and keys, primary first.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or `keys` has more than [`KeySet::MAX`].
    pub fn with_settings(settings: Settings, keys: &[KeyBytes]) -> Result<Self> {
        let datapath = Datapath::load(settings).context("cannot load the program")?;
        let mut program = Self(datapath);
        program.set_keys(keys)?;
        Ok(program)
    }

    /// As [`Program::load`], with these keys, primary first.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or `keys` has more than [`KeySet::MAX`].
    pub fn with_keys(keys: &[KeyBytes]) -> Result<Self> {
        let mut program = Self::load()?;
        program.set_keys(keys)?;
        Ok(program)
    }

    /// As [`Program::with_settings`], with the guard's program; the guard is off until it is set.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or `keys` has more than [`KeySet::MAX`].
    pub fn guarding(settings: Settings, keys: &[KeyBytes]) -> Result<Self> {
        let datapath = Datapath::load_guarding(settings).context("cannot load the guard")?;
        let mut program = Self(datapath);
        program.set_keys(keys)?;
        Ok(program)
    }

    /// As [`Program::with_settings`], with the programs for own cookies; there are none until they are set.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or `keys` has more than [`KeySet::MAX`].
    pub fn translating(settings: Settings, keys: &[KeyBytes]) -> Result<Self> {
        let datapath = Datapath::load_translating(settings).context("cannot load own cookies")?;
        let mut program = Self(datapath);
        program.set_keys(keys)?;
        Ok(program)
    }

    /// Replaces the keys, primary first.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or `keys` has more than [`KeySet::MAX`].
    pub fn set_keys(&mut self, keys: &[KeyBytes]) -> Result<()> {
        self.0.set_keys(&key_set(keys)?)?;
        Ok(())
    }

    /// Runs it once on a frame, which must pass unchanged.
    ///
    /// # Errors
    ///
    /// The program cannot be run, returns another verdict than [`PASS`], or modifies the frame.
    pub fn pass(&self, frame: &[u8]) -> Result<()> {
        let (verdict, out) = self.once(frame)?;
        ensure!(verdict == PASS, "XDP verdict {verdict} for {frame:02x?}");
        ensure!(out == frame, "{frame:02x?} was modified to {out:02x?}");
        Ok(())
    }

    /// Runs it once on a frame. Returns the XDP verdict, the resulting frame and the counter changes.
    ///
    /// # Errors
    ///
    /// The program cannot be run, or the counters cannot be read.
    pub fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>, Counted)> {
        let before = self.counters()?;
        let (verdict, out) = self.once(frame)?;
        let counted = Counted::between(&before, &self.counters()?);
        Ok((verdict, out, counted))
    }

    fn once(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        // Room for a longer frame, so that growth is noticed.
        let mut out = vec![0; frame.len() + 64];
        let result = self.xdp()?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// As [`Program::pass`]. Returns the counter changes.
    ///
    /// # Errors
    ///
    /// As [`Program::pass`], or the counters cannot be read.
    pub fn count(&self, frame: &[u8]) -> Result<Counted> {
        let before = self.counters()?;
        self.pass(frame)?;
        Ok(Counted::between(&before, &self.counters()?))
    }

    /// The XDP program's handle.
    ///
    /// # Errors
    ///
    /// The object has no such program.
    pub fn xdp(&self) -> Result<&Xdp> {
        Ok(self.0.program()?)
    }

    /// The TC programs that see what comes and what leaves, as [`Program::translating`] loads them.
    ///
    /// # Errors
    ///
    /// The object has no such program.
    pub fn classifiers(&self) -> Result<(&SchedClassifier, &SchedClassifier)> {
        Ok((
            self.0.classifier(TC_PROGRAM)?,
            self.0.classifier(TC_EGRESS)?,
        ))
    }

    /// A second handle of the same program, to run it while `self` is borrowed mutably.
    ///
    /// # Errors
    ///
    /// The kernel returns no file descriptor for the program's id.
    pub fn another_handle(&self) -> Result<Xdp> {
        let info = self.xdp()?.info()?;
        Ok(Xdp::from_program_info(
            info,
            "tfo".into(),
            XdpAttachType::Interface,
        )?)
    }

    /// The underlying [`Datapath`].
    pub const fn datapath(&mut self) -> &mut Datapath {
        &mut self.0
    }

    /// All counters since load.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn counters(&self) -> Result<Snapshot> {
        Ok(self.0.counters()?)
    }
}

/// A key set, primary first.
///
/// # Errors
///
/// `keys` has more than [`KeySet::MAX`].
pub fn key_set(keys: &[KeyBytes]) -> Result<KeySet> {
    KeySet::new(keys.iter().copied().map(Key::from_bytes)).context("too many keys")
}

/// Increase of each changed counter, by name.
pub type Changes = BTreeMap<&'static str, u64>;

/// Counter changes: in total, by port, and of frames without a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Sum over all ports and of frames without a port.
    pub total: Changes,
    ports: BTreeMap<u16, Changes>,
    other: Changes,
}

impl Counted {
    /// No changes.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These changes at one port.
    pub fn at_port(port: u16, amounts: &[(Counter, u64)]) -> Self {
        let changes = changes(amounts.iter().copied());
        Self {
            total: changes.clone(),
            ports: BTreeMap::from([(port, changes)]),
            other: Changes::new(),
        }
    }

    /// Changes of one SYN at a port: each of `counters` once, `Syns`, and the counters of its `data`.
    pub fn syn(port: u16, counters: &[Counter], data: &[u8]) -> Self {
        let mut amounts: Vec<_> = counters.iter().map(|counter| (*counter, 1)).collect();
        amounts.push((Counter::Syns, 1));
        amounts.push((Counter::SynsWithData, (!data.is_empty()).into()));
        amounts.push((Counter::SynDataBytes, data.len() as u64));
        Self::at_port(port, &amounts)
    }

    /// These changes of frames without a port.
    pub fn at_no_port(amounts: &[(Counter, u64)]) -> Self {
        let changes = changes(amounts.iter().copied());
        Self {
            total: changes.clone(),
            ports: BTreeMap::new(),
            other: changes,
        }
    }

    fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let ports = after.ports.iter().map(|(port, counters)| {
            let before = before.ports.get(port).copied().unwrap_or_default();
            (*port, difference(&before, counters))
        });
        Self {
            total: difference(&before.total, &after.total),
            ports: ports.filter(|(_, changes)| !changes.is_empty()).collect(),
            other: difference(&before.other, &after.other),
        }
    }
}

/// Changes from `before` to `after`, modulo 2^64.
fn difference(before: &Counters, after: &Counters) -> Changes {
    changes(Counter::ALL.map(|counter| {
        let amount = after.get(counter).wrapping_sub(before.get(counter));
        (counter, amount)
    }))
}

fn changes(amounts: impl IntoIterator<Item = (Counter, u64)>) -> Changes {
    let changed = amounts.into_iter().filter(|(_, amount)| *amount != 0);
    changed
        .map(|(counter, amount)| (counter.name(), amount))
        .collect()
}

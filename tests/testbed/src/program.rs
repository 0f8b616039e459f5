//! The data path's program in the kernel, run on one frame at a time by `BPF_PROG_TEST_RUN`: it is
//! not attached to anything.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use tfo_common::{
    counters::{Counter, Counters},
    fastopen::{Key, KeySet},
};
use tfo_userspace::{
    datapath::{Datapath, Snapshot},
    model::{Mirror, Settings},
};

/// The bytes of a cookie key.
pub type KeyBytes = [u8; Key::LEN];

/// The verdict that lets a frame go on: `XDP_PASS`.
pub const PASS: u32 = 2;

/// The program and its maps.
pub struct Program(Datapath);

impl Program {
    /// Loads it; the packet and the keys decide alone. It has no key set yet, not even an empty one.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn load() -> Result<Self> {
        Self::load_as(Mirror::Packet)
    }

    /// Loads it to follow the kernel as closely as `mirror` says. Sockets are looked up in the calling
    /// thread's namespace.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn load_as(mirror: Mirror) -> Result<Self> {
        let datapath = Datapath::load(mirror).context("cannot load the program; it takes root")?;
        ensure!(datapath.mirror() == mirror, "{:?}", datapath.not_exact());
        Ok(Self(datapath))
    }

    /// Loads it with other settings than [`Program::load`] has, and these keys, primary first.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it, or there are too many keys.
    pub fn with_settings(settings: Settings, keys: &[KeyBytes]) -> Result<Self> {
        let datapath = Datapath::load(settings).context("cannot load the program")?;
        let mut program = Self(datapath);
        program.set_keys(keys)?;
        Ok(program)
    }

    /// Loads it with these keys, primary first.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it, or there are too many keys.
    pub fn with_keys(keys: &[KeyBytes]) -> Result<Self> {
        let mut program = Self::load()?;
        program.set_keys(keys)?;
        Ok(program)
    }

    /// Loads it with a guard, which is off until it is set.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it, or there are too many keys.
    pub fn guarding(settings: Settings, keys: &[KeyBytes]) -> Result<Self> {
        let datapath = Datapath::load_guarding(settings).context("cannot load the guard")?;
        let mut program = Self(datapath);
        program.set_keys(keys)?;
        Ok(program)
    }

    /// Puts other keys in force, primary first.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it, or there are too many keys.
    pub fn set_keys(&mut self, keys: &[KeyBytes]) -> Result<()> {
        self.0.set_keys(&key_set(keys)?)?;
        Ok(())
    }

    /// Runs it on a frame, once. It must let the frame go on as it is.
    ///
    /// # Errors
    ///
    /// Where it cannot be run, gives another verdict, or changes the frame.
    pub fn pass(&self, frame: &[u8]) -> Result<()> {
        let (verdict, out) = self.once(frame)?;
        ensure!(verdict == PASS, "verdict {verdict} for {frame:02x?}");
        ensure!(out == frame, "it made {out:02x?} of {frame:02x?}");
        Ok(())
    }

    /// Runs it on a frame, once: its verdict, the frame that goes on, and what it counted.
    ///
    /// # Errors
    ///
    /// Where it cannot be run, or the counters cannot be read.
    pub fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>, Counted)> {
        let before = self.counters()?;
        let (verdict, out) = self.once(frame)?;
        let counted = Counted::between(&before, &self.counters()?);
        Ok((verdict, out, counted))
    }

    fn once(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        // Room for a frame that has grown, so that this shows too.
        let mut out = vec![0; frame.len() + 64];
        let result = self.xdp()?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// Runs it on a frame and says what it counted.
    ///
    /// # Errors
    ///
    /// As [`Program::pass`], or where the counters cannot be read.
    pub fn count(&self, frame: &[u8]) -> Result<Counted> {
        let before = self.counters()?;
        self.pass(frame)?;
        Ok(Counted::between(&before, &self.counters()?))
    }

    /// The program itself.
    ///
    /// # Errors
    ///
    /// Where the object has none.
    pub fn xdp(&self) -> Result<&Xdp> {
        Ok(self.0.program()?)
    }

    /// The same program once more, to run it while its keys are changed.
    ///
    /// # Errors
    ///
    /// Where the kernel does not give it.
    pub fn another_handle(&self) -> Result<Xdp> {
        let info = self.xdp()?.info()?;
        Ok(Xdp::from_program_info(
            info,
            "tfo".into(),
            XdpAttachType::Interface,
        )?)
    }

    /// What else it tells.
    pub const fn datapath(&mut self) -> &mut Datapath {
        &mut self.0
    }

    /// All that it has counted.
    ///
    /// # Errors
    ///
    /// Where a map cannot be read.
    pub fn counters(&self) -> Result<Snapshot> {
        Ok(self.0.counters()?)
    }
}

/// The set of these keys, primary first.
///
/// # Errors
///
/// Where there are too many.
pub fn key_set(keys: &[KeyBytes]) -> Result<KeySet> {
    KeySet::new(keys.iter().copied().map(Key::from_bytes)).context("too many keys")
}

/// By how much each counter that went up did, by name.
pub type Changes = BTreeMap<&'static str, u64>;

/// By how much counters went up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// At all ports and none.
    pub total: Changes,
    ports: BTreeMap<u16, Changes>,
    other: Changes,
}

impl Counted {
    /// Nothing at all.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// These, at a port.
    pub fn at_port(port: u16, amounts: &[(Counter, u64)]) -> Self {
        let changes = changes(amounts.iter().copied());
        Self {
            total: changes.clone(),
            ports: BTreeMap::from([(port, changes)]),
            other: Changes::new(),
        }
    }

    /// What a SYN to a port counts: each of these once, beside itself and its data.
    pub fn syn(port: u16, counters: &[Counter], data: &[u8]) -> Self {
        let mut amounts: Vec<_> = counters.iter().map(|counter| (*counter, 1)).collect();
        amounts.push((Counter::Syns, 1));
        amounts.push((Counter::SynsWithData, (!data.is_empty()).into()));
        amounts.push((Counter::SynDataBytes, data.len() as u64));
        Self::at_port(port, &amounts)
    }

    /// These, at no port.
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

/// What went up from `before` to `after`. A counter that went down shows as a huge number.
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

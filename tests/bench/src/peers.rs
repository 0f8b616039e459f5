//! Baseline programs: an empty one, an equivalent of the data path in C, and a socket look-up alone.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, PerCpuArray},
    programs::{SchedClassifier, Xdp},
};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};
use tfo_common::counters::Counter;
use tfo_testbed::{process, program::KeyBytes, prometheus::Scratch};

use crate::measure::{Hook, Program};

/// Header that the C sources include.
const HEADER: &str = include_str!("bpf.h");
const PEER: &str = include_str!("peer.c");
const FLOOD: &str = include_str!("flood.c");
const LOOKUP: &str = include_str!("lookup.c");
/// Timeout of the compiler.
const LIMIT: Duration = Duration::from_secs(60);

/// A loaded program that is not part of `tfo`.
pub(crate) struct Peer {
    ebpf: Ebpf,
    name: &'static str,
}

/// Counters of the C program at one port: the first of its `struct counters`, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerCounts([u64; 8]);

impl PeerCounts {
    /// Expected counters of one SYN.
    pub(crate) fn syn(counters: &[Counter], data: &[u8]) -> Self {
        let has = |counter| u64::from(counters.contains(&counter));
        Self([
            1,
            u64::from(!data.is_empty()),
            data.len() as u64,
            has(Counter::CookieReqd),
            has(Counter::Passive),
            has(Counter::PassiveAltKey),
            has(Counter::PassiveFail),
            0,
        ])
    }
}

impl Peer {
    /// `return XDP_PASS`.
    pub(crate) fn empty() -> Result<Self> {
        Self::load(&empty_object(Hook::Xdp)?, "empty")
    }

    /// Compiles and loads `peer.c` with these keys.
    pub(crate) fn c(keys: &[KeyBytes]) -> Result<Self> {
        let mut peer = Self::load(&compile(PEER, &[])?, "peer")?;
        let map = peer.ebpf.map_mut("KEYS").context("no KEYS in peer.c")?;
        let mut words = [0; 9];
        words[0] = keys.len() as u64;
        for (word, bytes) in words[1..].iter_mut().zip(keys.as_flattened().as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Array::<_, [u64; 9]>::try_from(map)?.set(0, words, 0)?;
        Ok(peer)
    }

    /// Compiles and loads `lookup.c`, which passes a frame if there is a socket for it.
    pub(crate) fn lookup() -> Result<Self> {
        Self::load(&compile(LOOKUP, &[])?, "lookup")
    }

    /// Compiles and loads `flood.c`, the generator.
    pub(crate) fn flood() -> Result<Self> {
        Self::load(&compile(FLOOD, &[])?, "flood")
    }

    /// Configures the generator: output interface by index, random `cookies`, template `frame`.
    pub(crate) fn send_from(&mut self, interface: u32, cookies: bool, frame: &[u8]) -> Result<()> {
        set_frames(&mut self.ebpf, &[frame])?;
        let map = self.ebpf.map_mut("SETTINGS");
        let map = map.context("no SETTINGS in flood.c")?;
        let settings = [interface, cookies.into()];
        Ok(Array::<_, [u32; 2]>::try_from(map)?.set(0, settings, 0)?)
    }

    fn load(object: &[u8], name: &'static str) -> Result<Self> {
        let mut peer = Self {
            ebpf: Ebpf::load(object)?,
            name,
        };
        let loaded = peer.xdp_mut()?.load();
        loaded.with_context(|| format!("cannot load the {name} program; it takes root"))?;
        Ok(peer)
    }

    pub(crate) fn xdp(&self) -> Result<&Xdp> {
        let program = self.ebpf.program(self.name).context("no program")?;
        Ok(program.try_into()?)
    }

    pub(crate) fn xdp_mut(&mut self) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(self.name).context("no program")?;
        Ok(program.try_into()?)
    }

    /// Runs the C program once. Returns the counter changes at `port`.
    pub(crate) fn count(&self, frame: &[u8], port: u16) -> Result<PeerCounts> {
        let before = self.counts(port)?;
        Program::Xdp(self.xdp()?).verdict(frame)?;
        let after = self.counts(port)?;
        let difference = |index: usize| after.0[index] - before.0[index];
        Ok(PeerCounts(std::array::from_fn(difference)))
    }

    fn counts(&self, port: u16) -> Result<PeerCounts> {
        /// Words of that structure.
        const WORDS: usize = 13;
        let map = |name| self.ebpf.map(name).context(name).context("not in peer.c");
        let slots = Array::<_, u64>::try_from(map("PORT_SLOTS")?)?;
        let slot = slots.get(&port.into(), 0)?;
        let counters = PerCpuArray::<_, [u64; WORDS]>::try_from(map("COUNTERS")?)?;
        let counters = counters.get(&(slot as u32), 0)?;
        let sum = |index: usize| counters.iter().map(|of_cpu| of_cpu[index]).sum();
        Ok(PeerCounts(std::array::from_fn(sum)))
    }
}

/// An empty TC program: `return TCX_NEXT`.
pub(crate) struct EmptyTc(Ebpf);

impl EmptyTc {
    pub(crate) fn load() -> Result<Self> {
        let mut ebpf = Ebpf::load(&empty_object(Hook::Tc)?)?;
        let program = ebpf.program_mut("empty").context("no program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load().context("cannot load the empty TC program")?;
        Ok(Self(ebpf))
    }

    pub(crate) fn program(&self) -> Result<Program<'_>> {
        let program = self.0.program("empty").context("no program")?;
        Ok(Program::Tc(program.try_into()?))
    }
}

/// Sets the frames that a program puts back, one after the other; its map has room for as many.
pub(crate) fn set_frames(ebpf: &mut Ebpf, frames: &[impl AsRef<[u8]>]) -> Result<()> {
    /// Maximum of restored words.
    const WORDS: usize = 16;
    /// Leading fields: length, number of words, last word.
    const HEAD: usize = 3;
    let map = ebpf.map_mut("FRAMES").context("no FRAMES")?;
    let mut map = Array::<_, [u64; HEAD + WORDS]>::try_from(map)?;
    for (index, frame) in frames.iter().enumerate() {
        let frame = frame.as_ref();
        let mut words = [0; HEAD + WORDS];
        let bytes = frame.as_chunks::<8>().0.iter().take(WORDS);
        let last = frame.last_chunk().context("a frame of less than 8 bytes")?;
        words[..HEAD].copy_from_slice(&[
            frame.len() as u64,
            bytes.len() as u64,
            u64::from_ne_bytes(*last),
        ]);
        for (word, bytes) in words[HEAD..].iter_mut().zip(bytes) {
            *word = u64::from_ne_bytes(*bytes);
        }
        map.set(index as u32, words, 0)?;
    }
    let cursor = ebpf.map_mut("CURSOR").context("no CURSOR")?;
    Ok(Array::<_, [u64; 2]>::try_from(cursor)?.set(0, [frames.len() as u64, 0], 0)?)
}

/// Compiles C source to a BPF object with clang, with these definitions.
pub(crate) fn compile(text: &str, definitions: &[&str]) -> Result<Vec<u8>> {
    let folder = Scratch::new()?;
    let [header, source, object] =
        ["bpf.h", "program.c", "program.o"].map(|name| folder.path().join(name));
    fs::write(header, HEADER)?;
    fs::write(&source, text)?;
    let mut clang = Command::new("clang");
    clang
        .args(["-O2", "-target", "bpf", "-mcpu=v3", "-c"])
        .args(
            definitions
                .iter()
                .map(|definition| format!("-D{definition}")),
        )
        .arg(&source)
        .arg("-o")
        .arg(&object);
    process::succeed(&mut clang, LIMIT).context("clang cannot compile the C program")?;
    Ok(fs::read(object)?)
}

/// A BPF object with a program that returns the verdict with which a frame goes on.
fn empty_object(hook: Hook) -> Result<Vec<u8>> {
    let [a, b, c, d] = hook.passes().to_le_bytes();
    let code = [[0xb7, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]].concat();
    let name = match hook {
        Hook::Xdp => b"xdp".to_vec(),
        Hook::Tc => b"classifier".to_vec(),
    };
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let section = object.add_section(Vec::new(), name, SectionKind::Text);
    object.append_section_data(section, &code, 8);
    object.add_symbol(Symbol {
        name: b"empty".to_vec(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    object.write().context("cannot write the empty program")
}

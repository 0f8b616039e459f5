//! Programs that restore the frame, or take the next of several, then tail-call the measured program.

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::ProgramArray,
    programs::{ProgramFd, SchedClassifier, Xdp},
};

use crate::{
    measure::{Hook, Measured, Program},
    peers::{compile, set_frames},
};

const SOURCE: &str = include_str!("restore.c");

/// Section names of the program's kinds. XDP has two: a program with fragments and one without cannot call each other.
const XDP: &str = "xdp.frags";
const XDP_WITHOUT_FRAGMENTS: &str = "xdp";
const TC: &str = "classifier";

/// A loaded program in front of the measured one.
pub(crate) struct Restore {
    ebpf: Ebpf,
    hook: Hook,
}

impl Restore {
    /// In front of an empty program, for `frames`.
    pub(crate) fn empty(hook: Hook, frames: &[impl AsRef<[u8]>]) -> Result<Self> {
        Self::of(Self::section(hook), frames)
    }

    /// In front of `program`, for `frames`.
    pub(crate) fn before(program: Program<'_>, frames: &[impl AsRef<[u8]>]) -> Result<Self> {
        let mut restore = Self::empty(program.hook(), frames)?;
        restore.jump_to(fd(program)?)?;
        Ok(restore)
    }

    /// Two of them, in front of an empty program and of one that may be without fragments.
    pub(crate) fn pair(program: &Xdp, frame: &[u8]) -> Result<[Self; 2]> {
        let mut why = None;
        for section in [XDP, XDP_WITHOUT_FRAGMENTS] {
            let mut pair = [Self::of(section, &[frame])?, Self::of(section, &[frame])?];
            match pair[1].jump_to(program.fd()?) {
                Ok(()) => return Ok(pair),
                Err(error) => why = Some(error),
            }
        }
        Err(why.context("no kind of XDP program was tried")?)
    }

    const fn section(hook: Hook) -> &'static str {
        match hook {
            Hook::Xdp => XDP,
            Hook::Tc => TC,
        }
    }

    fn of(section: &'static str, frames: &[impl AsRef<[u8]>]) -> Result<Self> {
        let hook = if section == TC { Hook::Tc } else { Hook::Xdp };
        let kind = format!("SECTION=\"{section}\"");
        let mut definitions = vec![&*kind];
        if hook == Hook::Tc {
            definitions.push("TC");
        }
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("FRAMES", frames.len() as u32);
        let mut ebpf = loader.load(&compile(SOURCE, &definitions)?)?;
        for name in ["restore", "empty"] {
            load(&mut ebpf, name, hook)?;
        }
        set_frames(&mut ebpf, frames)?;
        let mut restore = Self { ebpf, hook };
        let empty = fd(restore.program("empty")?)?.try_clone()?;
        restore.jump_to(&empty)?;
        Ok(restore)
    }

    /// Sets other frames, at most as many as before.
    pub(crate) fn set_frames(&mut self, frames: &[impl AsRef<[u8]>]) -> Result<()> {
        set_frames(&mut self.ebpf, frames)
    }

    /// The measurement with a frame of the restored one's length, and the verdict of the measured program.
    pub(crate) fn measured<'a>(&'a self, frame: &'a [u8], verdict: u32) -> Result<Measured<'a>> {
        Ok(Measured::new(self.program("restore")?, frame, verdict))
    }

    /// The measurement of a program that lets the frame pass.
    pub(crate) fn passing<'a>(&'a self, frame: &'a [u8]) -> Result<Measured<'a>> {
        self.measured(frame, self.hook.passes())
    }

    /// The verdict of the measured program.
    pub(crate) fn verdict(&self, frame: &[u8]) -> Result<u32> {
        self.program("restore")?.verdict(frame)
    }

    fn program(&self, name: &str) -> Result<Program<'_>> {
        let program = self.ebpf.program(name).context("no such program")?;
        Ok(match self.hook {
            Hook::Xdp => Program::Xdp(program.try_into()?),
            Hook::Tc => Program::Tc(program.try_into()?),
        })
    }

    fn jump_to(&mut self, program: &ProgramFd) -> Result<()> {
        let map = self.ebpf.map_mut("MEASURED").context("no MEASURED")?;
        Ok(ProgramArray::try_from(map)?.set(0, program, 0)?)
    }
}

fn fd(program: Program<'_>) -> Result<&ProgramFd> {
    Ok(match program {
        Program::Xdp(program) => program.fd()?,
        Program::Tc(program) => program.fd()?,
    })
}

fn load(ebpf: &mut Ebpf, name: &str, hook: Hook) -> Result<()> {
    let Some(program) = ebpf.program_mut(name) else {
        bail!("restore.c has no program {name}");
    };
    match hook {
        Hook::Xdp => TryInto::<&mut Xdp>::try_into(program)?.load()?,
        Hook::Tc => TryInto::<&mut SchedClassifier>::try_into(program)?.load()?,
    }
    Ok(())
}

//! XDP programs that the caller names, to be measured beside the challenge: `FILE:PROGRAM`, or a pin in the BPF file system.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfError,
    programs::{ProgramError, Xdp},
};
use aya_obj::{generated::bpf_prog_type, programs::XdpAttachType};

/// The BPF file system, in which pins are.
const BPF_FILES: &str = "/sys/fs/bpf/";

/// A loaded program.
pub(crate) struct PeerFile {
    name: String,
    program: Loaded,
}

enum Loaded {
    /// An object, and the program's name in it.
    Object(Ebpf, String),
    Pin(Box<Xdp>),
}

impl PeerFile {
    /// Loads what `text` names.
    pub(crate) fn load(text: &str) -> Result<Self> {
        if text.starts_with(BPF_FILES) {
            return Self::of_pin(Path::new(text));
        }
        let (file, program) = parts(text)?;
        let shown = file.display();
        let object =
            std::fs::read(&file).with_context(|| format!("cannot read the object {shown}"))?;
        let mut ebpf = Ebpf::load(&object).map_err(|error| refused(&shown.to_string(), error))?;
        let names = ebpf
            .programs()
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>();
        let Some(found) = ebpf.program_mut(program) else {
            bail!(
                "{shown} has no program {program}; it has: {}",
                names.join(", ")
            );
        };
        let kind = found.prog_type();
        let Ok(xdp): Result<&mut Xdp, ProgramError> = found.try_into() else {
            bail!(
                "{program} of {shown} is of the kind {kind:?}: the challenge is compared with XDP programs"
            );
        };
        xdp.load().map_err(|error| refused(text, error))?;
        Ok(Self {
            name: format!(
                "{}:{program}",
                file.file_name().unwrap_or_default().display()
            ),
            program: Loaded::Object(ebpf, program.to_owned()),
        })
    }

    fn of_pin(path: &Path) -> Result<Self> {
        let shown = path.display();
        let program = Xdp::from_pin(path, XdpAttachType::Interface);
        let program = program.with_context(|| format!("cannot open the pinned program {shown}"))?;
        let info = program
            .info()
            .with_context(|| format!("{shown} is no program"))?;
        let kind = info.program_type();
        ensure!(
            kind == bpf_prog_type::BPF_PROG_TYPE_XDP,
            "{shown} is of the kind {kind:?}: the challenge is compared with XDP programs"
        );
        Ok(Self {
            name: path.file_name().unwrap_or_default().display().to_string(),
            program: Loaded::Pin(Box::new(program)),
        })
    }

    /// File name and program.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn xdp(&self) -> Result<&Xdp> {
        Ok(match &self.program {
            Loaded::Object(ebpf, name) => ebpf.program(name).context("no program")?.try_into()?,
            Loaded::Pin(program) => program,
        })
    }
}

/// File and program of `FILE:PROGRAM`.
fn parts(text: &str) -> Result<(PathBuf, &str)> {
    let parts = text
        .rsplit_once(':')
        .filter(|(file, program)| !file.is_empty() && !program.is_empty());
    let (file, program) = parts.with_context(|| {
        format!("{text} names no program: write FILE:PROGRAM, or a pin below {BPF_FILES}")
    })?;
    Ok((file.into(), program))
}

/// Why an object or a program of it cannot be loaded, and what can be done.
fn refused(what: &str, error: impl Into<EbpfError>) -> anyhow::Error {
    anyhow::Error::new(error.into()).context(format!(
        "cannot load {what}; if that is for aya's lack of something, such as calls of kfuncs, pin the program \
         (bpftool prog load FILE {BPF_FILES}NAME) and give the pin"
    ))
}

/// A verdict of XDP as the kernel names it.
pub(crate) fn verdict_name(verdict: u32) -> String {
    const NAMES: [&str; 5] = [
        "XDP_ABORTED",
        "XDP_DROP",
        "XDP_PASS",
        "XDP_TX",
        "XDP_REDIRECT",
    ];
    let name = NAMES.get(verdict as usize);
    name.map_or_else(|| format!("verdict {verdict}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_separates_file_and_program() {
        let (file, program) = parts("/a:b/c.o:main").expect("both are there");
        assert_eq!((file.as_path(), program), (Path::new("/a:b/c.o"), "main"));
    }

    #[test]
    fn what_names_no_program_is_refused_with_the_form() {
        for text in ["c.o", "c.o:", ":main", ""] {
            let error = parts(text).expect_err(text).to_string();
            assert!(error.contains("FILE:PROGRAM"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_no_object_is_named() {
        for (text, why) in [
            (
                "/no/such/file.o:main",
                "cannot read the object /no/such/file.o",
            ),
            ("/proc/self/status:main", "cannot load /proc/self/status"),
            ("/sys/fs/bpf/no-such-pin", "cannot open the pinned program"),
        ] {
            let error = PeerFile::load(text).err().expect(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn verdicts_have_the_kernels_names() {
        assert_eq!(verdict_name(3), "XDP_TX");
        assert_eq!(verdict_name(9), "verdict 9");
    }
}

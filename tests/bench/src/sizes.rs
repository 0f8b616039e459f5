//! Size of the programs: verified instructions and machine code.

use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, EbpfLoader,
    programs::{Program, ProgramInfo, Xdp},
};
use tfo_common::abi::{
    LISTENERS_PROGRAM, SOCKET_OFFSETS, SocketOffsets, TC_POLICY, TC_PROGRAM, XDP_POLICY,
    XDP_PROGRAM,
};
use tfo_userspace::{datapath::OBJECT, kernel::types::KernelTypes};

use crate::report::{Row, Table};

/// Sizes of the data path's programs and of `peers`.
pub(crate) fn tables(peers: &[(&str, &Xdp)]) -> Result<[Table; 2]> {
    let mut programs = Vec::new();
    for (name, program) in peers {
        programs.push(((*name).to_owned(), program.info()?));
    }
    let exact = KernelTypes::read()?.socket_offsets()?;
    for (mirror, offsets) in [("packet", SocketOffsets::default()), ("exact", exact)] {
        for (name, program) in [
            ("XDP", XDP_PROGRAM),
            ("TC", TC_PROGRAM),
            ("policies in XDP", XDP_POLICY),
            ("policies in TC", TC_POLICY),
        ] {
            programs.push((format!("tfo, {name}, {mirror}"), load(program, &offsets)?));
        }
    }
    let listeners = load(LISTENERS_PROGRAM, &exact)?;
    programs.push(("tfo listeners, iterator".into(), listeners));
    let table = |name: &str, unit: &str, size: fn(&ProgramInfo) -> u32| {
        let row = |(name, info): &(String, ProgramInfo)| {
            Row::single(name.as_str(), [f64::from(size(info))])
        };
        Table {
            name: name.into(),
            of: "program".into(),
            unit: unit.into(),
            rows: programs.iter().map(row).collect(),
            ..Table::default()
        }
    };
    Ok([
        table(
            "For the verifier",
            "instructions verified at load",
            |info| info.verified_instruction_count().unwrap_or_default(),
        ),
        table(
            "For the CPU",
            "bytes of machine code",
            ProgramInfo::size_jitted,
        ),
    ])
}

/// Loads a program of the data path for its [`ProgramInfo`], then unloads it.
fn load(name: &str, offsets: &SocketOffsets) -> Result<ProgramInfo> {
    let mut loader = EbpfLoader::new();
    let mut ebpf = loader
        .override_global(SOCKET_OFFSETS, offsets, true)
        .load(OBJECT)?;
    let program = ebpf.program_mut(name).context("no such program")?;
    match program {
        Program::Xdp(program) => program.load()?,
        Program::SchedClassifier(program) => program.load()?,
        Program::Iter(program) => program.load("tcp", &Btf::from_sys_fs()?)?,
        other => bail!("{name} is of another type: {:?}", other.prog_type()),
    }
    Ok(program.info()?)
}

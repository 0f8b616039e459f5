//! The guard's programs on an interface: the one that challenges is a stage of the XDP program; the one that takes
//! proof has a TCX link of its own.

use std::{borrow::Cow, path::Path};

use aya::{
    Btf,
    maps::{MapData, ProgramArray},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use aya_obj::btf::BtfKind;
use tfo_common::{
    maps::{
        ASSIGN, ASSIGN_CALL, CHALLENGE_STAGE, GUARD_STAGE, TC_GUARD, XDP_CHALLENGE, XDP_GUARD,
        XDP_POLICY,
    },
    wire::Link,
};

use crate::{
    datapath::{
        Datapath, DatapathError,
        modes::not_a_link,
        pins::{InterfacePins, NamespacePins},
        program::map_from_pin,
    },
    model::{Mirror, Settings},
};

/// `object`, whose guard calls the kernel's function [`ASSIGN`].
///
/// # Errors
///
/// [`DatapathError::NoProof`] where the kernel has no such function.
pub(in crate::datapath) fn order(object: &[u8]) -> Result<Cow<'_, [u8]>, DatapathError> {
    let no_proof = |cause: String| DatapathError::NoProof(cause);
    let types = Btf::from_sys_fs().map_err(|error| no_proof(error.to_string()))?;
    let id = types
        .id_by_type_name_kind(ASSIGN, BtfKind::Func)
        .map_err(|_| no_proof(format!("it has no {ASSIGN}, which Linux has since 6.9")))?;
    let mut object = object.to_vec();
    let stands_for = instruction(0, ASSIGN_CALL);
    let mut calls = 0;
    for slot in object.as_chunks_mut::<8>().0 {
        if *slot == stands_for {
            *slot = instruction(KERNEL_FUNCTION, id);
            calls += 1;
        }
    }
    if calls == 0 {
        return Err(DatapathError::Missing(TC_GUARD));
    }
    Ok(Cow::Owned(object))
}

/// The source register of a call of a kernel function: `BPF_PSEUDO_KFUNC_CALL`.
const KERNEL_FUNCTION: u8 = 2;

/// A call of this number: `BPF_JMP | BPF_CALL`.
fn instruction(source: u8, number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_ne_bytes();
    [0x85, source << 4, 0, 0, a, b, c, d]
}

/// Loads the guard's programs onto the pinned maps, and puts them on the interface of that name; `stages` is where the
/// array is pinned by which its programs jump. They look up sockets whatever the mirror.
pub(in crate::datapath) fn post(
    settings: Settings,
    (name, link): (&str, Link),
    namespace: &NamespacePins,
    pins: &InterfacePins,
    stages: &Path,
) -> Result<(), DatapathError> {
    let settings = Settings {
        mirror: Mirror::Exact,
        ..settings
    };
    let datapath = &mut Datapath::load_guarded(settings, link, namespace, pins, stages)?;
    // The proof first: whoever is challenged has to be able to give it.
    let proof = load_proof(datapath)?;
    if let Ok(pinned) = PinnedLink::from_pin(pins.guard()) {
        let held = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(not_a_link)?;
        let id = proof.attach_to_link(held)?;
        // It is pinned still.
        drop(proof.take_link(id)?);
    } else {
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = proof.attach_with_options(name, TcAttachType::Ingress, first)?;
        let link = FdLink::try_from(proof.take_link(id)?).map_err(not_a_link)?;
        let path = pins.guard();
        link.pin(&path).map_err(DatapathError::pin(&path))?;
    }
    set_stages(datapath)
}

/// Loads the guard's program that takes proof.
pub(in crate::datapath) fn load_proof(
    datapath: &mut Datapath,
) -> Result<&mut SchedClassifier, DatapathError> {
    let proof = datapath.program_named::<SchedClassifier>(TC_GUARD)?;
    proof.load()?;
    Ok(proof)
}

/// Loads the guard's programs of XDP, and puts them where the other ones jump to them.
pub(in crate::datapath) fn set_stages(datapath: &mut Datapath) -> Result<(), DatapathError> {
    // The second one first: the other one jumps to it.
    for (stage, name) in [(CHALLENGE_STAGE, XDP_CHALLENGE), (GUARD_STAGE, XDP_GUARD)] {
        let program = datapath.program_named::<Xdp>(name)?;
        program.load()?;
        let program = program.fd()?.try_clone().map_err(ProgramError::IOError)?;
        datapath.set_stage(XDP_POLICY[1], stage, &program)?;
    }
    Ok(())
}

/// Takes the guard's programs from an interface.
pub(in crate::datapath) fn discharge(pins: &InterfacePins) -> Result<(), DatapathError> {
    if !pins.guard().exists() {
        return Ok(());
    }
    let mut stages = stages(&pins.stages())?;
    for stage in [GUARD_STAGE, CHALLENGE_STAGE] {
        let _ = stages.clear_index(&stage);
    }
    // Closing the last reference detaches at once.
    let link = PinnedLink::from_pin(pins.guard());
    let path = pins.guard();
    std::fs::remove_file(&path).map_err(DatapathError::io(&path))?;
    drop(link);
    Ok(())
}

fn stages(path: &Path) -> Result<ProgramArray<MapData>, DatapathError> {
    let [_, name] = XDP_POLICY;
    let map = map_from_pin(path, name)?;
    map.try_into().map_err(DatapathError::map(name))
}

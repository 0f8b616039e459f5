//! The object's programs: loading them, and the program arrays of their tail calls.

use aya::{
    Ebpf,
    maps::ProgramArray,
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use tfo_common::maps::{
    CHALLENGE_STAGE, GUARD_STAGE, POLICY_STAGE, TC_GUARD, TC_POLICY, TC_PROGRAM, XDP_CHALLENGE,
    XDP_GUARD, XDP_POLICY, XDP_PROGRAM,
};

use crate::{datapath::error::DatapathError, model::AttachMode};

/// The program array that the entry program of `mode` tail-calls through.
pub(super) const fn tail_calls(mode: AttachMode) -> &'static str {
    let [_, name] = match mode {
        AttachMode::Tc => TC_POLICY,
        _ => XDP_POLICY,
    };
    name
}

/// The XDP entry program; loads it and its policy program, unless they are loaded.
pub(super) fn load_xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    if find::<Xdp>(ebpf, XDP_PROGRAM)?.fd().is_err() {
        let [policy, array] = XDP_POLICY;
        find::<Xdp>(ebpf, XDP_PROGRAM)?.load()?;
        let policy = find::<Xdp>(ebpf, policy)?;
        policy.load()?;
        let policy = clone_fd(policy.fd()?)?;
        set_tail_call(ebpf, array, POLICY_STAGE, &policy)?;
    }
    find(ebpf, XDP_PROGRAM)
}

/// The TC entry program; loads it and its policy program, unless they are loaded.
pub(super) fn load_tc(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    if find::<SchedClassifier>(ebpf, TC_PROGRAM)?.fd().is_err() {
        let [policy, array] = TC_POLICY;
        find::<SchedClassifier>(ebpf, TC_PROGRAM)?.load()?;
        let policy = find::<SchedClassifier>(ebpf, policy)?;
        policy.load()?;
        let policy = clone_fd(policy.fd()?)?;
        set_tail_call(ebpf, array, POLICY_STAGE, &policy)?;
    }
    find(ebpf, TC_PROGRAM)
}

/// Loads the guard's TC program, which validates ACKs.
pub(super) fn load_guard_tc(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    let program = find::<SchedClassifier>(ebpf, TC_GUARD)?;
    program.load()?;
    Ok(program)
}

/// Loads the guard's XDP programs and enters them in the program array.
pub(super) fn load_guard_xdp(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    // The challenge first: the guard tail-calls it.
    for (index, name) in [(CHALLENGE_STAGE, XDP_CHALLENGE), (GUARD_STAGE, XDP_GUARD)] {
        let program = find::<Xdp>(ebpf, name)?;
        program.load()?;
        let program = clone_fd(program.fd()?)?;
        set_tail_call(ebpf, XDP_POLICY[1], index, &program)?;
    }
    Ok(())
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(DatapathError::Missing(name))?;
    Ok(program.try_into()?)
}

fn clone_fd(program: &ProgramFd) -> Result<ProgramFd, ProgramError> {
    program.try_clone().map_err(ProgramError::IOError)
}

fn set_tail_call(
    ebpf: &mut Ebpf,
    array: &'static str,
    index: u32,
    program: &ProgramFd,
) -> Result<(), DatapathError> {
    let map = ebpf.map_mut(array).ok_or(DatapathError::Missing(array))?;
    let mut map: ProgramArray<_> = map.try_into().map_err(DatapathError::map(array))?;
    map.set(index, program, 0)
        .map_err(DatapathError::map(array))
}

//! The object's programs: loading them, and the program arrays of their tail calls.

use aya::{
    Ebpf,
    maps::ProgramArray,
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use tfo_common::abi::{
    CHALLENGE_INDEX, EDGE_INDEX, GUARD_INDEX, POLICY_INDEX, TC_ACK, TC_CHALLENGE, TC_EDGE,
    TC_EGRESS, TC_GUARD, TC_POLICY, TC_PROGRAM, TC_TAIL_CALLS, TC_TRANSLATE, TRANSLATE_INDEX,
    XDP_CHALLENGE, XDP_EDGE, XDP_GUARD, XDP_POLICY, XDP_PROGRAM, XDP_TAIL_CALLS, XDP_TRANSLATE,
};

use crate::{datapath::error::DatapathError, model::AttachMode};

/// The program array that the entry program of `mode` tail-calls through.
pub(super) const fn tail_calls(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Tc => TC_TAIL_CALLS,
        _ => XDP_TAIL_CALLS,
    }
}

/// The XDP entry program; loads it and its policy program, unless they are loaded.
pub(super) fn load_xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    if find::<Xdp>(ebpf, XDP_PROGRAM)?.fd().is_err() {
        find::<Xdp>(ebpf, XDP_PROGRAM)?.load()?;
        let policy = find::<Xdp>(ebpf, XDP_POLICY)?;
        policy.load()?;
        let policy = clone_fd(policy.fd()?)?;
        set_tail_call(ebpf, XDP_TAIL_CALLS, POLICY_INDEX, &policy)?;
    }
    find(ebpf, XDP_PROGRAM)
}

/// The TC entry program; loads it and its policy program, unless they are loaded.
pub(super) fn load_tc(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    if find::<SchedClassifier>(ebpf, TC_PROGRAM)?.fd().is_err() {
        find::<SchedClassifier>(ebpf, TC_PROGRAM)?.load()?;
        let policy = find::<SchedClassifier>(ebpf, TC_POLICY)?;
        policy.load()?;
        let policy = clone_fd(policy.fd()?)?;
        set_tail_call(ebpf, TC_TAIL_CALLS, POLICY_INDEX, &policy)?;
    }
    find(ebpf, TC_PROGRAM)
}

/// Loads the TC program that validates ACKs.
pub(super) fn load_ack(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    let program = find::<SchedClassifier>(ebpf, TC_ACK)?;
    program.load()?;
    Ok(program)
}

/// Programs that are tail-called: the index in the program array, and the names of the one for XDP and of the one for TC.
type Callee = (u32, [&'static str; 2]);
const CHALLENGE: Callee = (CHALLENGE_INDEX, [XDP_CHALLENGE, TC_CHALLENGE]);
const GUARD: Callee = (GUARD_INDEX, [XDP_GUARD, TC_GUARD]);
const EDGE: Callee = (EDGE_INDEX, [XDP_EDGE, TC_EDGE]);
const TRANSLATE: Callee = (TRANSLATE_INDEX, [XDP_TRANSLATE, TC_TRANSLATE]);

/// Loads the guard's programs of `mode` and enters them in the program array.
pub(super) fn load_guard(ebpf: &mut Ebpf, mode: AttachMode) -> Result<(), DatapathError> {
    // The challenge first: the guard tail-calls it.
    load_callee(ebpf, mode, CHALLENGE)?;
    load_callee(ebpf, mode, GUARD)
}

/// Loads the programs of `mode` that guard hosts behind this one and enters them in the program array.
pub(super) fn load_edge(ebpf: &mut Ebpf, mode: AttachMode) -> Result<(), DatapathError> {
    // The challenge first: the edge tail-calls it.
    load_callee(ebpf, mode, CHALLENGE)?;
    load_callee(ebpf, mode, EDGE)
}

/// Loads the program of `mode` that translates own cookies and enters it in the program array.
pub(super) fn load_translate(ebpf: &mut Ebpf, mode: AttachMode) -> Result<(), DatapathError> {
    load_callee(ebpf, mode, TRANSLATE)
}

/// Loads the TC program that sees what the interface sends.
pub(super) fn load_egress(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    let program = find::<SchedClassifier>(ebpf, TC_EGRESS)?;
    program.load()?;
    Ok(program)
}

/// Loads a program of `mode`, unless it is loaded, and enters it in the program array at its index.
fn load_callee(
    ebpf: &mut Ebpf,
    mode: AttachMode,
    (index, [xdp, tc]): Callee,
) -> Result<(), DatapathError> {
    let program = if mode == AttachMode::Tc {
        let program = find::<SchedClassifier>(ebpf, tc)?;
        if program.fd().is_err() {
            program.load()?;
        }
        clone_fd(program.fd()?)?
    } else {
        let program = find::<Xdp>(ebpf, xdp)?;
        if program.fd().is_err() {
            program.load()?;
        }
        clone_fd(program.fd()?)?
    };
    set_tail_call(ebpf, tail_calls(mode), index, &program)
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

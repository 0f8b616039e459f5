//! The object's code, as the verifier of Linux 6.1 wants it: a loop closes by a jump, and no instruction falls
//! from its end into its head (`push_insn` in kernel/bpf/verifier.c).

use std::collections::HashSet;

use anyhow::{Result, ensure};
use aya_obj::{Object, generated::bpf_insn};
use tfo_userspace::datapath::OBJECT;

// Of an instruction's code: its class, and the jumps that differ from others.
const CLASS: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_32: u8 = 0x06;
const GO: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The first half of an instruction that takes two.
const WIDE: u8 = 0x18;

/// Where it can go on from `at`, in the verifier's order, and whether by a jump.
fn followers(code: &[bpf_insn], at: usize) -> Vec<(usize, bool)> {
    let instruction = &code[at];
    let target = (at + 1).wrapping_add_signed(instruction.off.into());
    match instruction.code {
        EXIT => vec![],
        GO => vec![(target, true)],
        CALL => vec![(at + 1, false)],
        WIDE => vec![(at + 2, false)],
        jump if matches!(jump & CLASS, JUMP | JUMP_32) => vec![(at + 1, true), (target, true)],
        _ => vec![(at + 1, false)],
    }
}

/// The heads that something falls into from their loop's end.
fn fallen_into(code: &[bpf_insn]) -> Vec<usize> {
    let mut heads = Vec::new();
    let (mut seen, mut open) = (HashSet::from([0]), HashSet::from([0]));
    let mut way = vec![(0, followers(code, 0))];
    while let Some((at, ahead)) = way.last_mut() {
        if ahead.is_empty() {
            open.remove(at);
            way.pop();
            continue;
        }
        let (next, jumps) = ahead.remove(0);
        if seen.insert(next) {
            open.insert(next);
            way.push((next, followers(code, next)));
        } else if open.contains(&next) && !jumps {
            heads.push(next);
        }
    }
    heads
}

#[test]
fn no_loop_is_closed_by_falling() -> Result<()> {
    let object = Object::parse(OBJECT)?;
    let mut loops = 0;
    for function in object.functions.values() {
        let code = &function.instructions;
        let heads = fallen_into(code);
        ensure!(heads.is_empty(), "{}: {heads:?}", function.name);
        loops += (0..code.len())
            .filter(|at| followers(code, *at).iter().any(|(next, _)| next <= at))
            .count();
    }
    ensure!(loops > 0, "the walk over options is a loop");
    Ok(())
}

#[test]
fn a_fall_into_a_loops_head_is_seen() {
    const MOVE: u8 = 0xb7;
    const GO_IF_EQUAL: u8 = 0x15;
    let instruction = |code, off| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off,
        imm: 0,
    };
    // Into the head first; its branch leads to the body, which stands before it.
    let code = [
        instruction(GO, 1),
        instruction(MOVE, 0),
        instruction(GO_IF_EQUAL, -2),
        instruction(EXIT, 0),
    ];
    assert_eq!(fallen_into(&code), [2]);
    let code = [
        instruction(MOVE, 0),
        instruction(GO_IF_EQUAL, -2),
        instruction(EXIT, 0),
    ];
    assert!(fallen_into(&code).is_empty());
}

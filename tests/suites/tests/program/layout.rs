//! Code layout. For the verifier of Linux 6.1, a loop must close with a jump, and no instruction may fall through from its
//! end into its head (`push_insn` in kernel/bpf/verifier.c). A tail call must be made by the program itself.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use aya_obj::{
    Object,
    generated::{bpf_func_id, bpf_insn},
};
use tfo_userspace::datapath::OBJECT;

// Parts of an opcode: the class, and the jumps that differ from others.
const CLASS: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_32: u8 = 0x06;
const GO: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The first half of a 16-byte instruction.
const WIDE: u8 = 0x18;

/// Successors of the instruction `at`, in the verifier's order; `true` for a jump.
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

/// Loop heads reached by fall-through from the loop's end.
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
    ensure!(loops > 0, "no loops: the option parser has one");
    Ok(())
}

/// One that a function of the program makes returns to the program, whose own result then counts.
#[test]
fn no_function_makes_a_tail_call() -> Result<()> {
    const TAIL_CALL: i32 = bpf_func_id::BPF_FUNC_tail_call as i32;
    let object = Object::parse(OBJECT)?;
    let mut by_programs = 0;
    for function in object.functions.values() {
        let calls = function.instructions.iter().filter(|instruction| {
            // Else the number is a function's.
            let is_helper = instruction.src_reg() == 0;
            instruction.code == CALL && is_helper && instruction.imm == TAIL_CALL
        });
        let count = calls.count();
        if object.programs.contains_key(&function.name) {
            by_programs += count;
        } else {
            ensure!(count == 0, "{} makes {count}", function.name);
        }
    }
    ensure!(
        by_programs > 0,
        "no tail calls: the entry programs make some"
    );
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
    // Fall-through into the head; a jump leads to the body, which precedes it.
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

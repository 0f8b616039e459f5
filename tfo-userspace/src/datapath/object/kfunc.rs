//! The kfunc calls. aya 0.14 cannot relocate one: the object has placeholder calls, into which this writes the
//! kfunc's BTF ID.

use std::fs;

use object::{File, Object as _, ObjectSection as _, SectionKind};
use tfo_common::abi::{ASSIGN_CALL, ASSIGN_KFUNC, CAST_CALL, CAST_KFUNC, TC_ACK};

use crate::{datapath::error::DatapathError, kernel::types};

/// `src_reg` of a kfunc call.
const BPF_PSEUDO_KFUNC_CALL: u8 = 2;
/// 0 where programs are interpreted: those cannot call kfuncs.
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// `object`, with its one placeholder of [`ASSIGN_KFUNC`] replaced by a call.
///
/// # Errors
///
/// [`DatapathError::NoKfunc`] where the kernel lacks the kfunc; [`DatapathError::Placeholder`] where the object
/// does not have exactly one placeholder.
pub(super) fn patch_assign(object: &[u8]) -> Result<Vec<u8>, DatapathError> {
    let id = types::kfunc(ASSIGN_KFUNC)
        .map_err(|error| error.to_string())
        .and_then(|id| id.ok_or_else(|| format!("it has no {ASSIGN_KFUNC}")))
        .map_err(|cause| DatapathError::NoKfunc(format!("{cause}, which Linux has since 6.9")))?;
    match placeholders(object, ASSIGN_CALL)?[..] {
        [offset] => Ok(patch(object, &[offset], id)),
        ref found => Err(DatapathError::Placeholder(found.len())),
    }
}

/// `object`, with all placeholders of [`CAST_KFUNC`] replaced by calls; `None` where the kernel lacks it (before
/// Linux 6.2) or has no JIT.
///
/// # Errors
///
/// [`DatapathError::Missing`] where this is no object.
pub(super) fn patch_casts(object: &[u8]) -> Result<Option<Vec<u8>>, DatapathError> {
    let interpreted = fs::read_to_string(JIT).is_ok_and(|value| value.trim() == "0");
    let Some(id) = types::kfunc(CAST_KFUNC)
        .ok()
        .flatten()
        .filter(|_| !interpreted)
    else {
        return Ok(None);
    };
    Ok(Some(patch(object, &placeholders(object, CAST_CALL)?, id)))
}

fn patch(object: &[u8], offsets: &[usize], id: u32) -> Vec<u8> {
    let mut object = object.to_vec();
    for offset in offsets {
        object[*offset..*offset + 8].copy_from_slice(&call(BPF_PSEUDO_KFUNC_CALL, id));
    }
    object
}

/// File offsets of the placeholder calls with this number.
fn placeholders(object: &[u8], number: u32) -> Result<Vec<usize>, DatapathError> {
    let placeholder = call(0, number);
    let file = File::parse(object).map_err(|_| DatapathError::Missing(TC_ACK))?;
    let mut found = Vec::new();
    for section in file.sections().filter(|it| it.kind() == SectionKind::Text) {
        let Some((start, _)) = section.file_range() else {
            continue;
        };
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let (instructions, _) = section.data().unwrap_or_default().as_chunks::<8>();
        let hits = instructions.iter().enumerate();
        let hits = hits.filter(|(_, instruction)| **instruction == placeholder);
        found.extend(hits.map(|(index, _)| start + 8 * index));
    }
    Ok(found)
}

/// `BPF_JMP | BPF_CALL` with this immediate.
fn call(src_reg: u8, immediate: u32) -> [u8; 8] {
    let [a, b, c, d] = immediate.to_ne_bytes();
    [0x85, src_reg << 4, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::{super::image::OBJECT, *};

    #[test]
    fn calls_are_patched_and_nothing_else() {
        for number in [ASSIGN_CALL, CAST_CALL] {
            let found = placeholders(OBJECT, number).unwrap();
            assert!(!found.is_empty(), "{number}");
            let patched = patch(OBJECT, &found, 0x0102_0304);
            let changed = OBJECT.iter().zip(&patched).filter(|(a, b)| a != b);
            assert!(patched.len() == OBJECT.len() && changed.count() <= 5 * found.len());
            assert!(placeholders(&patched, number).unwrap().is_empty());
        }
    }

    #[test]
    fn one_call_opens_connections() {
        assert_eq!(placeholders(OBJECT, ASSIGN_CALL).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(placeholders(b"no ELF file", CAST_CALL).is_err());
    }
}

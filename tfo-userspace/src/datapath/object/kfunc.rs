//! The guard's kfunc call. aya 0.14 cannot relocate one: the object has a placeholder call, into which this
//! writes the kfunc's BTF ID.

use aya::Btf;
use aya_obj::btf::BtfKind;
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _};
use tfo_common::abi::{ASSIGN_CALL, ASSIGN_KFUNC, TC_GUARD};

use crate::datapath::error::DatapathError;

/// `src_reg` of a kfunc call.
const BPF_PSEUDO_KFUNC_CALL: u8 = 2;
/// The section of functions that programs call; the compiler may move a program's body there.
const SUBPROGRAMS: &str = ".text";

/// `object`, with the placeholder call in [`TC_GUARD`] replaced by a call of the kfunc [`ASSIGN_KFUNC`].
///
/// # Errors
///
/// [`DatapathError::NoKfunc`] where the kernel lacks the kfunc; [`DatapathError::Placeholder`] where the object
/// does not have exactly one placeholder.
pub(super) fn patch_kfunc(object: &[u8]) -> Result<Vec<u8>, DatapathError> {
    let no_kfunc = |cause: String| DatapathError::NoKfunc(cause);
    let types = Btf::from_sys_fs().map_err(|error| no_kfunc(error.to_string()))?;
    let id = types
        .id_by_type_name_kind(ASSIGN_KFUNC, BtfKind::Func)
        .map_err(|_| {
            no_kfunc(format!(
                "it has no {ASSIGN_KFUNC}, which Linux has since 6.9"
            ))
        })?;
    patch(object, id)
}

fn patch(object: &[u8], id: u32) -> Result<Vec<u8>, DatapathError> {
    let placeholder = call(0, ASSIGN_CALL);
    let mut found = Vec::new();
    for (start, len) in code(object).ok_or(DatapathError::Missing(TC_GUARD))? {
        let section = object.get(start..start + len);
        let (instructions, _) = section.unwrap_or_default().as_chunks::<8>();
        let hits = instructions.iter().enumerate();
        let hits = hits.filter(|(_, instruction)| **instruction == placeholder);
        found.extend(hits.map(|(index, _)| start + 8 * index));
    }
    let [offset] = found[..] else {
        return Err(DatapathError::Placeholder(found.len()));
    };
    let mut object = object.to_vec();
    object[offset..offset + 8].copy_from_slice(&call(BPF_PSEUDO_KFUNC_CALL, id));
    Ok(object)
}

/// File offsets and lengths of the sections that [`TC_GUARD`] can run: its own, and that of subprograms.
fn code(object: &[u8]) -> Option<Vec<(usize, usize)>> {
    let file = File::parse(object).ok()?;
    let program = file.symbol_by_name(TC_GUARD)?.section_index()?;
    let subprograms = file.section_by_name(SUBPROGRAMS);
    let sections = [file.section_by_index(program).ok(), subprograms];
    let ranges = sections.iter().flatten().filter_map(|section| {
        let (start, len) = section.file_range()?;
        Some((start.try_into().ok()?, len.try_into().ok()?))
    });
    Some(ranges.collect())
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
    fn one_call_is_patched_and_nothing_else() {
        let patched = patch(OBJECT, 0x0102_0304).unwrap();
        let changed = OBJECT.iter().zip(&patched).filter(|(a, b)| a != b);
        assert!(patched.len() == OBJECT.len() && changed.count() <= 5);
        let again = patch(&patched, 1).unwrap_err();
        assert!(matches!(again, DatapathError::Placeholder(0)), "{again}");
    }

    #[test]
    fn a_second_placeholder_is_refused() {
        let mut object = OBJECT.to_vec();
        let sections = code(&object).unwrap();
        let placeholder = call(0, ASSIGN_CALL);
        let (other, _) = *sections
            .iter()
            .find(|(start, _)| object[*start..*start + 8] != placeholder)
            .unwrap();
        object[other..other + 8].copy_from_slice(&placeholder);
        let error = patch(&object, 1).unwrap_err();
        assert!(matches!(error, DatapathError::Placeholder(2)), "{error}");
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(patch(b"no ELF file", 1).is_err());
    }
}

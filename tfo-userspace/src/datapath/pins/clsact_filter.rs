//! The place of a clsact filter, where the kernel has no TCX links (before Linux 6.6).
//!
//! No link holds such a filter: it stays until it is removed. So its place is pinned before it is made, with
//! the ids of the programs that it may have. A program id that is not loaded is of no filter.

use std::{io, path::Path};

use aya::programs::loaded_programs;

use super::value::{read_value, write_value};
use crate::{
    datapath::error::DatapathError,
    kernel::tc::{self, Direction},
};

const NAME: &str = "filter";
/// The filter handle, in ASCII "tfo", by which it is told from other tools' filters.
pub(crate) const CLSACT_HANDLE: u32 = 0x0074_666f;

/// The pinned record of a filter.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ClsactFilter {
    /// The interface's index.
    pub(crate) index: u32,
    pub(crate) priority: u32,
    /// 1 where tfo made the qdisc.
    pub(crate) made_qdisc: u32,
    pub(crate) program_id: u32,
    /// The program that is to replace the other one, or 0.
    pub(crate) next_program_id: u32,
    /// 1 where it sees the packets that leave.
    egress: u32,
}

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are of its type.
unsafe impl aya::Pod for ClsactFilter {}

impl ClsactFilter {
    /// A filter that is to be made, with the qdisc, at a priority not yet known.
    pub(crate) const fn planned(index: u32, program_id: u32, direction: Direction) -> Self {
        Self {
            index,
            priority: 0,
            made_qdisc: 1,
            program_id,
            next_program_id: 0,
            egress: matches!(direction, Direction::Egress) as u32,
        }
    }

    /// The packets that it sees.
    pub(crate) const fn direction(&self) -> Direction {
        if self.egress == 0 {
            Direction::Ingress
        } else {
            Direction::Egress
        }
    }

    /// `None` where nothing is pinned at `path`: the program has a link.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, DatapathError> {
        path.exists().then(|| read_value(path, NAME)).transpose()
    }

    /// Pins it at `path`.
    pub(crate) fn write(self, path: &Path) -> Result<(), DatapathError> {
        write_value(path, NAME, self)
    }

    /// The filter's program id; `None` where the calling thread's namespace has no such filter.
    pub(crate) fn program(&self) -> io::Result<Option<u32>> {
        Ok(self.find()?.and_then(|filter| filter.program_id))
    }

    /// Its program is loaded, and so the filter exists in some namespace. `true` where the kernel does not tell
    /// (it takes `CAP_SYS_ADMIN`).
    pub(crate) fn may_be_alive(&self) -> bool {
        let mut loaded = loaded_programs();
        loaded.any(|program| program.map_or(true, |program| self.may_have(program.id())))
    }

    fn may_have(&self, program_id: u32) -> bool {
        program_id != 0 && [self.program_id, self.next_program_id].contains(&program_id)
    }

    fn find(&self) -> io::Result<Option<tc::Filter>> {
        let filters = tc::filters(self.index, self.direction())?;
        Ok(filters.into_iter().find(|filter| {
            filter.handle == CLSACT_HANDLE
                && u32::from(filter.priority) == self.priority
                && filter.program_id.is_some_and(|id| self.may_have(id))
        }))
    }

    /// Removes the filter, if the calling thread's namespace has it and its program is tfo's; then the qdisc, if
    /// tfo made it and it has no other filter.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let Some(filter) = self.find()? else {
            return Ok(());
        };
        tc::remove_filter(self.index, self.direction(), &filter)?;
        if self.made_qdisc == 1 {
            tc::remove_unused_clsact(self.index)?;
        }
        Ok(())
    }
}

//! Our program as a filter of the clsact qdisc, where the kernel has no TCX links (before Linux 6.6).
//!
//! No link holds such a filter: it stays until it is removed. So its place is pinned before it is made, and
//! with it the ids of the programs that it may have: an id that is not loaded any more is of no filter.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError, TcAttachType, loaded_programs,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};

use super::{Datapath, DatapathError, value};
use crate::kernel::{link::Interface, tc};

const NAME: &str = "filter";
/// The filter's, so that it is not taken for another's: "tfo".
const HANDLE: u32 = 0x0074_666f;
/// Places that are tried: those of filters of another kind cannot be shared.
const PRIORITIES: std::ops::RangeInclusive<u16> = 1..=16;

/// Where the filter is.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Filter {
    /// The interface's index.
    pub(super) index: u32,
    priority: u32,
    /// 1 where we made the qdisc.
    made_qdisc: u32,
    program_id: u32,
    /// The program that is to take its place, or 0.
    next_program_id: u32,
    reserved: u32,
}

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Filter {}

impl Filter {
    /// Reads it from `path`; `None` where the program is no filter.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, DatapathError> {
        path.exists().then(|| value::read(path, NAME)).transpose()
    }

    fn write(self, path: &Path) -> Result<(), DatapathError> {
        value::write(path, NAME, self)
    }

    /// The program that it has in the calling thread's namespace, if it is there.
    pub(super) fn program(&self) -> io::Result<Option<u32>> {
        Ok(self.find()?.and_then(|filter| filter.program_id))
    }

    /// Whether its program is loaded still, and so the filter there, in whatever namespace. Where the kernel
    /// does not say (it takes `CAP_SYS_ADMIN`), it is.
    pub(super) fn may_be_alive(&self) -> bool {
        let mut loaded = loaded_programs();
        loaded.any(|program| program.map_or(true, |program| self.may_have(program.id())))
    }

    fn may_have(&self, program_id: u32) -> bool {
        program_id != 0 && [self.program_id, self.next_program_id].contains(&program_id)
    }

    /// The filter as the kernel shows it.
    fn find(&self) -> io::Result<Option<tc::Filter>> {
        Ok(tc::filters(self.index)?.into_iter().find(|filter| {
            filter.handle == HANDLE
                && u32::from(filter.priority) == self.priority
                && filter.program_id.is_some_and(|id| self.may_have(id))
        }))
    }

    /// Attaches the TC program as the first filter that the others allow, and pins its place at `path`. The
    /// outer error is ours, the inner one the kernel's word.
    pub(super) fn attach(
        datapath: &mut Datapath,
        interface: &Interface,
        path: &Path,
    ) -> Result<Result<u32, ProgramError>, DatapathError> {
        let program = datapath.classifier_mut()?;
        let program_id = program.info()?.id();
        let mut filter = Self {
            index: interface.index,
            priority: 0,
            made_qdisc: 1,
            program_id,
            next_program_id: 0,
            reserved: 0,
        };
        filter.write(path)?;
        match qdisc_add_clsact(&interface.name) {
            Err(error) if is(&error, libc::EEXIST) => filter.made_qdisc = 0,
            Err(error) => return Ok(Err(error.into())),
            Ok(()) => {}
        }
        let mut result = Err(ProgramError::NotLoaded);
        for priority in PRIORITIES {
            filter.priority = priority.into();
            filter.write(path)?;
            let options = TcAttachOptions::Netlink(NlOptions {
                priority,
                handle: HANDLE.into(),
                classid: None,
            });
            let ingress = TcAttachType::Ingress;
            match program.attach_with_options(&interface.name, ingress, options) {
                Ok(id) => {
                    // Dropping it would detach it: nothing else holds it.
                    std::mem::forget(program.take_link(id)?);
                    return Ok(Ok(program_id));
                }
                Err(error) => result = Err(error),
            }
        }
        if filter.made_qdisc == 1 {
            let _ = tc::remove_unused_clsact(interface.index);
        }
        Ok(result)
    }

    /// Puts the TC program in the place of the filter's, in one step, and moves what is pinned of it between
    /// these paths. Gives the program's id.
    pub(super) fn replace(
        mut self,
        datapath: &mut Datapath,
        name: &str,
        [from, to]: &[PathBuf; 2],
    ) -> Result<u32, DatapathError> {
        let program = datapath.classifier_mut()?;
        let program_id = program.info()?.id();
        let present = self.program().map_err(ProgramError::IOError)?;
        self.program_id = present.unwrap_or_default();
        self.next_program_id = program_id;
        self.write(from)?;
        let (ingress, handle) = (TcAttachType::Ingress, TcHandle::from(HANDLE));
        let priority = self.priority as u16;
        let link = SchedClassifierLink::attached(name, ingress, priority, handle, None);
        let id = program.attach_to_link(link.map_err(ProgramError::IOError)?)?;
        // As above.
        std::mem::forget(program.take_link(id)?);
        self.program_id = program_id;
        self.next_program_id = 0;
        self.write(to)?;
        if from != to {
            fs::remove_file(from).map_err(DatapathError::io(from))?;
        }
        Ok(program_id)
    }

    /// Removes the filter, if it is in the calling thread's namespace and still ours, and the qdisc if we
    /// made it and it has nothing else.
    pub(super) fn remove(&self) -> io::Result<()> {
        let Some(filter) = self.find()? else {
            return Ok(());
        };
        tc::remove_filter(self.index, &filter)?;
        if self.made_qdisc == 1 {
            tc::remove_unused_clsact(self.index)?;
        }
        Ok(())
    }
}

fn is(error: &TcError, number: i32) -> bool {
    matches!(error, TcError::NetlinkError(error) if error.raw_os_error() == Some(number))
}

//! State of a namespace that is pinned between two runs of the controller.

use super::current::Namespace;
use crate::{
    datapath::{
        error::DatapathError,
        pins::{read_value, write_value},
    },
    kernel::netstat::KernelCounters,
};

const NAME: &str = "state";

/// The pinned state.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct State {
    /// The kernel's counters when the data path's stood at 0.
    pub(super) baseline: KernelCounters,
    /// The time of the last change of the keys, in seconds since 1970; 0 where unknown.
    pub(super) keys_since: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a state.
unsafe impl aya::Pod for State {}

impl State {
    pub(super) fn read(namespace: &Namespace) -> Result<Self, DatapathError> {
        read_value(&namespace.pins().state(), NAME)
    }

    pub(super) fn write(self, namespace: &Namespace) -> Result<(), DatapathError> {
        write_value(&namespace.pins().state(), NAME, self)
    }
}

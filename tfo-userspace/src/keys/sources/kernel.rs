//! The keys that another program writes into `net.ipv4.tcp_fastopen_key`.

use crate::{
    kernel::clock::Now,
    keys::{
        schedule::KeyPlan,
        source::{Authority, KeySource},
    },
    model::KeyPair,
};

/// The kernel's own keys: the data path accepts whatever the kernel holds.
pub struct KernelSource;

impl KeySource for KernelSource {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn plan(&self, _now: Now, kernel: Option<&KeyPair>) -> Result<Option<KeyPlan>, String> {
        Ok(kernel.map(KeyPlan::unstaged))
    }

    fn authority(&self) -> Authority {
        Authority::Anyone
    }

    fn adopt(&mut self, _plan: &KeyPlan, _now: Now) -> bool {
        true
    }
}

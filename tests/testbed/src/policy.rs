//! Policies and drift of a testbed's server, through the library instead of the `tfo` command.

use anyhow::Result;
use tfo_common::policy::{Action, Class};
use tfo_userspace::{
    datapath::{Drift, Namespace},
    model::{Policy, PortPolicy},
};

use crate::{netns::Netns, testbed::Testbed};

impl Testbed {
    /// Sets the server's policy; `None` removes it.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn set_policy(&self, policy: Option<Policy>) -> Result<()> {
        put_in_force(&self.pair.server, policy)
    }

    /// Counters of the data path and of the server's kernel.
    ///
    /// # Errors
    ///
    /// The pinned maps or the kernel's counters cannot be read.
    pub fn drift(&self) -> Result<Drift> {
        Ok(self.pair.server.run(|| Namespace::current()?.drift())?)
    }
}

/// Sets the policy of a namespace; `None` removes it.
///
/// # Errors
///
/// The kernel refuses it.
pub fn put_in_force(netns: &Netns, policy: Option<Policy>) -> Result<()> {
    netns.run(move || {
        let namespace = Namespace::current()?;
        namespace.policy().change()?.apply(policy.as_ref())?;
        Ok(())
    })
}

/// A policy with one rule for every port.
pub fn everywhere(default: PortPolicy) -> Policy {
    Policy {
        default,
        ..Policy::default()
    }
}

/// A rule with `action` for SYNs of `class`; other classes pass.
pub fn rule(class: Class, action: Action) -> PortPolicy {
    let mut rule = PortPolicy::default();
    rule.actions[class as usize] = action;
    rule
}

//! Policies in force at a testbed's server, and what they counted.

use anyhow::Result;
use tfo_common::policy::{Action, Class};
use tfo_userspace::{
    datapath::{Drift, Namespace},
    model::{Policy, PortPolicy},
};

use crate::{netns::Netns, testbed::Testbed};

impl Testbed {
    /// Puts a policy in force at the server; `None` for none.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn set_policy(&self, policy: Option<Policy>) -> Result<()> {
        put_in_force(&self.pair.server, policy)
    }

    /// What the data path and the server's kernel have counted, without starting `tfo`.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn drift(&self) -> Result<Drift> {
        Ok(self.pair.server.run(|| Namespace::current()?.drift())?)
    }
}

/// Puts a policy in force in a namespace; `None` for none.
///
/// # Errors
///
/// Where the kernel refuses it.
pub fn put_in_force(netns: &Netns, policy: Option<Policy>) -> Result<()> {
    netns.run(move || {
        let namespace = Namespace::current()?;
        namespace.policy().change()?.apply(policy.as_ref())?;
        Ok(())
    })
}

/// The same at every port.
pub fn everywhere(default: PortPolicy) -> Policy {
    Policy {
        default,
        ..Policy::default()
    }
}

/// `action` for SYNs of `class`; all others pass.
pub fn rule(class: Class, action: Action) -> PortPolicy {
    let mut rule = PortPolicy::default();
    rule.actions[class as usize] = action;
    rule
}

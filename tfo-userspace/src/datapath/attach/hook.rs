//! The hook of an interface's data path: the cheapest that can do what is configured.

use std::{collections::BTreeMap, fmt};

use super::guard_fitness::unfit_in_native;
use crate::{
    datapath::namespace::{AttachedInterface, Namespace, NamespaceError},
    kernel::{
        device::DeviceFacts,
        link::{self, Interface},
        native_xdp::NativeFacts,
    },
    model::{AttachMode, ModeChoice},
};

/// The task of a namespace's data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Count SYNs, or rewrite their options.
    Observe,
    /// Drop SYNs.
    Drop,
    /// Answer SYNs.
    Answer,
}

impl Job {
    /// As the policy and the guard in force have it.
    pub(super) fn of(namespace: &Namespace) -> Result<Self, NamespaceError> {
        let state = namespace.guard().state()?;
        if state.is_some_and(|state| state.guard.answers()) {
            return Ok(Self::Answer);
        }
        let drops = namespace.policy().summary()?.is_some_and(|it| it.drops);
        Ok(if drops { Self::Drop } else { Self::Observe })
    }
}

/// Why [`ModeChoice::Auto`] chose a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookReason {
    /// The operator asked for this mode.
    Asked,
    /// It only counts.
    Observes,
    /// It drops or answers SYNs.
    Enforces,
    /// It drops or answers SYNs, but native XDP cannot be had, or costs too much.
    NotNative(String),
}

impl fmt::Display for HookReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as asked for"),
            Self::Observes => f.write_str("it drops and answers nothing, and costs least there"),
            Self::Enforces => {
                f.write_str("it drops or answers SYNs, at the least cost before the network stack")
            }
            Self::NotNative(reason) => write!(f, "not native XDP: {reason}"),
        }
    }
}

/// Why the programs on `interfaces` run in their modes, by index. One that is gone meanwhile has no entry.
///
/// # Errors
///
/// [`NamespaceError`] where a map or the interfaces cannot be read.
pub async fn hook_reasons(
    namespace: &Namespace,
    interfaces: &[AttachedInterface],
) -> Result<BTreeMap<u32, HookReason>, NamespaceError> {
    let plans = plans(namespace, interfaces).await?.into_iter();
    Ok(plans
        .map(|(interface, plan)| (interface.index, plan.reason))
        .collect())
}

/// The plans for those of `interfaces` that are attached here.
pub(super) async fn plans<'a>(
    namespace: &Namespace,
    interfaces: &'a [AttachedInterface],
) -> Result<Vec<(&'a AttachedInterface, Plan)>, NamespaceError> {
    let (job, present) = (Job::of(namespace)?, link::list().await?);
    let attached = interfaces.iter().filter(|each| each.mode.is_some());
    let plans = attached.filter_map(|attached| {
        let interface = present.iter().find(|each| each.index == attached.index)?;
        let own = Some(attached.program_id);
        Some((attached, Plan::of(attached.choice, job, interface, own)))
    });
    Ok(plans.collect())
}

/// The modes to try, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) modes: &'static [AttachMode],
    pub(super) reason: HookReason,
}

impl Plan {
    /// The plan for `interface`. `own` is the id of `tfo`'s program there.
    pub(super) fn of(
        choice: ModeChoice,
        job: Job,
        interface: &Interface,
        own: Option<u32>,
    ) -> Self {
        Self::decide(choice, job, || against_native(job, interface, own))
    }

    fn decide(
        choice: ModeChoice,
        job: Job,
        against_native: impl FnOnce() -> Option<String>,
    ) -> Self {
        use AttachMode::{Generic, Native, Tc};
        let (modes, reason): (&'static [AttachMode], _) = match (choice, job) {
            (ModeChoice::Native, _) => (&[Native], HookReason::Asked),
            (ModeChoice::Generic, _) => (&[Generic], HookReason::Asked),
            (ModeChoice::Tc, _) => (&[Tc], HookReason::Asked),
            (ModeChoice::Auto, Job::Observe) => (&[Tc, Generic], HookReason::Observes),
            (ModeChoice::Auto, _) => match against_native() {
                None => (&[Native, Tc, Generic], HookReason::Enforces),
                Some(reason) => (&[Tc, Generic], HookReason::NotNative(reason)),
            },
        };
        Self { modes, reason }
    }
}

/// Returns the reason against native XDP on `interface`, if there is one.
fn against_native(job: Job, interface: &Interface, own: Option<u32>) -> Option<String> {
    let Interface {
        index, name, mtu, ..
    } = interface;
    if let Some(xdp) = interface.xdp.filter(|xdp| Some(xdp.program_id) != own) {
        let id = xdp.program_id;
        return Some(format!("another XDP program is attached (id {id})"));
    }
    let native = NativeFacts::read(*index, name, *mtu);
    native.refusal().or_else(|| native.loss()).or_else(|| {
        if job != Job::Answer {
            return None;
        }
        unfit_in_native(name, &DeviceFacts::read(*index, name).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_follows_the_job() {
        use AttachMode::{Generic, Native, Tc};
        let decide = |choice, job, against: Option<&str>| {
            let plan = Plan::decide(choice, job, || against.map(str::to_owned));
            (plan.modes, plan.reason)
        };
        let auto = ModeChoice::Auto;
        assert_eq!(
            decide(auto, Job::Observe, None),
            (&[Tc, Generic][..], HookReason::Observes)
        );
        for job in [Job::Drop, Job::Answer] {
            assert_eq!(
                decide(auto, job, None),
                (&[Native, Tc, Generic][..], HookReason::Enforces)
            );
            let (modes, reason) = decide(auto, job, Some("no native XDP"));
            assert_eq!(modes, [Tc, Generic]);
            assert!(reason.to_string().contains("no native XDP"));
            for (choice, mode) in [
                (ModeChoice::Native, Native),
                (ModeChoice::Generic, Generic),
                (ModeChoice::Tc, Tc),
            ] {
                let pinned = decide(choice, job, Some("anything"));
                assert_eq!(pinned, (&[mode][..], HookReason::Asked));
            }
        }
    }
}

//! Interfaces that read through tunnels, and devices at which tunnels end: a SYN is counted at one of them.

use super::{error::AttachError, joined::LeftOut};
use crate::{
    datapath::namespace::{AttachedInterface, Namespace, NamespaceError},
    kernel::link::Interface,
    model::{Decap, Settings},
};
use tfo_common::wire::Link;

/// What else is attached in the namespace, as far as tunnels may pass both.
#[derive(Default)]
pub(super) struct Others {
    /// Interfaces that read through tunnels of IP in IP, and what they read.
    readers: Vec<(String, Decap)>,
    /// Devices at which such tunnels end.
    ends: Vec<String>,
}

impl Others {
    /// Those of `attached` but interface `index`. `present`: all interfaces.
    pub(super) fn of(attached: &[AttachedInterface], present: &[Interface], index: u32) -> Self {
        let mut others = Self::default();
        let here = attached.iter().filter(|it| it.mode.is_some());
        for interface in here.filter(|it| it.index != index) {
            let found = present.iter().find(|it| it.index == interface.index);
            if found.is_some_and(|it| it.ends_ip_tunnels) {
                others.ends.push(interface.label());
            }
            if interface.decap.meets_ip_devices() {
                others.readers.push((interface.label(), interface.decap));
            }
        }
        others
    }

    /// Refuses `settings` on `interface` where a SYN would be counted twice, or no tunnel can be read.
    pub(super) fn check(
        &self,
        interface: &Interface,
        settings: &Settings,
    ) -> Result<(), AttachError> {
        let name = || interface.name.clone();
        if let Some((reader, decap)) = self.readers.first()
            && interface.ends_ip_tunnels
        {
            return Err(AttachError::ReadBefore {
                interface: name(),
                reader: reader.clone(),
                decap: Box::new(*decap),
            });
        }
        if !settings.decap.is_on() {
            return Ok(());
        }
        if interface.link == Ok(Link::None) {
            return Err(AttachError::DecapInside { interface: name() });
        }
        match self.ends.first() {
            Some(device) if settings.decap.meets_ip_devices() => Err(AttachError::CountedBehind {
                interface: name(),
                device: device.clone(),
                decap: Box::new(settings.decap),
            }),
            _ => Ok(()),
        }
    }
}

/// Interfaces of the namespace where SYNs in tunnels go unchallenged, though there is a guard.
///
/// # Errors
///
/// [`NamespaceError`] where pins, maps or interfaces cannot be read.
pub async fn unchallenged_tunnels(namespace: &Namespace) -> Result<Vec<LeftOut>, NamespaceError> {
    if namespace.guard().state()?.is_none() {
        return Ok(Vec::new());
    }
    let interfaces = namespace.interfaces().await?.into_iter();
    let reading = interfaces.filter(|it| it.mode.is_some() && it.decap.is_on());
    Ok(reading
        .map(|it| LeftOut {
            interface: it.label(),
            reason: format!(
                "SYNs in the tunnels that it reads through ({}) are not challenged and go on to the kernel: attach to the device \
                 at which the tunnels end instead of --decap, where the guard challenges them",
                it.decap
            ),
        })
        .collect())
}

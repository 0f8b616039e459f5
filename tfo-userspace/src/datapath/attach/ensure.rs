//! Attaching to an interface, or bringing what is attached up to date.

use super::{
    error::AttachError,
    outcome::{Attached, Ensured},
    transaction::{AttachTransaction, Found, OnStray},
};
use crate::{
    datapath::namespace::{AttachedInterface, Namespace},
    model::{AttachMode, ModeChoice, Settings},
};

/// Attaches the data path to the interface `name` of the calling thread's namespace, with the kernel's keys; where
/// the kernel has none, both get a random one. Program, link and maps are pinned, and outlive the process.
///
/// # Errors
///
/// [`AttachError`]; nothing is left behind then.
pub async fn attach(
    namespace: &Namespace,
    name: &str,
    choice: ModeChoice,
    settings: Settings,
) -> Result<Attached, AttachError> {
    let transaction = AttachTransaction::begin(namespace, name, OnStray::Refuse).await?;
    transaction.end(match transaction.found() {
        Some(found) => Err(transaction.already_attached(&found)),
        None => transaction.attach(choice, settings),
    })
}

/// As [`attach`], but where `tfo` is attached already, replaces a program of another build or with other settings, moves one of
/// another mode, and replaces one that came with the interface from another network namespace. With `None` for the mode, it
/// stays, or follows policy and guard if it was [`ModeChoice::Auto`].
/// A replacement is one step: no packet goes uncounted, and counters and keys stay. Only the counters of another layout
/// version start at 0.
///
/// # Errors
///
/// [`AttachError`]; what was attached before stays attached.
pub async fn ensure(
    namespace: &Namespace,
    name: &str,
    choice: Option<ModeChoice>,
    settings: Settings,
) -> Result<Ensured, AttachError> {
    let (_, ensured) = ensure_indexed(namespace, name, choice, settings).await?;
    Ok(ensured)
}

/// As [`ensure`], and gives the index of the interface that has the name now: it may be another one than at the last
/// list.
pub(super) async fn ensure_indexed(
    namespace: &Namespace,
    name: &str,
    choice: Option<ModeChoice>,
    settings: Settings,
) -> Result<(u32, Ensured), AttachError> {
    let transaction = AttachTransaction::begin(namespace, name, OnStray::Remove).await?;
    let index = transaction.interface.index;
    let ensured = transaction.end(match transaction.found() {
        None => {
            let attached = transaction.attach(choice.unwrap_or_default(), settings);
            attached.map(Ensured::Attached)
        }
        Some(Found::Ours(ours, mode)) => {
            transaction
                .keep_or_change(ours, mode, choice, settings)
                .await
        }
        Some(Found::Other(other, _, mode)) => {
            let choice = choice.unwrap_or_else(|| mode.into());
            let upgraded = transaction.migrate(other, mode, choice, settings);
            upgraded.map(Ensured::Upgraded)
        }
    })?;
    Ok((index, ensured))
}

impl AttachTransaction<'_> {
    /// Moves a program of this layout version to another hook and replaces it, where that is called for.
    async fn keep_or_change(
        &self,
        ours: &AttachedInterface,
        mode: AttachMode,
        choice: Option<ModeChoice>,
        settings: Settings,
    ) -> Result<Ensured, AttachError> {
        let choice = choice.unwrap_or(ours.choice);
        let moved = self.change_hook(ours, mode, choice).await?;
        let mode = moved.as_ref().map_or(mode, |moved| moved.to);
        let ensured = self.keep_or_upgrade(ours, mode, choice, settings)?;
        Ok(match (moved, ensured) {
            (Some(moved), Ensured::Kept(_)) => Ensured::Moved(moved),
            (_, ensured) => ensured,
        })
    }
}

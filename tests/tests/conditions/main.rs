//! What stands between a SYN and Fast Open, condition by condition on the wire: crafted SYNs to real
//! listeners, with `tfo` on the interface. [`table`] says what the kernel counts and answers; `tfo` has
//! to count the same, and to name one reason.

mod scene;
#[rustfmt::skip]
mod table;

use anyhow::{Context as _, Result};
use tfo_tests::veth::Family;

use crate::{scene::Scene, table::TABLE};

/// Runs the whole table for a client of one family and listeners of another.
fn check(client: Family, listener: Family) -> Result<()> {
    let mut scene = Scene::new(client, listener)?;
    for condition in TABLE {
        scene
            .check(condition)
            .with_context(|| format!("{client}: {}", condition.name))?;
    }
    Ok(())
}

#[test]
fn conditions_v4() -> Result<()> {
    check(Family::V4, Family::V4)
}

#[test]
fn conditions_v6() -> Result<()> {
    check(Family::V6, Family::V6)
}

#[test]
fn conditions_v4_to_a_dual_stack_listener() -> Result<()> {
    check(Family::V4, Family::V6)
}

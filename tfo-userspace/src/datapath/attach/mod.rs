//! Putting programs on interfaces, replacing them in place, taking them off.

mod clsact;
mod detach;
mod error;
mod follow;
mod guard_change;
mod guard_fitness;
mod guard_programs;
mod hook;
mod hook_change;
mod modes;
mod moved;
mod outcome;
mod sweep;
mod transaction;

pub use detach::{detach, detach_gone};
pub use error::{AttachError, ProgramOrigin};
pub use follow::{Change, Follower, Wanted};
pub use guard_change::{GuardChange, GuardError, OnUnfit, Unguarded};
pub use guard_fitness::guard_obstacle;
pub use hook::{HookReason, hook_reason};
pub use hook_change::{HookChange, follow_job};
pub use moved::detach_strays;
pub use outcome::{Attached, Ensured, Upgraded};
pub use transaction::{attach, ensure};

//! Putting programs on interfaces, replacing them in place, taking them off.

mod clsact;
mod detach;
mod ensure;
mod error;
mod follow;
mod guard_change;
mod guard_fitness;
mod guard_programs;
mod hook;
mod hook_change;
mod joined;
mod modes;
mod moved;
mod moving;
mod outcome;
mod own_change;
mod own_programs;
mod sweep;
mod transaction;
mod tunnels;

pub use detach::{detach, detach_gone};
pub use ensure::{attach, ensure};
pub use error::{AttachError, ProgramOrigin};
pub use follow::{Change, Follower, Wanted};
pub use guard_change::{GuardChange, GuardError, OnUnfit};
pub use guard_fitness::guard_obstacle;
pub use hook::{HookReason, hook_reasons};
pub use hook_change::follow_job;
pub use joined::LeftOut;
pub use moved::detach_strays;
pub use outcome::{Attached, Ensured, HookChange, Kept, Upgraded};
pub use own_change::{OwnCookieChange, OwnCookieError};
pub use sweep::sweep_ended;
pub use tunnels::unchallenged_tunnels;

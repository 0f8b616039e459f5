//! The data path in the kernel: the programs, their maps, and their pins.
//!
//! - `object/` loads the eBPF object: its constants, its kfunc, its programs, its iterator.
//! - `pins/` knows the paths under `/sys/fs/bpf/tfo`, which outlive the controller; its doc has the layout.
//! - `maps/` reads and writes one map or family of maps per file.
//! - `namespace/` is the calling thread's network namespace: interfaces, counters, keys, policy, guard.
//! - `attach/` puts programs on interfaces, replaces them in place and takes them off.
//!
//! Imports go up this list alone: `attach` -> `namespace` -> `object` -> `maps` -> `pins` -> `error`.

mod attach;
mod error;
mod maps;
mod namespace;
mod object;
mod pins;

pub(crate) use self::object::prepare;
pub use self::object::{
    BoundDevice, Build, Datapath, FastOpenState, ListenersError, ListeningSocket, OBJECT, listeners,
};
pub use attach::{
    AttachError, Attached, Change, Ensured, Follower, GuardChange, GuardError, HookChange,
    HookReason, Kept, LeftOut, OnUnfit, OwnCookieChange, OwnCookieError, ProgramOrigin, Upgraded,
    Wanted, attach, detach, detach_gone, detach_strays, ensure, follow_job, guard_obstacle,
    hook_reasons, sweep_ended, unchallenged_tunnels,
};
pub use error::{DatapathError, UnsafePins};
pub use maps::{
    DEFAULT_RATE, EventFilter, EventStream, GuardState, Lost, PolicySummary, Snapshot, Sources,
    Stale, slug,
};
pub use namespace::{
    AttachedInterface, ControllerError, ControllerLock, Drift, InterfaceCounters, LockFailure,
    Memory, Namespace, NamespaceError, NamespaceGuard, NamespaceKeys, NamespaceOwnCookies,
    NamespacePolicy, PolicyChange, Stray, key_change, sweep_controllers,
};
pub use pins::{check_pins, try_mount, try_pins};

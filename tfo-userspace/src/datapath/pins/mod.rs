//! Pins: the links, programs and maps that outlive the controller.
//!
//! ```text
//! /sys/fs/bpf/tfo/v<LAYOUT_VERSION>/
//!   net<COOKIE>/               a network namespace, by its SO_NETNS_COOKIE
//!     keys                     outer map of the accepted key set
//!     accepted                 inner map of the same: reading it through `keys` takes CAP_SYS_ADMIN
//!     policy policy_rules policy_lists policy_limits
//!     policy_<MAP>_in_force    inner maps of the policy in force, for the same reason
//!     handshakes               link of the program that learns of handshakes, while a policy withholds cookies
//!     guard guard_ports guard_secrets guard_buckets
//!     state primary_since      counter baseline; when the keys and the primary key changed
//!     if<INDEX>/               an attached interface
//!       info build device      settings; version and digest of the build that attached it; name and address of the interface
//!       link program           XDP or TCX link and its program, or:
//!       filter                 the place of a clsact filter (before Linux 6.6)
//!       tail_calls             program array of the tail calls: the kernel empties it once nobody holds it
//!       guard                  TCX link of the program for ACKs, while there is a guard
//!       egress                 TCX link of the program for SYN-ACKs, while there are own cookies; or egress_filter
//!       link-next              link at the other hook, while the data path moves there
//!       moving case counters port_slots slots_taken sizes sources events event_gate event_budget
//!     unfinished<INDEX>/       an interface being attached or detached
//! ```
//!
//! An interface's directory is made as `unfinished<INDEX>`, renamed to `if<INDEX>` once complete, and renamed
//! back before removal. So `if<INDEX>` is complete whenever a process died. Every directory has mode 0700.

mod clsact_filter;
mod device;
mod elsewhere;
mod files;
mod info;
mod interface;
mod lock;
mod namespace;
mod other_layout;
mod private;
mod trial;
mod value;

pub(super) use clsact_filter::{CLSACT_HANDLE, ClsactFilter};
pub(super) use device::{is_another_device, write_device};
pub(super) use elsewhere::PinnedElsewhere;
pub(super) use files::{found_maps, remove_file};
pub(super) use info::{read_info, read_settings, write_settings};
pub(super) use interface::InterfacePins;
pub(super) use lock::Lock;
pub(super) use namespace::NamespacePins;
pub(super) use other_layout::OtherLayout;
pub use private::check_pins;
pub use trial::{try_mount, try_pins};
pub(super) use value::{map_from_pin, read_value, write_value};

//! The `tfo` command, as a user calls it: what it prints, changes, leaves behind and refuses. These suites need
//! root; `bpftool` is looked for as `cargo xtask setup` installs it.

// Errors: one line that names the thing, the cause and the remedy.
mod bad_input;
// The object as bpftool loads it.
mod bpftool;
// `tfo doctor` where something is wrong.
mod doctor;
// Attach and detach, upgrades, killed processes, vanished interfaces, locks.
mod life;
// `tfo policy`.
mod policy_cli;
// `tfo` with the capabilities of its unit.
mod privileges;
// `tfo stats`, `tfo status`, `tfo events`.
mod stats;
// `tfo top` on a terminal.
mod top;

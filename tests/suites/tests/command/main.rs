//! The `tfo` command: output, effects, leftovers and errors. These suites need root; `cargo xtask setup` installs
//! bpftool.

// Error messages: one line with the thing, the cause and the remedy.
mod bad_input;
// The object, loaded by bpftool.
mod bpftool;
// Other users of the host: pins, locks, memory, the configuration.
mod closed;
// For the suites: mount namespaces and seccomp filters.
mod confinement;
// Containers and limits: seccomp, read-only and absent file systems, few open files; names of interfaces.
mod confined;
// `--decap`: mistakes, what is shown and kept, outer packets of others.
mod decap;
// `tfo demo`: the steps, the counters, and that nothing is left.
mod demo;
// `tfo doctor` on misconfigured hosts.
mod doctor;
// What `tfo doctor` tries: bpf(2), pins, locks.
mod doctor_trials;
// `tfo doctor --fix`: sysctls, the file in /etc/sysctl.d, and nothing else.
mod doctor_fix;
// `tfo events`.
mod events;
// Every flag at the edges of its values.
mod every_flag;
// Files, lists of interfaces, standard output, flags that depend on each other.
mod inputs;
// Closed pipes and JSON, of every command that lists.
mod listings;
// Attach, detach, upgrade, killed processes, deleted and moved interfaces, locks.
mod life;
// `tfo policy`: set, show, errors.
mod policy_cli;
// `tfo` with only the capabilities of its systemd unit.
mod privileges;
// Remedies that `tfo doctor` prints, run as they are printed.
mod remedies;
// Each command that `tfo` prints, and the test that runs it.
mod remedy_list;
// `ip netns exec` and containers without the host's BPF file system.
mod short_lived;
// `tfo stats` and `tfo status`.
mod stats;
// `tfo policy withheld`: sources, and the program that learns of them.
mod withheld;
// `tfo top` on a pseudo-terminal.
mod top;

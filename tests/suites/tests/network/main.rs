//! Frames and connections between two network namespaces: the kernel decides what each counts, and what a
//! client gets; `tfo` has to count the same. These suites need root, `ip` and veth.

// Python and curl, which know nothing of `tfo`.
mod clients;
// Each condition between a SYN and Fast Open, as a table.
mod conditions;
// TUN, traffic control, several interfaces.
mod devices;
// Random SYNs, half of them under random policies.
mod fuzz;
// The guard: challenges, proofs, limits.
mod guard;
// Each feature once; what `cargo xtask vm` runs on other kernels.
mod kernels;
// `tfo listeners` beside real sockets of every sort.
mod listeners;
// Policies: actions, limits, times, swaps, floods.
mod policy;
// The testbed itself, without `tfo`.
mod testbed;
// Real connections, cookies, rotations, lost keys.
mod veth;
// Each form of the Fast Open option, as a table.
mod wire;

//! Frames and connections between two network namespaces: `tfo` must count what the kernel counts. These suites need
//! root, `ip` and veth.

// Python and curl as Fast Open clients and servers.
mod clients;
// Conditions under which Fast Open is not applied, as a table.
mod conditions;
// TUN devices, TC, several interfaces.
mod devices;
// The split guard: a router challenges for the hosts behind it.
mod edge;
// `tfo enable`: listeners of runtimes without the option.
mod enable;
// Random SYNs, half of them under random policies.
mod fuzz;
// Tests with a guest of another kernel as another machine; `cargo xtask vm --edge` and `--drivers` run them.
mod guests;
// The guard: challenges, proofs, limits.
mod guard;
// Other networks, and attacks: nobody is worse off than with the bare kernel.
mod harm;
// Each feature once; `cargo xtask vm` runs this suite on other kernels.
mod kernels;
// The hook: where the data path runs, and how it moves.
mod hooks;
// `tfo listeners` with every kind of listening socket.
mod listeners;
// Own cookies, translated to the kernel's.
mod own_cookies;
// Policies: actions, limits, latency, atomic swaps, floods.
mod policy;
// `tfo probe` through routers that strip, change, drop and share SYNs.
mod probe;
// The test environment itself, without `tfo`.
mod testbed;
// Fast Open over veth: requests, cookies, rotations, lost keys.
mod veth;
// Forms of the Fast Open option, as a table.
mod wire;

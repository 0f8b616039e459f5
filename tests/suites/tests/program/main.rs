//! The program in the kernel, run on crafted frames one at a time by `BPF_PROG_TEST_RUN`: what each is counted as,
//! and that every frame goes on as it came, unless a policy says otherwise. These suites need root.

// Random frames: the program counts what its code counts on the host.
mod agreement;
// The guard's SYN-ACKs for frames that no veth carries.
mod challenge;
// SYN events.
mod events;
// Addresses, ports and keys that the other modules use.
mod flow;
// Headers and flags: what is a SYN.
mod frames;
// Cookies under keys that change.
mod keys;
// The machine code, as the verifier of Linux 6.1 wants it.
mod layout;
// Random policies and SYNs, beside `policy_model`.
mod policy;
mod policy_model;
// Counters by port.
mod ports;
// Each form of the Fast Open option, as a table.
mod rows;
// Bytes of data in SYNs.
mod sizes;
// Counters by source.
mod sources;

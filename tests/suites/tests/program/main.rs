//! The program in the kernel, one crafted frame at a time (`BPF_PROG_TEST_RUN`): counts are exact, and every frame
//! passes unchanged unless a policy applies. These suites need root.

// Random frames: kernel and host count the same.
mod agreement;
// The guard's SYN-ACKs for frames that veth does not deliver.
mod challenge;
// SYN events: filters, rate, loss.
mod events;
// Shared addresses, ports and keys.
mod flow;
// Header parsing: frames that are SYNs, and frames that are not.
mod frames;
// Accepted cookies while keys change.
mod keys;
// Code layout for the verifier of Linux 6.1.
mod layout;
// The memory of `once`: errors, and copies at one instant.
mod once;
// Own cookies: which frames are translated, and how.
mod own_cookies;
// Random policies and SYNs, compared with `policy_model`.
mod policy;
// The SYNs of `policy`.
mod policy_case;
// The model of policies for `policy`.
mod policy_model;
// Counters by port.
mod ports;
// Forms of the Fast Open option, as a table.
mod rows;
// Histogram of data bytes in SYNs.
mod sizes;
// Counters by source.
mod sources;
// SYNs in tunnels that are read through.
mod tunnels;

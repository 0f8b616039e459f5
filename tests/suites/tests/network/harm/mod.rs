//! `tfo` never harms a connection: what works with the bare kernel works with it, on any network, under any attack.
//!
//! Each test compares the same connections with and without `tfo`. A new setting or attack is one line of a table.

// A full accept queue, and where answers go.
mod answers;
// Attacks on a listener.
mod attacks;
// Frames that are for no socket of this host.
mod elsewhere;
// Options of IP that make the kernel drop a SYN.
mod headers;
// Limits that others use up, the pressure on one listener, a busy proxy.
mod limits;
// Each attack by rules, hook and family, and the clients that connect meanwhile.
mod matrix;
// Hosts behind the one on which `tfo` runs.
mod networks;
// A router that serves, forwards and translates while its guard comes and goes.
mod soak;

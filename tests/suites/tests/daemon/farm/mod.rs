//! Farms of real processes: hosts in namespaces behind one address, each with its own `tfo run`, etcd, and Fast Open
//! clients that reach any host.

mod bad_input;
mod edge;
mod enemy;
mod etcd;
mod faults;
mod host;
mod mixed;
mod own_cookies;
mod rotation;
mod split;
mod traffic;
mod upgrade;

//! A farm of real parts: hosts in namespaces behind one address, each with its own `tfo run`, a real etcd, and
//! clients of Fast Open that come to any of them.

mod bad_input;
mod etcd;
mod faults;
mod host;
mod mixed;
mod rotation;
mod traffic;

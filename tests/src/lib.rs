//! What the suites, the demo and the benchmark stand on: network namespaces joined by veth, real
//! Fast Open sockets, crafted SYNs, the kernel's own counters, and the `tfo` command.

//! Why there is no demo, or why it stopped.

use std::io;

use rustix::io::Errno;

use super::{exchange::Exchange, family::Family};
use crate::{
    datapath::{AttachError, NamespaceError},
    kernel::{netns::NetnsError, refusal::Confinement},
};

/// The demo cannot begin, or a step went wrong.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The process lacks capabilities.
    #[error(
        "the demo makes network namespaces of its own and attaches tfo there: this process lacks {lacks}: run it as root, with sudo (in a container, a privileged one)",
        lacks = .0.join(", ")
    )]
    Privilege(Vec<&'static str>),
    /// unshare(2) of mounts, or mount(2).
    #[error("no BPF file system of the demo's own: {0}: {remedy}", remedy = mount_remedy(.0))]
    Mount(io::Error),
    /// unshare(2) of the network.
    #[error("no network namespace of the demo's own: {0}: {remedy}", remedy = netns_remedy(.0))]
    Netns(io::Error),
    /// No interfaces.
    #[error("no veth interfaces for the demo: {0}: {remedy}", remedy = veth_remedy(.0))]
    Veth(io::Error),
    /// No packet sockets.
    #[error("no packet sockets for the demo's delay line: {0}: {remedy}", remedy = packets_remedy(.0))]
    Packets(io::Error),
    /// Addresses, sysctls.
    #[error(
        "cannot configure the demo's interfaces: {0}: check that /proc is mounted and /proc/sys writable (in a container, a privileged one)"
    )]
    Configure(io::Error),
    /// The data path.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The data path's namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel's namespace.
    #[error(transparent)]
    Netid(#[from] NetnsError),
    /// A socket.
    #[error(
        "step {step}: the {family} connection failed: {source}: run it again; if it fails again, `tfo doctor` checks this host"
    )]
    Connection {
        /// The step.
        step: &'static str,
        /// The version of IP.
        family: Family,
        /// The kernel's error.
        source: io::Error,
    },
    /// Another course than the one that TCP Fast Open has.
    #[error(
        "step {step}: the {family} request was {}to be in the SYN and taken from there, and {}was ({exchange}): {}", not(*expected), not(exchange.in_syn), exchange.remedy()
    )]
    Course {
        /// The step.
        step: &'static str,
        /// The version of IP.
        family: Family,
        /// True if the request was to be in the SYN.
        expected: bool,
        /// The course of the connection.
        exchange: Exchange,
    },
}

const fn not(is: bool) -> &'static str {
    if is { "" } else { "not " }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}

fn mount_remedy(error: &io::Error) -> &'static str {
    if is(error, Errno::NOENT) {
        "mount sysfs first (`mount -t sysfs sysfs /sys`); a kernel without /sys/fs/bpf has no CONFIG_BPF_SYSCALL"
    } else if is(error, Errno::NODEV) {
        "the kernel needs CONFIG_BPF_SYSCALL"
    } else if Confinement::read().user_namespace {
        "this process is in a user namespace, whose capabilities do not count for BPF: run it in the host's"
    } else {
        "a security module or a seccomp filter refuses mount(2): run it on the host, or in a privileged container"
    }
}

fn netns_remedy(error: &io::Error) -> &'static str {
    if is(error, Errno::NOSPC) {
        "user.max_net_namespaces is reached: raise it with `sysctl -w user.max_net_namespaces=1024`"
    } else if is(error, Errno::INVAL) {
        "the kernel needs CONFIG_NET_NS"
    } else {
        "a security module or a seccomp filter refuses unshare(2): run it on the host, or in a privileged container"
    }
}

fn veth_remedy(error: &io::Error) -> &'static str {
    if is(error, Errno::OPNOTSUPP) {
        "the kernel has no veth (CONFIG_VETH): `modprobe veth`, or install the package with the kernel's modules"
    } else {
        "`ip link add type veth` as root shows whether the kernel makes them"
    }
}

fn packets_remedy(error: &io::Error) -> &'static str {
    if is(error, Errno::AFNOSUPPORT) {
        "the kernel has none (CONFIG_PACKET): `modprobe af_packet`"
    } else {
        "run it as root, on the host or in a privileged container"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_remedy_of_its_own() {
        for (error, says) in [
            (
                DemoError::Netns(Errno::NOSPC.into()),
                "max_net_namespaces=1024",
            ),
            (DemoError::Netns(Errno::INVAL.into()), "CONFIG_NET_NS"),
            (DemoError::Netns(Errno::PERM.into()), "privileged container"),
            (DemoError::Mount(Errno::NODEV.into()), "CONFIG_BPF_SYSCALL"),
            (DemoError::Mount(Errno::ACCESS.into()), "refuses mount(2)"),
            (DemoError::Veth(Errno::OPNOTSUPP.into()), "modprobe veth"),
            (
                DemoError::Packets(Errno::AFNOSUPPORT.into()),
                "modprobe af_packet",
            ),
            (
                DemoError::Privilege(vec!["CAP_SYS_ADMIN"]),
                "lacks CAP_SYS_ADMIN: run it as root",
            ),
        ] {
            let text = error.to_string();
            assert!(text.contains(says) && !text.contains('\n'), "{text}");
        }
    }
}

//! Errors of attaching and detaching.

use std::fmt;

use crate::{
    datapath::{error::DatapathError, namespace::NamespaceError, object::Build},
    kernel::{link::remedy_of_layer, support::SupportError},
    model::{AttachMode, Decap},
};

/// An interface was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel or the process lacks a prerequisite.
    #[error(transparent)]
    Support(#[from] SupportError),
    /// The state of the namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// `tfo` is attached already.
    #[error(
        "{interface}: tfo is attached already (program {program_id}, {mode}, {origin}): `tfo status` shows it, `tfo attach --replace {interface}` upgrades it in place, `tfo detach {interface}` removes it"
    )]
    AlreadyAttached {
        /// The interface's name.
        interface: String,
        /// The attached program's id.
        program_id: u32,
        /// The mode in which it runs.
        mode: AttachMode,
        /// The build that attached it.
        origin: ProgramOrigin,
    },
    /// A program of `tfo` came with the interface from another network namespace.
    #[error(
        "{interface}: tfo was attached to it in another network namespace, and its program came along (program {program_id}, {mode}), with the keys, policy and guard of that namespace: `tfo attach --replace {interface}` replaces it, `tfo detach {interface}` removes it"
    )]
    Moved {
        /// The interface's name.
        interface: String,
        /// The program's id.
        program_id: u32,
        /// The mode in which it runs.
        mode: AttachMode,
    },
    /// Another XDP program is attached.
    #[error(
        "{interface}: another XDP program is attached: {name} (id {program_id}, {mode}): detach it with the tool that attached it, or `ip link set dev {interface} {}`, then attach again; or --mode tc runs beside it", off(*mode)
    )]
    Occupied {
        /// The interface's name.
        interface: String,
        /// The program's name.
        name: String,
        /// The program's id.
        program_id: u32,
        /// The mode in which it runs.
        mode: AttachMode,
    },
    /// The link layer is neither Ethernet nor none.
    #[error(
        "{interface}: its link layer is {layer}, which tfo does not parse: {}",
        remedy_of_layer(layer)
    )]
    LinkLayer {
        /// The interface's name.
        interface: String,
        /// The kernel's name of the link layer.
        layer: String,
    },
    /// Another interface reads through the tunnels that end here.
    #[error(
        "{interface}: {reader} reads through tunnels already ({decap}), and would count the SYNs that come out of this device: `tfo detach {reader}` first, or leave this device alone"
    )]
    ReadBefore {
        /// The interface's name.
        interface: String,
        /// The name of the other.
        reader: String,
        /// What that reads through.
        decap: Box<Decap>,
    },
    /// The tunnels end at a device that is attached.
    #[error(
        "{interface}: --decap would count the SYNs in {decap} a second time: tfo is attached to {device}, at which tunnels of IP in IP end: `tfo detach {device}` first, or attach {interface} without --decap"
    )]
    CountedBehind {
        /// The interface's name.
        interface: String,
        /// The name of the device.
        device: String,
        /// What was to be read through.
        decap: Box<Decap>,
    },
    /// The interface's packets have no Ethernet header.
    #[error(
        "{interface}: --decap is for a NIC, whose packets have an Ethernet header; here they have none: attach without --decap, as packets that come out of a tunnel are read anyway"
    )]
    DecapInside {
        /// The interface's name.
        interface: String,
    },
    /// The kernel refused every mode that was tried.
    #[error("{interface}: the kernel refused to attach in {mode} mode: {reason}{remedy}")]
    Refused {
        /// The interface's name.
        interface: String,
        /// The last mode that was tried.
        mode: AttachMode,
        /// The kernel's error.
        reason: String,
        /// The remedy; may be empty.
        remedy: &'static str,
    },
    /// There is nothing to detach.
    #[error("{interface}: tfo is not attached here: `tfo status` shows where it is")]
    NotAttached {
        /// The interface's name.
        interface: String,
    },
}

impl From<DatapathError> for AttachError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// The build that attached a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramOrigin {
    /// The running build.
    Own,
    /// Another build; `None` where it pinned none.
    Other(Option<Build>),
    /// A build of this other layout version.
    OtherLayout(String),
}

impl fmt::Display for ProgramOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("of this build"),
            Self::Other(Some(build)) => write!(f, "of another build, {build}"),
            Self::Other(None) => f.write_str("of an older build"),
            Self::OtherLayout(version) => write!(f, "of a build with layout {version}"),
        }
    }
}

/// The argument of `ip link set` that removes an XDP program: `xdp off` leaves a generic one where the driver has native XDP.
const fn off(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Generic => "xdpgeneric off",
        AttachMode::Offloaded => "xdpoffload off",
        AttachMode::Native | AttachMode::Tc => "xdp off",
    }
}

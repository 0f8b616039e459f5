//! XDP programs on interfaces, and pinned objects.

use std::{fmt, fs, net::UdpSocket, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType, Xdp, XdpMode},
};
use serde_json::Value;
use tfo_common::abi::{TC_PROGRAM, XDP_PROGRAM};
use tfo_userspace::datapath::OBJECT;

use crate::{netns::Netns, sockopt::netns_cookie};

/// Directory of pinned objects.
const PINS: &str = "/sys/fs/bpf/tfo";

/// The hook at which the data path runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// XDP in the driver, `XDP_ATTACHED_DRV`.
    Native,
    /// XDP in the stack, `XDP_ATTACHED_SKB`.
    Generic,
    /// Traffic control.
    Tc,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Tc];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        })
    }
}

/// Mode and id of the XDP program on `interface`; without one, those of the entry program of `tfo` in TCX.
///
/// # Errors
///
/// `ip` fails, or its output is not understood.
pub fn attached(netns: &Netns, interface: &str) -> Result<Option<(Mode, u64)>> {
    if let Some(found) = xdp_attached(netns, interface)? {
        return Ok(Some(found));
    }
    // Fails before Linux 6.6, which has no TCX.
    let query = || SchedClassifier::query_tcx(interface, TcAttachType::Ingress);
    let (_, programs) = netns.run(query).unwrap_or_default();
    let ours = programs
        .iter()
        .find(|program| program.name_as_str() == Some(TC_PROGRAM));
    Ok(ours.map(|program| (Mode::Tc, program.id().into())))
}

/// Mode and id of the XDP program on `interface`.
///
/// # Errors
///
/// As [`attached`].
pub fn xdp_attached(netns: &Netns, interface: &str) -> Result<Option<(Mode, u64)>> {
    let text = netns.ip(&["-json", "link", "show", interface])?;
    let links: Value = serde_json::from_str(&text)?;
    let xdp = &links[0]["xdp"];
    if xdp.is_null() {
        return Ok(None);
    }
    let mode = match xdp["mode"].as_u64() {
        Some(1) => Some(Mode::Native),
        Some(2) => Some(Mode::Generic),
        _ => None,
    };
    mode.zip(xdp["prog"]["id"].as_u64())
        .map(Some)
        .with_context(|| format!("ip shows an unknown XDP mode: {xdp}"))
}

/// `true` if `tfo` has pinned objects for the namespace.
///
/// # Errors
///
/// The kernel lacks `SO_NETNS_COOKIE` (Linux 5.14).
pub fn is_pinned(netns: &Netns) -> Result<bool> {
    let cookie = netns.run(|| netns_cookie(&UdpSocket::bind(("127.0.0.1", 0))?))?;
    let versions = fs::read_dir(PINS).into_iter().flatten().flatten();
    Ok(versions
        .map(|version| version.path().join(format!("net{cookie}")))
        .any(|pins| Path::exists(&pins)))
}

/// Checks that `interface` has neither an XDP program nor one of `tfo` in TCX.
///
/// # Errors
///
/// The interface has one; and as [`attached`].
pub fn ensure_detached(netns: &Netns, interface: &str) -> Result<()> {
    let program = attached(netns, interface)?;
    ensure!(program.is_none(), "{interface} has the program {program:?}");
    Ok(())
}

/// Checks that `interface` has one of these.
///
/// # Errors
///
/// The interface has none; and as [`attached`].
pub fn ensure_attached(netns: &Netns, interface: &str) -> Result<()> {
    let program = attached(netns, interface)?;
    ensure!(program.is_some(), "{interface} has no program");
    Ok(())
}

/// Checks that [`is_pinned`] returns `expected`.
///
/// # Errors
///
/// [`is_pinned`] returns the opposite, or fails.
pub fn ensure_pinned(netns: &Netns, expected: bool) -> Result<()> {
    let pinned = is_pinned(netns)?;
    ensure!(pinned == expected, "pinned for {}: {pinned}", netns.name());
    Ok(())
}

/// A foreign XDP program: a second copy of the data path, in native mode. Detached on drop.
#[derive(Debug)]
pub struct Other {
    object: Ebpf,
}

impl Other {
    /// Loads it and attaches it to `interface` of `netns`.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn attach(netns: &Netns, interface: &str) -> Result<Self> {
        let mut other = Self {
            object: Ebpf::load(OBJECT)?,
        };
        let program = other.program()?;
        program.load()?;
        netns.run(|| program.attach(interface, XdpMode::Driver).map(drop))?;
        Ok(other)
    }

    /// Loads it and attaches it as programs were before there were links (Linux 5.9): by a netlink message, and so until
    /// the interface goes.
    ///
    /// # Errors
    ///
    /// The kernel refuses it; the error contains what it says.
    pub fn attach_by_netlink(netns: &Netns, interface: &str) -> Result<Self> {
        let mut other = Self {
            object: Ebpf::load(OBJECT)?,
        };
        other.program()?.load()?;
        let id = other.id()?.to_string();
        let attach = ["net", "attach", "xdpdrv", "id", &id, "dev", interface];
        netns.done("bpftool", &attach)?;
        Ok(other)
    }

    /// Program id.
    ///
    /// # Errors
    ///
    /// As `BPF_OBJ_GET_INFO_BY_FD`.
    pub fn id(&mut self) -> Result<u32> {
        Ok(self.program()?.info()?.id())
    }

    fn program(&mut self) -> Result<&mut Xdp> {
        let program = self.object.program_mut(XDP_PROGRAM);
        Ok(program.context("no program")?.try_into()?)
    }
}

//! What the kernel says of the XDP program on an interface, and what is pinned.

use std::{fmt, fs, net::UdpSocket, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use serde_json::Value;
use tfo_common::abi::XDP_PROGRAM;
use tfo_userspace::datapath::OBJECT;

use crate::{netns::Netns, sockopt::netns_cookie};

/// Where `tfo` pins.
const PINS: &str = "/sys/fs/bpf/tfo";

/// How an interface runs its XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// The XDP program of `interface`: how it runs, and its id.
///
/// # Errors
///
/// Where `ip` fails or shows something else than expected.
pub fn attached(netns: &Netns, interface: &str) -> Result<Option<(Mode, u64)>> {
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
        .with_context(|| format!("what is {xdp}?"))
}

/// `true` where anything is pinned for the namespace.
///
/// # Errors
///
/// Where the namespace cannot be told from others.
pub fn is_pinned(netns: &Netns) -> Result<bool> {
    let cookie = netns.run(|| netns_cookie(&UdpSocket::bind(("127.0.0.1", 0))?))?;
    let versions = fs::read_dir(PINS).into_iter().flatten().flatten();
    Ok(versions
        .map(|version| version.path().join(format!("net{cookie}")))
        .any(|pins| Path::exists(&pins)))
}

/// Another XDP program than the attached `tfo`'s, on the interface's driver until it is dropped.
#[derive(Debug)]
pub struct Other {
    object: Ebpf,
}

impl Other {
    /// Attaches it.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn attach(netns: &Netns, interface: &str) -> Result<Self> {
        let mut other = Self {
            object: Ebpf::load(OBJECT)?,
        };
        let program = other.program()?;
        program.load()?;
        netns.run(|| program.attach(interface, XdpMode::Driver).map(drop))?;
        Ok(other)
    }

    /// Its id.
    ///
    /// # Errors
    ///
    /// As the kernel has them.
    pub fn id(&mut self) -> Result<u32> {
        Ok(self.program()?.info()?.id())
    }

    fn program(&mut self) -> Result<&mut Xdp> {
        let program = self.object.program_mut(XDP_PROGRAM);
        Ok(program.context("no program")?.try_into()?)
    }
}

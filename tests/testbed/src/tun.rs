//! TUN devices: packets without an Ethernet header. See `Documentation/networking/tuntap.rst`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// A TUN device, removed on drop.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Creates a device with this name in `netns`; it is down.
    ///
    /// # Errors
    ///
    /// `/dev/net/tun` is missing, or the caller lacks `CAP_NET_ADMIN`.
    pub fn new(netns: &Netns, name: &str) -> Result<Self> {
        let make = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")?;
            // SAFETY: all zeros is a valid `ifreq`.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
            // SAFETY: `request` is a complete `ifreq` that outlives the call.
            let result =
                unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
            match result {
                0 => Ok(Self(file)),
                _ => Err(io::Error::last_os_error()),
            }
        };
        netns.run(make).context("cannot create a TUN device")
    }

    /// Injects a packet as received by the device.
    ///
    /// # Errors
    ///
    /// As write(2).
    pub fn receive(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write_all(packet)
    }
}

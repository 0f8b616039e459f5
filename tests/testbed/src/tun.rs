//! A TUN device: packets without Ethernet header, in and out of a file. Linux: tun(4).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// A TUN device, which goes with its value.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes a device of that name, which is down.
    ///
    /// # Errors
    ///
    /// Where the kernel has no TUN devices, or the caller may not.
    pub fn new(netns: &Netns, name: &str) -> Result<Self> {
        let make = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/net/tun")?;
            // SAFETY: zeros are a value of it.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
            // SAFETY: the request is a whole one, and lives until the call returns.
            let result =
                unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
            match result {
                0 => Ok(Self(file)),
                _ => Err(io::Error::last_os_error()),
            }
        };
        netns.run(make).context("cannot make a TUN device")
    }

    /// Has the device receive a packet.
    ///
    /// # Errors
    ///
    /// As write(2).
    pub fn receive(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write_all(packet)
    }
}

//! TUN devices: packets without an Ethernet header. See `Documentation/networking/tuntap.rst`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::event::PollFlags;

use crate::{
    netns::Netns,
    poll::{Deadline, any_ready},
};

/// Time between two looks whether to end.
const TICK: Duration = Duration::from_millis(50);

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
                // Signed or not, as the architecture has it.
                *to = libc::c_char::from_ne_bytes([from]);
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

    /// Has `other` receive all that this device sends, as the far end of a tunnel, until `ended`.
    ///
    /// # Errors
    ///
    /// As read(2), poll(2) and write(2).
    pub fn tunnel(&self, other: &Self, ended: &AtomicBool) -> Result<()> {
        let mut packet = vec![0; usize::from(u16::MAX)];
        while !ended.load(Ordering::Relaxed) {
            if any_ready(&[self.0.as_fd()], PollFlags::IN, Deadline::after(TICK))? {
                let len = (&self.0).read(&mut packet)?;
                other.receive(&packet[..len])?;
            }
        }
        Ok(())
    }
}

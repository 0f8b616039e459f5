//! Decoding of frames by Wireshark's `tshark`, independent of `tfo`.

use std::{env, fs, path::PathBuf, process, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::process::succeed;

const LIMIT: Duration = Duration::from_secs(60);

/// Link-layer type of a capture: `LINKTYPE_` of pcap-linktype(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Link {
    /// `LINKTYPE_ETHERNET`.
    Ethernet = 1,
    /// `LINKTYPE_RAW`: frames start with the IP header.
    Raw = 101,
}

/// A TCP segment as decoded by `tshark`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The IPv4 header checksum is correct; always `true` for IPv6.
    pub ip_checksum: bool,
    /// The TCP checksum is correct.
    pub checksum: bool,
    /// A Fast Open option is a cookie request.
    pub request: bool,
    /// Cookie of a Fast Open option, in hex; empty if there is none.
    pub cookie: String,
    /// Kinds of all TCP options, in order.
    pub kinds: Vec<u8>,
    /// Expert messages of severity error, such as malformed packets.
    pub errors: Vec<String>,
}

/// Lowest severity of an error (`PI_ERROR`).
const ERROR: u32 = 0x0080_0000;

/// Decodes frames, in order.
///
/// # Errors
///
/// `tshark` is not installed or fails, or its output is not understood.
pub fn decode(link: Link, frames: &[Vec<u8>]) -> Result<Vec<Decoded>> {
    let capture = Capture::new(link, frames)?;
    let mut command = Command::new("tshark");
    command.arg("-r").arg(&capture.0);
    command.args([
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    command.args(["-T", "fields", "-E", "separator=/t", "-E", "aggregator=;"]);
    for field in [
        "ip.checksum.status",
        "tcp.checksum.status",
        "tcp.options.tfo.request",
        "tcp.options.tfo.cookie",
        "tcp.option_kind",
        "_ws.expert.severity",
        "_ws.expert.message",
    ] {
        command.args(["-e", field]);
    }
    let text = succeed(&mut command, LIMIT)?;
    let decoded = text
        .lines()
        .map(|line| parse(line).with_context(|| format!("tshark printed {line:?}")));
    let decoded: Vec<_> = decoded.collect::<Result<_>>()?;
    ensure!(decoded.len() == frames.len(), "tshark printed {text:?}");
    Ok(decoded)
}

fn parse(line: &str) -> Result<Decoded> {
    const GOOD: &str = "1";
    let fields: Vec<_> = line.split('\t').collect();
    let [ip, tcp, request, cookie, kinds, severities, messages] = fields[..] else {
        anyhow::bail!("not seven fields");
    };
    let kinds = kinds.split(';').filter(|kind| !kind.is_empty());
    let severities = severities.split(';').filter(|word| !word.is_empty());
    let mut errors = Vec::new();
    for (severity, message) in severities.zip(messages.split(';')) {
        if severity.parse::<u32>()? >= ERROR {
            errors.push(message.to_owned());
        }
    }
    Ok(Decoded {
        ip_checksum: ip.is_empty() || ip == GOOD,
        checksum: tcp == GOOD,
        request: !request.is_empty(),
        cookie: cookie.to_owned(),
        kinds: kinds.map(str::parse).collect::<Result<_, _>>()?,
        errors,
    })
}

/// A pcap file, removed on drop.
struct Capture(PathBuf);

impl Capture {
    fn new(link: Link, frames: &[Vec<u8>]) -> Result<Self> {
        let name = format!(
            "tfo-t{}-{link:?}-{:x}.pcap",
            process::id(),
            fastrand::u64(..)
        );
        let this = Self(env::temp_dir().join(name));
        // pcap-savefile(5): file header with magic, version 2.4 and snapshot length; before each frame a timestamp, the
        // captured and the original length.
        let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, link as u32];
        let mut bytes = header.map(u32::to_ne_bytes).concat();
        for frame in frames {
            let len = u32::try_from(frame.len())?;
            bytes.extend([0, 0, len, len].map(u32::to_ne_bytes).concat());
            bytes.extend(frame);
        }
        fs::write(&this.0, bytes).with_context(|| format!("cannot write {}", this.0.display()))?;
        Ok(this)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

//! What Wireshark's `tshark`, which shares nothing with `tfo`, makes of frames.

use std::{env, fs, path::PathBuf, process, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::process::succeed;

const LIMIT: Duration = Duration::from_secs(60);

/// What a capture's frames begin with: `LINKTYPE_` of pcap-linktype(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Link {
    /// An Ethernet header.
    Ethernet = 1,
    /// An IP header.
    Raw = 101,
}

/// A TCP segment as `tshark` sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// IPv4's checksum is right; IPv6 has none.
    pub ip_checksum: bool,
    /// TCP's checksum is right.
    pub checksum: bool,
    /// A Fast Open option asks for a cookie.
    pub request: bool,
    /// The cookie in a Fast Open option, in hexadecimal digits.
    pub cookie: String,
    /// The kinds of all options.
    pub kinds: Vec<u8>,
    /// What it takes for an error, a malformed packet among that.
    pub errors: Vec<String>,
}

/// The severity from which on it is one (`PI_ERROR`).
const ERROR: u32 = 0x0080_0000;

/// Has `tshark` decode frames.
///
/// # Errors
///
/// Where it is not installed, or says something else than expected.
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
        .map(|line| parse(line).with_context(|| format!("tshark says {line:?}")));
    let decoded: Vec<_> = decoded.collect::<Result<_>>()?;
    ensure!(decoded.len() == frames.len(), "tshark says {text:?}");
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

/// A file of frames, removed on drop.
struct Capture(PathBuf);

impl Capture {
    fn new(link: Link, frames: &[Vec<u8>]) -> Result<Self> {
        let name = format!(
            "tfo-t{}-{link:?}-{:x}.pcap",
            process::id(),
            fastrand::u64(..)
        );
        let this = Self(env::temp_dir().join(name));
        // pcap-savefile(5): the header with its magic, version 2.4, and the most bytes of a frame; before each
        // frame the time, and its length twice.
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

//! Settings of the metrics server.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// Most ports that metrics name one by one; it bounds the number of series.
pub const MAX_METRIC_PORTS: usize = 64;

/// The address at which metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// The absolute path of a UNIX socket.
    Unix(PathBuf),
}

/// A text that is no [`ListenAddress`].
#[derive(Debug, thiserror::Error)]
#[error(
    "write a port (of the loopback address), ADDRESS:PORT, or unix: and the absolute path of a socket (unix:PATH), not {0:?}"
)]
pub struct ListenAddressError(String);

/// Reads `PORT` (of the loopback address), `ADDRESS:PORT` or `unix:PATH`.
impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let error = || ListenAddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return path
                .is_absolute()
                .then_some(Self::Unix(path))
                .ok_or_else(error);
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| error())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// `127.0.0.1:9733`.
    pub const DEFAULT: Self = Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9733));

    /// `true` if other hosts may be able to connect.
    pub fn is_public(&self) -> bool {
        match self {
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => !ip.is_loopback(),
                IpAddr::V6(ip) => !ip.to_canonical().is_loopback(),
            },
            Self::Unix(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_the_loopback_address() {
        for (text, shown, public) in [
            ("9469", "127.0.0.1:9469", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[::1]:9469", "[::1]:9469", false),
            ("0.0.0.0:9469", "0.0.0.0:9469", true),
            ("[::]:9469", "[::]:9469", true),
            ("unix:/run/tfo.sock", "unix:/run/tfo.sock", false),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.is_public()),
                (shown, public)
            );
        }
        for text in [
            "",
            "unix:",
            "unix:tfo.sock",
            "localhost",
            "127.0.0.1",
            "70000",
            "/run/tfo",
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.to_string().contains("unix:PATH"), "{text}");
        }
    }
}

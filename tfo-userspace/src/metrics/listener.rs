//! Where metrics are served.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as Probe,
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

/// Who may connect to the unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// A listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It is no address.
    #[error(
        "write a port (of the loopback address), ADDRESS:PORT, or unix: and the whole path of a socket (unix:PATH), not {0:?}"
    )]
    Address(String),
    /// Someone listens there.
    #[error(
        "metrics: {0} is taken: end what listens there (`ss -lxtnp` shows it), or serve elsewhere by --metrics"
    )]
    Taken(Listen),
    /// Something that is not a socket is in the way.
    #[error("metrics: {path} exists and is not a socket: remove it, or serve elsewhere by --metrics", path = path.display())]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// The kernel does not let us.
    #[error("metrics: cannot listen at {listen}: {source}: serve elsewhere by --metrics")]
    Bind {
        /// Where.
        listen: Listen,
        /// The kernel's word.
        source: io::Error,
    },
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let error = || ListenError::Address(text.to_owned());
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

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// On the loopback, for who runs here.
    pub const DEFAULT: Self = Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9733));

    /// Other hosts may be able to reach it.
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

/// A socket that listens. That of a path is removed on drop.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A connection, whichever way it came.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    pub(super) async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let bound = match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => {
                remove_stale(listen, path)?;
                bind_unix(path)
            }
        };
        bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken(listen.clone()),
            _ => ListenError::Bind {
                listen: listen.clone(),
                source,
            },
        })
    }

    /// Where it listens: the port is known then, too.
    pub(super) fn address(&self) -> io::Result<Listen> {
        Ok(match self {
            Self::Tcp(listener) => Listen::Tcp(listener.local_addr()?),
            Self::Unix(_, path) => Listen::Unix(path.clone()),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Where it cannot be removed, the next bind finds it stale.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = Listener::Unix(UnixListener::bind(path)?, path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Removes the socket of a process that was killed: nobody answers at it.
fn remove_stale(listen: &Listen, path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::Occupied {
            path: path.to_owned(),
        });
    }
    match Probe::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| ListenError::Bind {
                listen: listen.clone(),
                source,
            }),
        _ => Err(ListenError::Taken(listen.clone())),
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
            let listen: Listen = text.parse().unwrap();
            assert_eq!(
                (listen.to_string().as_str(), listen.is_public()),
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
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.to_string().contains("unix:PATH"), "{text}");
        }
    }
}

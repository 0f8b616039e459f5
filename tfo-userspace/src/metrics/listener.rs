//! The listening socket of the metrics server.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::model::ListenAddress;

/// Permissions of the UNIX socket: its owner and its group may connect.
const SOCKET_MODE: u32 = 0o660;

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there.
    #[error(
        "metrics: {0} is taken: stop the process that listens there (`ss -lxtnp` shows it), or choose another address with --metrics"
    )]
    Taken(ListenAddress),
    /// The path of the UNIX socket exists and is no socket.
    #[error("metrics: {path} exists and is not a socket: remove it, or choose another address with --metrics", path = path.display())]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// bind(2) or listen(2) failed.
    #[error("metrics: cannot listen at {address}: {source}: choose another address with --metrics")]
    Bind {
        /// The address.
        address: ListenAddress,
        /// The cause.
        source: io::Error,
    },
}

/// A listening socket. The file of a UNIX socket is removed on drop.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A connection over TCP or a UNIX socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    pub(super) async fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        let bound = match address {
            ListenAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            ListenAddress::Unix(path) => {
                remove_stale(address, path)?;
                bind_unix(path)
            }
        };
        bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::Taken(address.clone()),
            _ => ListenError::Bind {
                address: address.clone(),
                source,
            },
        })
    }

    /// The address, with the port that the kernel chose where 0 was asked for.
    pub(super) fn address(&self) -> io::Result<ListenAddress> {
        Ok(match self {
            Self::Tcp(listener) => ListenAddress::Tcp(listener.local_addr()?),
            Self::Unix(_, path) => ListenAddress::Unix(path.clone()),
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
            // If this fails, the next bind removes it as stale.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = Listener::Unix(UnixListener::bind(path)?, path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Removes a socket that no process listens at, left by one that was killed.
fn remove_stale(address: &ListenAddress, path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::Occupied {
            path: path.to_owned(),
        });
    }
    match BlockingUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|source| ListenError::Bind {
                address: address.clone(),
                source,
            }),
        _ => Err(ListenError::Taken(address.clone())),
    }
}

//! A minimal HTTP/1.1 client on a raw stream, so that tests can also send malformed requests.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{netns::Netns, poll::scaled};

/// Timeout of connect, read and write.
pub const LIMIT: Duration = Duration::from_secs(20);

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, in lower case.
    pub headers: String,
    /// Body, until the end of the connection.
    pub body: String,
}

/// Connects to a server in `netns`.
///
/// # Errors
///
/// As connect(2), or no connection within [`LIMIT`].
pub fn connect(netns: &Netns, server: SocketAddr) -> Result<TcpStream> {
    let stream = netns
        .run(|| TcpStream::connect_timeout(&server, scaled(LIMIT)))
        .with_context(|| format!("cannot connect to {server}"))?;
    stream.set_read_timeout(Some(scaled(LIMIT)))?;
    stream.set_write_timeout(Some(scaled(LIMIT)))?;
    Ok(stream)
}

/// Sends a request without body to a server in `netns`.
///
/// # Errors
///
/// No response within [`LIMIT`], or the response is not HTTP.
pub fn request(netns: &Netns, server: SocketAddr, method: &str, path: &str) -> Result<Answer> {
    ask(connect(netns, server)?, method, path)
}

/// Sends a GET request to a server at a Unix socket.
///
/// # Errors
///
/// As [`request`].
pub fn request_unix(socket: &Path, path: &str) -> Result<Answer> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(scaled(LIMIT)))?;
    ask(stream, "GET", path)
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> Result<Answer> {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: tfo\r\n\r\n")?;
    read_answer(stream)
}

/// Reads a response until the end of the connection. Chunked bodies are not decoded.
///
/// # Errors
///
/// The connection stays open beyond its timeout, or the response is not HTTP.
pub fn read_answer(mut stream: impl Read) -> Result<Answer> {
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .with_context(|| format!("the response is truncated: {text:?}"))?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("not an HTTP response: {text:?}"))?;
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status.split(' ').nth(1).context("no status")?;
    Ok(Answer {
        status: status.parse()?,
        headers: headers.to_lowercase(),
        body: body.to_owned(),
    })
}

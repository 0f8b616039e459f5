//! A client of HTTP/1, plain enough to misbehave.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The header lines, in small letters.
    pub headers: String,
    /// What follows them.
    pub body: String,
}

/// A connection to a server in `netns`.
///
/// # Errors
///
/// Where nobody listens.
pub fn connect(netns: &Netns, server: SocketAddr) -> Result<TcpStream> {
    let stream = netns
        .run(|| TcpStream::connect_timeout(&server, LIMIT))
        .with_context(|| format!("cannot connect to {server}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Asks a server in `netns`.
///
/// # Errors
///
/// Where it does not answer in time, or not in HTTP.
pub fn request(netns: &Netns, server: SocketAddr, method: &str, path: &str) -> Result<Answer> {
    ask(connect(netns, server)?, method, path)
}

/// Asks a server at a unix socket.
///
/// # Errors
///
/// As [`request`].
pub fn request_unix(socket: &Path, path: &str) -> Result<Answer> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    ask(stream, "GET", path)
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> Result<Answer> {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: tfo\r\n\r\n")?;
    read_answer(stream)
}

/// Reads an answer, up to the end of the connection.
///
/// # Errors
///
/// Where it does not end in time, or is not HTTP.
pub fn read_answer(mut stream: impl Read) -> Result<Answer> {
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .with_context(|| format!("the answer breaks off: {text:?}"))?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP: {text:?}"))?;
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status.split(' ').nth(1).context("no status")?;
    Ok(Answer {
        status: status.parse()?,
        headers: headers.to_lowercase(),
        body: body.to_owned(),
    })
}

//! Unmodified clients and servers: Python, curl.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    netns::{Netns, wait_for_listener},
    process::{self, Background},
    socket::Listener,
    veth::{Family, Pair},
};

/// Connections per client.
pub const CONNECTIONS: usize = 3;

/// Port of the Python server.
pub const PYTHON_PORT: u16 = 12345;

const LIMIT: Duration = Duration::from_secs(20);

/// Accepts three connections and prints what each sent.
const PYTHON_SERVER: &str = r#"
import socket, sys
s = socket.socket(getattr(socket, sys.argv[1]))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
s.bind((sys.argv[2], 12345))
s.listen()
for _ in range(3):
    connection, _ = s.accept()
    said = b""
    while more := connection.recv(100):
        said += more
    print(said.decode())
    connection.sendall(b"world")
    connection.close()
"#;

/// Connects three times by `sendto` with `MSG_FASTOPEN`.
const PYTHON_CLIENT: &str = r#"
import socket, sys
for number in range(3):
    s = socket.socket(getattr(socket, sys.argv[1]))
    s.sendto(b"hello %d" % number, socket.MSG_FASTOPEN, (sys.argv[2], 12345))
    s.shutdown(socket.SHUT_WR)
    while s.recv(100):
        pass
    s.close()
"#;

/// Opens [`CONNECTIONS`] connections from a Python client to a Python server, both with Fast Open.
///
/// # Errors
///
/// A program fails, or the server does not read each message exactly once.
pub fn python(pair: &Pair, family: Family) -> Result<()> {
    let python_family = match family {
        Family::V4 => "AF_INET",
        Family::V6 => "AF_INET6",
    };
    let address = family.server().to_string();
    let arguments = |script| ["-c", script, python_family, &address];
    let mut server = pair.server.command("python3");
    let listener = Background::start(server.args(arguments(PYTHON_SERVER)))?;
    wait_for_listener(&pair.server, PYTHON_PORT)?;
    let mut client = pair.client.command("python3");
    process::succeed(client.args(arguments(PYTHON_CLIENT)), LIMIT)?;
    let said = listener.wait(LIMIT)?;
    ensure!(
        said.status.success() && said.stdout == "hello 0\nhello 1\nhello 2\n",
        "{said:?}"
    );
    Ok(())
}

/// Sends [`CONNECTIONS`] requests by `curl --tcp-fastopen` to `server`, behind which HTTP servers on `listeners` take as many
/// of them each.
///
/// # Errors
///
/// curl does not receive the page, or a server does not read exactly one request per connection.
///
/// # Panics
///
/// A server thread panics.
pub fn curl(client: &Netns, server: SocketAddr, listeners: &[&Listener]) -> Result<()> {
    let url = format!("http://{server}/");
    let arguments = [
        "--tcp-fastopen",
        "--silent",
        "--show-error",
        "--globoff",
        "--max-time",
        "15",
        "--noproxy",
        "*",
        &url,
    ];
    let each = CONNECTIONS / listeners.len();
    thread::scope(|scope| -> Result<()> {
        let serve = |listener| scope.spawn(move || respond(listener, each));
        let servers: Vec<_> = listeners.iter().copied().map(serve).collect();
        for _ in 0..CONNECTIONS {
            let page = process::succeed(client.command("curl").args(arguments), LIMIT)?;
            ensure!(page == "hello", "{page:?}");
        }
        let mut servers = servers.into_iter();
        servers.try_for_each(|server| server.join().expect("no panic"))
    })
}

/// Answers one HTTP/1.1 request on each of `connections`.
fn respond(listener: &Listener, connections: usize) -> Result<()> {
    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    for _ in 0..connections {
        let connection = listener.accept()?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let more = connection.receive()?;
            ensure!(!more.is_empty(), "the request is truncated");
            request.extend(more);
        }
        let heads = request.windows(4).filter(|end| end == b"\r\n\r\n").count();
        ensure!(
            request.starts_with(b"GET / ") && heads == 1,
            "not one request"
        );
        connection.send(REPLY)?;
        connection.finish()?;
    }
    Ok(())
}

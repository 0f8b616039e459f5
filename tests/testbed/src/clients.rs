//! Unmodified clients and servers: Python, curl.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    netns::wait_for_listener,
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

/// Sends [`CONNECTIONS`] requests by `curl --tcp-fastopen` to an HTTP server on `listener`.
///
/// # Errors
///
/// curl does not receive the page, or the server does not read exactly one request per connection.
///
/// # Panics
///
/// The server thread panics.
pub fn curl(pair: &Pair, listener: &Listener, family: Family) -> Result<()> {
    let url = match family {
        Family::V4 => format!("http://{}:{}/", family.server(), listener.port()),
        Family::V6 => format!("http://[{}]:{}/", family.server(), listener.port()),
    };
    let arguments = [
        "--tcp-fastopen",
        "--silent",
        "--show-error",
        "--globoff",
        "--max-time",
        "15",
    ];
    thread::scope(|scope| -> Result<()> {
        let server = scope.spawn(|| respond(listener));
        for _ in 0..CONNECTIONS {
            let mut curl = pair.client.command("curl");
            let page =
                process::succeed(curl.args(arguments).args(["--noproxy", "*", &url]), LIMIT)?;
            ensure!(page == "hello", "{page:?}");
        }
        server.join().expect("no panic")
    })
}

/// Answers one HTTP/1.1 request per connection.
fn respond(listener: &Listener) -> Result<()> {
    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    for _ in 0..CONNECTIONS {
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

//! Clients and servers that know nothing of `tfo`: Python's plainest, and curl.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tfo_tests::{
    bed::{Bed, Tally},
    kernel::TcpExt,
    netns::wait_for_listener,
    process::{self, Background},
    socket::Listener,
    veth::Family,
};

const LIMIT: Duration = Duration::from_secs(20);
const PYTHON_PORT: u16 = 12345;

/// Takes three connections and says what came.
const PYTHON_SERVER: &str = r#"
import socket, sys
s = socket.socket(getattr(socket, sys.argv[1]))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
s.bind((sys.argv[2], 12345))
s.listen()
for _ in range(3):
    connection, _ = s.accept()
    print(connection.recv(100).decode())
    connection.sendall(b"world")
    connection.close()
"#;

/// Connects three times, each time with one call.
const PYTHON_CLIENT: &str = r#"
import socket, sys
for number in range(3):
    s = socket.socket(getattr(socket, sys.argv[1]))
    s.sendto(b"hello %d" % number, socket.MSG_FASTOPEN, (sys.argv[2], 12345))
    while s.recv(100):
        pass
    s.close()
"#;

fn python(family: Family) -> Result<()> {
    let bed = Bed::new()?;
    let python_family = match family {
        Family::V4 => "AF_INET",
        Family::V6 => "AF_INET6",
    };
    let address = family.server().to_string();
    let arguments = |script| ["-c", script, python_family, &address];
    let (client, server) = (&bed.pair.client, &bed.pair.server);
    let listener = Background::start(server.command("python3").args(arguments(PYTHON_SERVER)))?;
    wait_for_listener(server, PYTHON_PORT)?;
    process::succeed(
        client.command("python3").args(arguments(PYTHON_CLIENT)),
        LIMIT,
    )?;
    let said = listener.wait(LIMIT)?;
    ensure!(
        said.status.success() && said.stdout == "hello 0\nhello 1\nhello 2\n",
        "{said:?}"
    );
    bed.expect(Tally {
        requests: 1,
        passive: 2,
        ..Tally::default()
    })?;
    let port = bed.tfo.stats_by_port()?;
    let port = port
        .get(&PYTHON_PORT)
        .context("no counters of Python's port")?;
    ensure!(port.get("TCPFastOpenPassive") == Some(&2), "{port:?}");
    Ok(())
}

#[test]
fn pythons_plainest_client_v4() -> Result<()> {
    python(Family::V4)
}

#[test]
fn pythons_plainest_client_v6() -> Result<()> {
    python(Family::V6)
}

/// Answers this many requests of HTTP/1.1, each on its own connection.
fn respond(listener: &Listener, requests: usize) -> Result<()> {
    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    for _ in 0..requests {
        let connection = listener.accept()?;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let more = connection.receive()?;
            ensure!(!more.is_empty(), "the request broke off");
            request.extend(more);
        }
        connection.send(REPLY)?;
        connection.finish()?;
    }
    Ok(())
}

fn curl(family: Family) -> Result<()> {
    let bed = Bed::new()?;
    let listener = bed.listen(family)?;
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
        "5",
    ];
    thread::scope(|scope| -> Result<()> {
        let server = scope.spawn(|| respond(&listener, 3));
        for _ in 0..3 {
            let mut curl = bed.pair.client.command("curl");
            let page =
                process::succeed(curl.args(arguments).args(["--noproxy", "*", &url]), LIMIT)?;
            ensure!(page == "hello", "{page:?}");
        }
        server.join().expect("no panic")
    })?;
    bed.expect(Tally {
        requests: 1,
        passive: 2,
        ..Tally::default()
    })?;
    // The client's kernel saw its data acknowledged in the SYN-ACK.
    ensure!(TcpExt::read(&bed.pair.client)?.get("TCPFastOpenActive") == 2);
    Ok(())
}

#[test]
fn curl_v4() -> Result<()> {
    curl(Family::V4)
}

#[test]
fn curl_v6() -> Result<()> {
    curl(Family::V6)
}

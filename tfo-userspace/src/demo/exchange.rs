//! One connection of the demo: a request and its reply over kernel TCP, and what both kernels say of it.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, sendto, socket_with},
};

use super::family::Family;
use crate::kernel::{
    client_socket::{ClientFail, TcpInfo},
    fast_open,
    netns::UnnamedNetns,
};

const REQUEST: &[u8] = b"what is the time?";
const REPLY: &[u8] = b"time to open fast";
/// The listener's Fast Open queue; one connection is open at a time.
const QUEUE: u32 = 16;
/// Time that each call gets: longer than two retransmissions of a SYN.
const LIMIT: Duration = Duration::from_secs(20);

/// The course of a connection.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Exchange {
    /// The version of IP.
    pub family: Family,
    /// Milliseconds from the client's first call until it had the reply.
    pub reply_ms: f64,
    /// The request was in the SYN, and the server took it from there.
    pub in_syn: bool,
    /// The server read the request before the handshake was complete.
    pub before_handshake: bool,
    /// Why the client's kernel did not use Fast Open.
    pub client_fail: ClientFail,
}

impl Exchange {
    /// Returns the remedy for an unexpected course.
    pub(super) const fn remedy(&self) -> &'static str {
        match self.client_fail {
            ClientFail::SynRetransmitted => {
                "this machine stalled for a second, so that the kernel sent the SYN again without Fast Open: run it again"
            }
            _ => {
                "run it again; if it happens again, something on this host changes TCP in new network namespaces, such as a BPF program"
            }
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.client_fail {
            ClientFail::None => "the client's kernel gives no reason",
            ClientFail::NoCookie => "the client's kernel had no cookie",
            ClientFail::DataNotAcked => "the SYN-ACK did not acknowledge the data",
            ClientFail::SynRetransmitted => "the SYN was sent again",
        })
    }
}

/// A listener with Fast Open in the calling thread's namespace, for the families that there are.
pub(super) fn listen(families: &[Family]) -> io::Result<TcpListener> {
    // std's sets SO_REUSEADDR alone; an IPv6 socket takes IPv4 as well by net.ipv6.bindv6only of a new namespace.
    let listener = if families.contains(&Family::V6) {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?
    } else {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
    };
    fast_open::set_queue(&listener, QUEUE)?;
    Ok(listener)
}

/// Has the client connect, send the request and read the reply. Both ends are closed on return.
pub(super) fn exchange(
    client: &UnnamedNetns,
    listener: &TcpListener,
    family: Family,
    with_fast_open: bool,
) -> io::Result<Exchange> {
    let to = SocketAddr::new(family.server(), listener.local_addr()?.port());
    let (served, asked) = thread::scope(|scope| {
        let serving = scope.spawn(|| serve(listener));
        let asked = client.run(|| ask(to, with_fast_open));
        let served = serving.join().unwrap_or_else(|panic| resume_unwind(panic));
        (served, asked)
    });
    let (took, client) = asked?;
    let (taken, before_handshake) = served?;
    Ok(Exchange {
        family,
        reply_ms: took.as_secs_f64() * 1e3,
        in_syn: client.syn_data_taken() && taken,
        before_handshake,
        client_fail: client.client_fail,
    })
}

/// Answers one request. Gives whether the data in its SYN was taken, and whether it was read before the handshake was complete.
fn serve(listener: &TcpListener) -> io::Result<(bool, bool)> {
    wait(listener)?;
    let (mut stream, _) = listener.accept()?;
    limit(&stream)?;
    expect(&mut stream, REQUEST)?;
    let before_handshake = TcpInfo::of(&stream)?.handshake_open();
    stream.write_all(REPLY)?;
    // With it the ACK of the handshake has come: no frame of this connection that anybody counts is on its way.
    expect_end(&mut stream)?;
    Ok((TcpInfo::of(&stream)?.syn_data_taken(), before_handshake))
}

/// Waits for a connection, so that a client that fails ends the demo instead of having accept(2) wait for ever.
fn wait(listener: &TcpListener) -> io::Result<()> {
    let limit = Timespec::try_from(LIMIT).map_err(io::Error::other)?;
    let mut listener = [PollFd::new(listener, PollFlags::IN)];
    loop {
        match poll(&mut listener, Some(&limit)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The client's part, in its namespace.
fn ask(server: SocketAddr, with_fast_open: bool) -> io::Result<(Duration, TcpInfo)> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut stream = TcpStream::from(socket);
    limit(&stream)?;
    let start = Instant::now();
    let sent = if with_fast_open {
        let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
        // Waits for the handshake where there is no cookie yet.
        sendto(&stream, REQUEST, flags | SendFlags::NOSIGNAL, &server)?
    } else {
        connect(&stream, &server)?;
        0
    };
    stream.write_all(&REQUEST[sent..])?;
    expect(&mut stream, REPLY)?;
    let (took, info) = (start.elapsed(), TcpInfo::of(&stream)?);
    stream.shutdown(Shutdown::Write)?;
    expect_end(&mut stream)?;
    Ok((took, info))
}

fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))
}

fn expect(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read)?;
    if read == text {
        Ok(())
    } else {
        Err(io::Error::other("it carried other bytes than were sent"))
    }
}

fn expect_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("it carried more bytes than were sent")),
    }
}

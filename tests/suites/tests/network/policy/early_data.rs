//! `once` by content in front of nginx with TLS 1.3: the first handshake message and the early data behind it come in the SYN.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use etherparse::{SlicedPacket, TransportSlice};
use tfo_common::policy::{Action, Class, once::OnceBy};
use tfo_testbed::{
    directory::Directory,
    link::{Frames, LinkSocket},
    netns::wait_for_listener,
    packet::{Segment, fast_open, linux_options},
    policy::{everywhere, rule},
    process::{self, Background},
    socket::{Connection, Listener, Method},
    testbed::Testbed,
    tfo::LIMIT,
    veth::{CLIENT_INTERFACE, CLIENT_MAC, Family, Pair, SERVER_MAC, server_port},
};
use tfo_userspace::model::PortPolicy;

const PORT: u16 = 8443;
const REQUEST: &str = "GET / HTTP/1.0\r\n\r\n";
/// Content types of TLS records: RFC 8446, appendix B.1.
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// nginx, which says whether a request came as early data.
fn nginx(testbed: &Testbed, directory: &Directory) -> Result<Background> {
    let [key, certificate, pid] = ["key", "certificate", "pid"].map(|name| directory.path(name));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    openssl.args(["-nodes", "-subj", "/CN=tfo", "-days", "2"]);
    process::succeed(openssl.args(["-keyout", &key, "-out", &certificate]), LIMIT)?;
    let config = format!(
        "daemon off; master_process off; user root; pid {pid}; error_log stderr;
         events {{}}
         http {{
             access_log off;
             server {{
                 listen 0.0.0.0:{PORT} ssl fastopen=64;
                 ssl_protocols TLSv1.3;
                 ssl_early_data on;
                 ssl_certificate {certificate};
                 ssl_certificate_key {key};
                 location / {{ return 200 \"early: <$ssl_early_data>\"; }}
             }}
         }}"
    );
    let config = directory.file("nginx.conf", &config)?;
    let mut nginx = testbed.pair.server.command("nginx");
    let server = Background::start(nginx.args(["-c", &config]))?;
    wait_for_listener(&testbed.pair.server, PORT)?;
    Ok(server)
}

/// Reads the client's first data: whole TLS records, up to the first one of the type `last`.
fn first_records(local: &mut TcpStream, last: u8) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut head = [0; 5];
        local.read_exact(&mut head)?;
        let len = u16::from_be_bytes([head[3], head[4]]);
        let mut body = vec![0; len.into()];
        local.read_exact(&mut body)?;
        all.extend(head);
        all.extend(body);
        if head[0] == last {
            return Ok(all);
        }
    }
}

/// Relays one connection to the server, whose SYN has the client's first records, up to one of the type `last`, if there is a
/// cookie. Gives these records, and whether the kernel took them from the SYN.
fn relay(testbed: &Testbed, relay: &TcpListener, last: u8) -> Result<(Vec<u8>, bool)> {
    let (mut local, _) = relay.accept()?;
    let first = first_records(&mut local, last)?;
    let server = server_port(Family::V4, PORT);
    let remote = Connection::open(&testbed.pair.client, server, Method::SendTo, &first)?;
    let taken = remote.info()?.syn_data_taken;
    let mut from = local.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(|| -> Result<()> {
            let mut bytes = [0; 4096];
            loop {
                match from.read(&mut bytes)? {
                    0 => return remote.finish(),
                    len => remote.send(&bytes[..len])?,
                }
            }
        });
        // The client's last record may come when the server has closed: its reset ends the connection, too.
        while let Ok(bytes) = remote.receive()
            && !bytes.is_empty()
        {
            local.write_all(&bytes)?;
        }
        // The client may have closed.
        let _ = local.shutdown(Shutdown::Both);
        Ok((first, taken))
    })
}

/// A TLS client's first data, and its output.
struct Visit {
    /// The client's output: the page, and what became of early data.
    said: String,
    first: Vec<u8>,
    taken: bool,
}

/// Has openssl(1) visit the server by way of [`relay`], with this file as input.
fn visit(testbed: &Testbed, input: &str, arguments: &[&str], last: u8) -> Result<Visit> {
    let netns = &testbed.pair.client;
    let listener = Listener::plain(netns, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = format!("127.0.0.1:{}", listener.port());
    let listener = listener.blocking()?;
    let script = format!("exec openssl s_client -ign_eof -connect {address} \"$@\" < {input}");
    let mut openssl = netns.command("sh");
    openssl.args(["-c", &script, "openssl"]).args(arguments);
    let (said, relayed) = thread::scope(|scope| {
        let relayed = scope.spawn(|| relay(testbed, &listener, last));
        let said = process::output(&mut openssl, LIMIT);
        (said, relayed.join())
    });
    let said = said?;
    let relayed = relayed.ok().context("the relay panicked")?;
    let (first, taken) = relayed.with_context(|| format!("{said:?}"))?;
    Ok(Visit {
        said: said.stdout,
        first,
        taken,
    })
}

/// Sends the data with the client's cookie from another port. Gives the bytes of data that the SYN-ACK acknowledges.
fn replay(testbed: &Testbed, port: u16, data: &[u8]) -> Result<u32> {
    let cookie = testbed
        .pair
        .cached_cookie(Family::V4)?
        .context("no cookie")?;
    let from = SocketAddr::new(Family::V4.client(), port);
    let syn = Segment::syn(from, server_port(Family::V4, PORT))
        .options(&linux_options(&fast_open(&cookie)))
        .data(data);
    let mut frame = syn.frame().to_vec();
    frame[..6].copy_from_slice(&SERVER_MAC);
    frame[6..12].copy_from_slice(&CLIENT_MAC);
    let sequence = |frame: &[u8]| u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
    let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::Ipv4)?;
    link.send(&frame)?;
    loop {
        let came = link.receive(LIMIT)?.context("no answer")?;
        let packet = SlicedPacket::from_ethernet(&came)?;
        if let Some(TransportSlice::Tcp(tcp)) = packet.transport
            && tcp.syn()
            && tcp.ack()
            && tcp.destination_port() == port
        {
            let acked = tcp.acknowledgment_number().wrapping_sub(sequence(&frame));
            return Ok(acked.wrapping_sub(1));
        }
    }
}

#[test]
fn a_client_hello_is_taken_once_with_its_early_data() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &[])?;
    testbed
        .pair
        .client
        .configure(&["link set lo up".to_owned()])?;
    let directory = Directory::new("early-data")?;
    let _server = nginx(&testbed, &directory)?;
    let by_content = PortPolicy {
        once_by: OnceBy::Content,
        ..rule(Class::Valid, Action::Once)
    };
    testbed.set_policy(Some(everywhere(by_content)))?;
    let request = directory.file("request", REQUEST)?;
    let session = directory.path("session");
    // The first connection asks for a cookie, and brings a session.
    let visited = visit(&testbed, &request, &["-sess_out", &session], HANDSHAKE)?;
    let page = &visited.said;
    ensure!(page.contains("early: <>") && !visited.taken, "{page}");
    for _ in 0..3 {
        let resumes = ["-sess_in", &session, "-sess_out", &session];
        let early = [&resumes[..], &["-early_data", &request]].concat();
        let visited = visit(&testbed, "/dev/null", &early, APPLICATION_DATA)?;
        // nginx says so only where the client's part of the handshake has not come in between.
        let accepted = visited.said.contains("Early data was accepted");
        ensure!(
            accepted && visited.said.contains("early: <"),
            "{}",
            visited.said
        );
        ensure!(visited.taken, "not in the SYN");
        for port in [50_001, 50_002] {
            let acked = replay(&testbed, port, &visited.first)?;
            ensure!(acked == 0, "{acked} bytes of a copy were taken");
        }
    }
    let stats = testbed.equal()?;
    ensure!(stats.counters["PolicyFirst"] == 3, "{stats:?}");
    ensure!(stats.counters["PolicyRepeated"] == 6, "{stats:?}");
    Ok(())
}

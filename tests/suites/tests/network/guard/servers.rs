//! Unmodified servers behind the guard, with curl as client; and bulk transfer.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    directory::Directory,
    kernel::TcpExt,
    netns::wait_for_listener,
    process::{self, Background},
    socket::Listener,
    veth::{Family, server_port},
    xdp::Mode,
};

use super::testbed::{GuardTestbed, grown, in_each_mode};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 8080;
/// A part of the page that the server has under `/`.
const PAGE: &str = "a page of ours";

/// Runs curl five times in each family; the last requests have a cookie.
fn ask(testbed: &GuardTestbed) -> Result<()> {
    const TIMES: u64 = 5;
    for family in Family::BOTH {
        let url = format!("http://{}/page", server_port(family, PORT));
        let before = testbed.counters()?;
        for _ in 0..TIMES {
            let mut curl = testbed.base.pair.client.command("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--fail",
                "--globoff",
                "--tcp-fastopen",
            ]);
            curl.args(["--max-time", "15", "--noproxy", "*", &url]);
            let page = process::succeed(&mut curl, LIMIT)?;
            ensure!(page == PAGE, "{page:?}");
        }
        let after = testbed.counters()?;
        let grown = grown(&before, &after);
        let of = |counter| after.get(counter) - before.get(counter);
        ensure!(
            of(GuardAccepted) == of(GuardChallenged)
                && of(GuardAccepted) + of(GuardProven) == TIMES
                && of(GuardAccepted) > 0,
            "{family}: {grown:?}"
        );
    }
    let client = TcpExt::read(&testbed.base.pair.client)?;
    ensure!(client.get("TCPSynRetrans") == 0, "{client:?}");
    Ok(())
}

fn serve(mode: Mode, program: &str, arguments: &[&str]) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    testbed.guard(PORT, "on", &[])?;
    let mut server = testbed.base.pair.server.command(program);
    let _server = Background::start(server.args(arguments))?;
    wait_for_listener(&testbed.base.pair.server, PORT)?;
    ask(&testbed)
}

fn nginx(mode: Mode) -> Result<()> {
    let directory = Directory::new(&format!("guard-nginx-{mode}"))?;
    let at = directory.path("");
    directory.file("page", PAGE)?;
    let config = directory.file(
        "nginx.conf",
        &format!(
            "daemon off; master_process off; user root; pid {at}/pid; error_log stderr;
             events {{}}
             http {{
                 access_log off;
                 server {{
                     listen 0.0.0.0:{PORT} fastopen=16;
                     listen [::]:{PORT} fastopen=16;
                     root {at};
                 }}
             }}"
        ),
    )?;
    serve(mode, "nginx", &["-c", &config])
}

fn pythons_http_server(mode: Mode) -> Result<()> {
    let directory = Directory::new(&format!("python-{mode}"))?;
    directory.file("page", PAGE)?;
    let (port, at) = (PORT.to_string(), directory.path(""));
    let module = ["-m", "http.server", "--bind", "::", "--directory"];
    serve(mode, "python3", &[&module[..], &[&at, &port]].concat())
}

/// Sends 64 MiB to `listener`. Returns the number of bytes received.
fn pour(testbed: &GuardTestbed, family: Family, listener: &TcpListener, port: u16) -> Result<u64> {
    thread::scope(|scope| {
        let drain = scope.spawn(|| -> Result<u64> {
            let (mut connection, _) = listener.accept()?;
            let mut buffer = vec![0; 1 << 18];
            let mut sum = 0;
            loop {
                match connection.read(&mut buffer)? {
                    0 => return Ok(sum),
                    len => sum += len as u64,
                }
            }
        });
        let server = server_port(family, port);
        let client = &testbed.base.pair.client;
        let mut stream = client.run(|| TcpStream::connect_timeout(&server, LIMIT))?;
        let data = vec![7; 1 << 18];
        for _ in 0..POURED >> 18 {
            stream.write_all(&data)?;
        }
        drop(stream);
        drain.join().expect("no panic")
    })
}

const POURED: u64 = 64 << 20;

/// Bulk data over connections that the guard has accepted. Prints the throughput, which depends on the machine.
fn much_data_goes_through_it(mode: Mode) -> Result<()> {
    const ROUNDS: u64 = 3;
    let testbed = GuardTestbed::new(mode)?;
    for family in Family::BOTH {
        let listeners = [testbed.base.listen(family)?, testbed.base.listen(family)?];
        let ports = listeners.each_ref().map(Listener::port);
        testbed.guard(ports[1], "on", &[])?;
        let [plain, guarded] = listeners.map(Listener::blocking);
        let listeners = [plain?, guarded?];
        let before = testbed.counters()?.get(GuardAccepted);
        let mut took = [Duration::ZERO; 2];
        for _ in 0..ROUNDS {
            for ((took, listener), port) in took.iter_mut().zip(&listeners).zip(ports) {
                let start = Instant::now();
                let came = pour(&testbed, family, listener, port)?;
                *took += start.elapsed();
                ensure!(came == POURED, "{family}: {came} bytes of {POURED}");
            }
        }
        println!("{family}: without the guard and with it: {took:?}");
        let accepted = testbed.counters()?.get(GuardAccepted) - before;
        ensure!(accepted == ROUNDS, "{accepted} through the guard");
    }
    Ok(())
}

in_each_mode! {
    nginx;
    pythons_http_server;
    much_data_goes_through_it;
}

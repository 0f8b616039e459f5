//! Well-behaved and misbehaving HTTP clients.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    http::{self, LIMIT},
    netns::Netns,
    poll::eventually,
    prometheus::{METRICS, Scratch, Served, get},
    testbed::Testbed,
    veth::SERVER_INTERFACE,
};

/// Memory of a process's own, in KiB. Not `VmRSS`: most of that is code, whose size depends on the profile.
fn memory(process: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let value = line.and_then(|it| it.split_whitespace().next());
    Ok(value.context("no RssAnon")?.parse()?)
}

/// Fails unless a scrape succeeds.
fn ensure_serving(netns: &Netns) -> Result<()> {
    let answer = get(netns, "/metrics")?;
    ensure!(
        answer.status == 200 && answer.body.contains("tfo_build_info"),
        "{answer:?}"
    );
    Ok(())
}

/// Fails unless the server closes the connection before the read times out. Returns the rest of the answer.
fn ensure_closed(mut stream: TcpStream) -> Result<String> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        result => drop(result.context("not closed")?),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn pages_and_methods() -> Result<()> {
    let testbed = Testbed::new()?;
    let netns = &testbed.pair.server;
    let served = Served::start(&testbed.tfo, netns, &[])?;
    let ask = |method: &str, path: &str| http::request(netns, METRICS, method, path);
    let landing = ask("GET", "/")?;
    ensure!(
        landing.status == 200 && landing.body.contains("href=\"/metrics\""),
        "{landing:?}"
    );
    ensure!(ask("GET", "/metrics?a=b")?.status == 200);
    let head = ask("HEAD", "/metrics")?;
    ensure!(head.status == 200 && head.body.is_empty(), "{head:?}");
    ensure!(ask("GET", "/other")?.status == 404);
    for method in ["POST", "DELETE", "OPTIONS", "NONSENSE"] {
        let answer = ask(method, "/metrics")?;
        let allowed = answer.headers.contains("allow: get, head");
        ensure!(answer.status == 405 && allowed, "{method}: {answer:?}");
    }
    let second = testbed
        .tfo
        .run(&["run", "-i", "lo", "--metrics", &METRICS.to_string()])?;
    let line = second.stderr.lines().last().unwrap_or_default();
    ensure!(
        second.status.code() == Some(1)
            && line.starts_with(&format!("tfo: metrics: {METRICS} is taken")),
        "{second:?}"
    );
    let status = testbed.tfo.json(&["status"])?;
    let interfaces = status["interfaces"].as_array().map(Vec::len);
    ensure!(interfaces == Some(1), "{status}");
    for bad in [
        &["--metrics", "nonsense"][..],
        &["--metrics", "1", "--port", "0"],
    ] {
        let output = testbed
            .tfo
            .run(&[&["run", "-i", SERVER_INTERFACE][..], bad].concat())?;
        ensure!(output.status.code() == Some(2), "{output:?}");
    }
    let ended = served.run.terminate(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

/// Starts the server, runs `work`, and checks that the server's memory stays bounded and that it stops with success.
fn in_spite_of(work: impl FnOnce(&Netns, u32) -> Result<()>) -> Result<()> {
    let testbed = Testbed::new()?;
    let netns = &testbed.pair.server;
    let served = Served::start(&testbed.tfo, netns, &[])?;
    for _ in 0..20 {
        ensure_serving(netns)?;
    }
    let before = memory(served.run.id())?;
    work(netns, served.run.id())?;
    ensure_serving(netns)?;
    let after = memory(served.run.id())?;
    println!("anonymous: {before} KiB before, {after} KiB after");
    // Room for one page for each of the allowed connections, and for memory that the allocator keeps.
    ensure!(after < before + 4096, "{before} KiB grew to {after} KiB");
    ensure!(after < 8 << 10, "{after} KiB");
    let ended = served.run.terminate(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

/// 100 clients send a byte at a time, and never a whole request.
#[test]
fn slow_clients_harm_nobody() -> Result<()> {
    in_spite_of(|netns, process| {
        let mut slow = Vec::new();
        for _ in 0..100 {
            let mut stream = http::connect(netns, METRICS)?;
            stream.write_all(b"GET /met")?;
            slow.push(stream);
        }
        for _ in 0..5 {
            for stream in &mut slow {
                // The server has closed most of them.
                drop(stream.write_all(b"r"));
            }
            ensure_serving(netns)?;
            thread::sleep(Duration::from_millis(200));
        }
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?.count();
        ensure!(descriptors < 64, "{descriptors} descriptors");
        for stream in slow {
            ensure_closed(stream)?;
        }
        Ok(())
    })
}

/// 100 clients send a request and never read the answer, or disconnect.
#[test]
fn deaf_clients_harm_nobody() -> Result<()> {
    in_spite_of(|netns, _| {
        let mut deaf = Vec::new();
        for at in 0..100 {
            let mut stream = http::connect(netns, METRICS)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: tfo\r\n\r\n")?;
            if at % 2 == 0 {
                deaf.push(stream);
            }
        }
        ensure_serving(netns)
    })
}

#[test]
fn nonsense_harms_nobody() -> Result<()> {
    in_spite_of(|netns, _| {
        let mut random = tfo_testbed::seed::rng_with(7)?;
        for len in [1, 100, 10_000, 1_000_000] {
            let mut stream = http::connect(netns, METRICS)?;
            let garbage: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            drop(stream.write_all(&garbage));
            ensure_closed(stream)?;
            ensure_serving(netns)?;
        }
        // A head without end.
        let mut stream = http::connect(netns, METRICS)?;
        drop(stream.write_all(b"GET / HTTP/1.1\r\n"));
        for _ in 0..4_000 {
            if stream.write_all(&[b'a'; 250]).is_err() {
                break;
            }
        }
        ensure_closed(stream)?;
        // A head above the size limit.
        let mut stream = http::connect(netns, METRICS)?;
        let long = "a".repeat(9_000);
        drop(write!(stream, "GET / HTTP/1.1\r\nA: {long}\r\n\r\n"));
        let answer = ensure_closed(stream)?;
        ensure!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
        // A body with a GET request.
        let mut stream = http::connect(netns, METRICS)?;
        drop(stream.write_all(b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nabc"));
        ensure_closed(stream)?;
        Ok(())
    })
}

#[test]
fn unix_socket() -> Result<()> {
    let testbed = Testbed::new()?;
    let folder = Scratch::new()?;
    let path = folder.path().join("metrics.sock");
    let listen = format!("unix:{}", path.display());
    let start = || {
        testbed
            .tfo
            .start(&["run", "-i", SERVER_INTERFACE, "--metrics", &listen])
    };
    let serving = || -> Result<()> {
        eventually("it serves at its socket", LIMIT, || {
            Ok(http::request_unix(&path, "/metrics").is_ok())
        })
        .map(drop)
    };
    let first = start()?;
    serving()?;
    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "{mode:o}");
    let second = start()?.wait(LIMIT)?;
    ensure!(
        second.status.code() == Some(1) && second.stderr.contains("is taken"),
        "{second:?}"
    );
    serving()?;
    // A killed server leaves its socket file, which the next one replaces.
    drop(first);
    ensure!(path.exists());
    ensure!(http::request_unix(&path, "/").is_err());
    let next = start()?;
    serving()?;
    let ended = next.terminate(LIMIT)?;
    ensure!(ended.status.success() && !path.exists(), "{ended:?}");
    // A regular file at the socket's path is not replaced.
    fs::write(&path, "precious")?;
    let refused = start()?.wait(LIMIT)?;
    ensure!(
        refused.status.code() == Some(1) && refused.stderr.contains("is not a socket"),
        "{refused:?}"
    );
    ensure!(fs::read_to_string(&path)? == "precious");
    Ok(())
}

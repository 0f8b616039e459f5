//! Prometheus and its tool, as Debian has them, and the metrics that `tfo run` serves.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    http::{self, Answer},
    netns::{self, Netns},
    process::{self, Background},
    testbed::Testbed,
    tfo::Tfo,
    veth::SERVER_INTERFACE,
};

/// How long a program may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Where metrics are served in these tests, each in its own namespace.
pub const METRICS: SocketAddr = loopback(9469);
/// Where Prometheus listens.
const PROMETHEUS: SocketAddr = loopback(9090);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The project's file of that name.
pub fn dist(file: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.join("../../dist").join(file)
}

/// `prometheus` or `promtool`: as `cargo xtask setup` unpacks it, or as the system has it.
pub fn program(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unpacked = tests.join("../../target/tools/usr/bin").join(name);
    if unpacked.exists() {
        unpacked
    } else {
        name.into()
    }
}

/// Runs promtool, which must find nothing wrong and have no remark on standard error.
///
/// # Errors
///
/// What it found.
pub fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let file = Scratch::new()?;
    let path = file.path().join("input");
    fs::write(&path, input)?;
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec "$0" "$@" <"$INPUT""#])
        .arg(program("promtool"))
        .args(arguments)
        .env("INPUT", &path);
    let output = process::output(&mut command, LIMIT)?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "promtool {arguments:?}: {output:?}"
    );
    Ok(output.stdout)
}

/// A `tfo run` that serves metrics.
#[derive(Debug)]
pub struct Served {
    /// The command.
    pub run: Background,
}

impl Served {
    /// Starts it for the server's interface, and waits until it listens.
    ///
    /// # Errors
    ///
    /// Where it does not.
    pub fn start(tfo: &Tfo, netns: &Netns, arguments: &[&str]) -> Result<Self> {
        let address = METRICS.to_string();
        let run = ["run", "-i", SERVER_INTERFACE, "--metrics", &address];
        let mut run = tfo.start(&[&run, arguments].concat())?;
        if let Err(error) = netns::wait_for_listener(netns, METRICS.port()) {
            let ended = run.is_running()?;
            return Err(error.context(format!("{ended}: {:?}", run.terminate(LIMIT)?)));
        }
        let served = Self { run };
        // It listens before it is attached.
        let deadline = Instant::now() + LIMIT;
        while get(netns, "/healthz")?.status != 200 {
            ensure!(Instant::now() < deadline, "{:?}", get(netns, "/healthz")?);
            thread::sleep(Duration::from_millis(100));
        }
        Ok(served)
    }
}

/// Asks what serves metrics.
///
/// # Errors
///
/// Where it does not answer.
pub fn get(netns: &Netns, path: &str) -> Result<Answer> {
    http::request(netns, METRICS, "GET", path)
}

/// The samples of a scrape, by what stands before the value.
pub type Samples = BTreeMap<String, f64>;

/// A scrape that holds whatever happened before the call: what is given again is a second old at most.
///
/// # Errors
///
/// Where it cannot be had or read.
pub fn scrape(testbed: &Testbed) -> Result<(String, Samples)> {
    thread::sleep(Duration::from_millis(1100));
    let answer = get(&testbed.pair.server, "/metrics")?;
    ensure!(
        answer.status == 200
            && answer
                .headers
                .contains("content-type: text/plain; version=0.0.4"),
        "{answer:?}"
    );
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').context(line.to_owned())?;
        Ok((series.to_owned(), value.parse()?))
    });
    let samples = samples.collect::<Result<_>>()?;
    Ok((answer.body, samples))
}

/// A Prometheus that scrapes [`METRICS`] every second. It is killed, and its data removed, on drop.
#[derive(Debug)]
pub struct Prometheus<'a> {
    _process: Background,
    _data: Scratch,
    netns: &'a Netns,
}

impl<'a> Prometheus<'a> {
    /// Starts it in `netns`, with the project's rules, and waits until it has scraped twice.
    ///
    /// # Errors
    ///
    /// Where it does not.
    pub fn start(netns: &'a Netns) -> Result<Self> {
        let data = Scratch::new()?;
        let config = data.path().join("prometheus.yml");
        let rules = dist("prometheus/tfo.rules.yml");
        fs::write(
            &config,
            format!(
                "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['{}']\n\
                 scrape_configs:\n  - job_name: tfo\n    static_configs:\n      - targets: ['{METRICS}']\n",
                rules.display()
            ),
        )?;
        let mut command = netns.command(&program("prometheus").to_string_lossy());
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().display()))
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .arg("--log.level=warn");
        let prometheus = Self {
            _process: Background::start(&mut command)?,
            _data: data,
            netns,
        };
        netns::wait_for_listener(netns, PROMETHEUS.port())?;
        let deadline = Instant::now() + LIMIT;
        let scrapes = "count_over_time(up{job=\"tfo\"}[1m])";
        while !prometheus.value(scrapes).is_ok_and(|it| it >= 2.0) {
            ensure!(Instant::now() < deadline, "{:?}", prometheus.query("up"));
            thread::sleep(Duration::from_millis(200));
        }
        Ok(prometheus)
    }

    /// What it answers at a path of its API, where that is no error.
    ///
    /// # Errors
    ///
    /// Its own.
    pub fn api(&self, path: &str) -> Result<Value> {
        // HTTP/1.0, so that the body comes without chunks.
        let stream = http::connect(self.netns, PROMETHEUS)?;
        std::io::Write::write_all(
            &mut &stream,
            format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes(),
        )?;
        let answer = http::read_answer(stream)?;
        let value: Value = serde_json::from_str(&answer.body).context(answer.body.clone())?;
        ensure!(value["status"] == "success", "{path}: {value}");
        Ok(value["data"].clone())
    }

    /// The result of an expression.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn query(&self, expression: &str) -> Result<Value> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            encoded += &format!("%{byte:02X}");
        }
        let data = self.api(&format!("/api/v1/query?query={encoded}"))?;
        Ok(data["result"].clone())
    }

    /// The value of an expression that has one.
    ///
    /// # Errors
    ///
    /// Where it has none, or several.
    pub fn value(&self, expression: &str) -> Result<f64> {
        let result = self.query(expression)?;
        let one = result.as_array().is_some_and(|it| it.len() == 1);
        let value = result[0]["value"][1].as_str().filter(|_| one);
        let value = value.with_context(|| format!("{expression}: {result}"))?;
        Ok(value.parse()?)
    }
}

/// A folder of its own, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub fn new() -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tfo-t{}-{count}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

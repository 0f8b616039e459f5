//! Prometheus, promtool, and the metrics endpoint of `tfo run`.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    http::{self, Answer},
    netns::{self, Netns},
    poll::eventually,
    process::{self, Background},
    testbed::Testbed,
    tfo::Tfo,
    veth::SERVER_INTERFACE,
};

/// Time limit of each step.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Address of the metrics endpoint; every test has its own namespace.
pub const METRICS: SocketAddr = loopback(9469);
/// Listening address of Prometheus.
const PROMETHEUS: SocketAddr = loopback(9090);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Path of a file in the project's `dist` directory.
pub fn dist(file: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.join("../../dist").join(file)
}

/// Path of `prometheus` or `promtool`: from `cargo xtask setup`, else the name alone, for `PATH`.
pub fn program(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unpacked = tests.join("../../target/tools/usr/bin").join(name);
    if unpacked.exists() {
        unpacked
    } else {
        name.into()
    }
}

/// Runs promtool with `input` on standard input. Returns its standard output.
///
/// # Errors
///
/// promtool fails or writes to standard error; the error contains its output.
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

/// A running `tfo run --metrics`.
#[derive(Debug)]
pub struct Served {
    /// The process.
    pub run: Background,
}

impl Served {
    /// Starts it for the server's interface with additional `arguments`, and waits until `/healthz` returns 200.
    ///
    /// # Errors
    ///
    /// `tfo run` exits, or is not healthy within [`LIMIT`].
    pub fn start(tfo: &Tfo, netns: &Netns, arguments: &[&str]) -> Result<Self> {
        let address = METRICS.to_string();
        let run = ["run", "-i", SERVER_INTERFACE, "--metrics", &address];
        let mut run = tfo.start(&[&run, arguments].concat())?;
        if let Err(error) = netns::wait_for_listener(netns, METRICS.port()) {
            let ended = run.is_running()?;
            return Err(error.context(format!("{ended}: {:?}", run.terminate(LIMIT)?)));
        }
        let served = Self { run };
        // The endpoint listens before the program is attached.
        eventually("/healthz returns 200", LIMIT, || {
            Ok(get(netns, "/healthz")?.status == 200)
        })?;
        Ok(served)
    }
}

/// Sends a GET request to [`METRICS`].
///
/// # Errors
///
/// As [`http::request`].
pub fn get(netns: &Netns, path: &str) -> Result<Answer> {
    http::request(netns, METRICS, "GET", path)
}

/// Samples of a scrape, by series (name and labels).
pub type Samples = BTreeMap<String, f64>;

/// Scrapes `/metrics` after 1.1 seconds, since `tfo run` caches a scrape for one second. Returns the body and its
/// samples.
///
/// # Errors
///
/// The status is not 200, the content type is not the text format 0.0.4, or a line cannot be parsed.
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

/// A Prometheus that scrapes [`METRICS`] every second. Killed on drop, and its data removed.
#[derive(Debug)]
pub struct Prometheus<'a> {
    _process: Background,
    _data: Scratch,
    netns: &'a Netns,
}

impl<'a> Prometheus<'a> {
    /// Starts it in `netns` with the project's rules, and waits for two scrapes.
    ///
    /// # Errors
    ///
    /// Prometheus does not start, or has not scraped twice within [`LIMIT`].
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
        let scrapes = "count_over_time(up{job=\"tfo\"}[1m])";
        eventually("Prometheus has scraped twice", LIMIT, || {
            Ok(prometheus.value(scrapes).is_ok_and(|it| it >= 2.0))
        })?;
        Ok(prometheus)
    }

    /// The `data` of an API response.
    ///
    /// # Errors
    ///
    /// The `status` of the response is not `success`.
    pub fn api(&self, path: &str) -> Result<Value> {
        // HTTP/1.0, so that the body is not chunked.
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

    /// The `result` of an instant query.
    ///
    /// # Errors
    ///
    /// Prometheus rejects the expression.
    pub fn query(&self, expression: &str) -> Result<Value> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            encoded += &format!("%{byte:02X}");
        }
        let data = self.api(&format!("/api/v1/query?query={encoded}"))?;
        Ok(data["result"].clone())
    }

    /// The value of an expression with exactly one sample.
    ///
    /// # Errors
    ///
    /// The result has no or several samples.
    pub fn value(&self, expression: &str) -> Result<f64> {
        let result = self.query(expression)?;
        let one = result.as_array().is_some_and(|it| it.len() == 1);
        let value = result[0]["value"][1].as_str().filter(|_| one);
        let value = value.with_context(|| format!("{expression}: {result}"))?;
        Ok(value.parse()?)
    }
}

/// A temporary directory, removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates an empty directory.
    ///
    /// # Errors
    ///
    /// As mkdir(2).
    pub fn new() -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tfo-t{}-{count}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

//! Network namespaces, removed on drop.
//!
//! Each is named under `/run/netns`, for `ip -n` and `tfo --netns`. setns(2) affects one thread, so a new thread enters
//! the namespace for each piece of work. Sockets and files of `/proc/sys/net` keep the namespace in which they were
//! opened, so they may leave that thread.

use std::{
    fs::{self, File},
    io::Write as _,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    panic,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{poll::wait_for, process};

/// Prefix of all namespace names; the process id follows.
const PREFIX: &str = "tfo-t";
const DIRECTORY: &str = "/run/netns";
/// Timeout of configuration commands.
const LIMIT: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();
/// Existing namespaces of this process.
static LIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A named network namespace, removed on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    handle: File,
}

impl Netns {
    /// Creates a namespace with a unique name that ends in `label`, and sets its loopback interface up. The first call
    /// also removes namespaces of dead processes.
    ///
    /// # Errors
    ///
    /// The caller lacks privileges, or `ip` is not installed.
    pub fn new(label: &str) -> Result<Self> {
        SWEPT.call_once(remove_abandoned);
        let pid = std::process::id();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{pid}-{count}-{label}");
        ip(&["netns", "add", &name])?;
        live(|names| names.push(name.clone()));
        let handle = File::open(Path::new(DIRECTORY).join(&name));
        let netns = Self {
            handle: handle.with_context(|| format!("cannot open namespace {name}"))?,
            name,
        };
        netns.configure(&["link set lo up"])?;
        Ok(netns)
    }

    /// Name for `ip -n` and `tfo --netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/run/netns/NAME`.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `work` in a new thread inside the namespace, and waits for it.
    ///
    /// # Panics
    ///
    /// `work` panics, or setns(2) fails.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.handle.as_fd(), network)
                    .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name));
                work()
            });
            thread
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// A command inside the network namespace; the mount namespace stays the caller's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a program inside the namespace. Returns its standard output.
    ///
    /// # Errors
    ///
    /// The program fails, or does not exit within 20 seconds.
    pub fn done(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::succeed(self.command(program).args(arguments), LIMIT)
    }

    /// Runs `ip -batch` inside the namespace with one command per item.
    ///
    /// # Errors
    ///
    /// A command fails; earlier ones stay in effect.
    pub fn configure(&self, commands: &[impl AsRef<str>]) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]).process_group(0);
        let mut child = ip
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip")?;
        let mut errors = process::Pipe::collect(child.stderr.take());
        if let Some(mut input) = child.stdin.take() {
            for command in commands {
                writeln!(input, "{}", command.as_ref())?;
            }
        }
        let status = process::wait(&mut child, LIMIT)?;
        let errors = errors.whole();
        ensure!(status.success(), "ip in {}: {}", self.name, errors.trim());
        Ok(())
    }

    /// Runs `ip` inside the namespace. Returns its standard output.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Reads a sysctl, such as `net.ipv4.tcp_fastopen`.
    ///
    /// # Errors
    ///
    /// The sysctl cannot be read.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        self.read(&sysctl_path(key))
    }

    /// Writes a sysctl.
    ///
    /// # Errors
    ///
    /// The sysctl cannot be written. The error does not contain the value, which may be a key.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(sysctl_path(key), value))
            .with_context(|| format!("cannot write {key} in {}", self.name))
    }

    /// Reads a file whose content depends on the reader's namespace; trailing whitespace is removed.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&self, path: &Path) -> Result<String> {
        self.run(|| fs::read_to_string(path))
            .map(|text| text.trim_end().to_owned())
            .with_context(|| format!("cannot read {} in {}", path.display(), self.name))
    }

    /// A counter of a protocol, as in `snmp("Tcp", "InSegs")`: RFC 1213, `/proc/net/snmp`.
    ///
    /// # Errors
    ///
    /// The kernel has no such counter.
    pub fn snmp(&self, protocol: &str, name: &str) -> Result<u64> {
        let text = self.read(Path::new("/proc/thread-self/net/snmp"))?;
        let rows = text.lines().filter_map(|line| line.split_once(": "));
        let mut rows = rows.filter(|(of, _)| *of == protocol).map(|(_, row)| row);
        let (names, values) = rows.next().zip(rows.next()).context("no such protocol")?;
        let mut counters = names.split(' ').zip(values.split(' '));
        let counter = counters.find(|(of, _)| *of == name);
        Ok(counter
            .with_context(|| format!("no {protocol} {name}"))?
            .1
            .parse()?)
    }
}

/// Waits until a socket in `netns` listens on a TCP port.
///
/// # Errors
///
/// No listener within 20 seconds.
pub fn wait_for_listener(netns: &Netns, port: u16) -> Result<()> {
    // Local port; remote port 0 and state 0A (TCP_LISTEN).
    let port = format!(":{port:04X} ");
    let what = format!("a listener on {port}in {}", netns.name());
    wait_for(&what, LIMIT, || {
        for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
            let listens = |line: &str| line.contains(&port) && line.contains(":0000 0A ");
            if netns.read(Path::new(table))?.lines().any(listens) {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
}

/// Waits until an interface of `netns` can send.
///
/// The kernel attaches a qdisc some time after the interface is set up, and drops frames until then.
///
/// # Errors
///
/// The interface is not up, or has no qdisc, within 20 seconds.
pub fn wait_until_up(netns: &Netns, interface: &str) -> Result<()> {
    let what = format!("{interface} in {} is up", netns.name());
    wait_for(&what, LIMIT, || {
        let text = netns.ip(&["-json", "link", "show", interface])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let is_up = links[0]["operstate"] == "UP" && links[0]["qdisc"] != "noop";
        Ok(is_up.then_some(()))
    })
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes every namespace of this process; for an exit without unwinding.
pub fn remove_all() {
    for name in live(|names| names.clone()) {
        remove(&name);
    }
}

fn remove(name: &str) {
    live(|names| names.retain(|live| live != name));
    if let Err(error) = ip(&["netns", "del", name]) {
        eprintln!("cannot remove namespace {name}: {error:#}");
    }
}

fn live<T>(work: impl FnOnce(&mut Vec<String>) -> T) -> T {
    work(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Removes namespaces of processes that no longer exist.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| {
            let (process, _) = rest.split_once('-')?;
            process.parse::<u32>().ok()
        });
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            drop(ip(&["netns", "del", &name]));
        }
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

fn ip(arguments: &[&str]) -> Result<String> {
    process::succeed(Command::new("ip").args(arguments), LIMIT)
}

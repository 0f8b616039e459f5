//! Network namespaces that live as long as their value.
//!
//! Each has a name under `/run/netns`, so that `ip -n` and `tfo --netns` find it. A namespace is a
//! thread's, not the process's: work is done inside by a thread that enters first. What a socket or a
//! file of `/proc/sys/net` belongs to is settled when it is opened, so both may leave the thread.

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
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{poll::patient, process};

/// Begins the name of every namespace that is made here; the process's id follows.
const PREFIX: &str = "tfo-t";
const DIRECTORY: &str = "/run/netns";
/// How long a program that sets something up may take.
const LIMIT: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();
/// Names of the namespaces of this process that are still there.
static LIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A network namespace, removed on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    handle: File,
}

impl Netns {
    /// Makes a namespace with a name of its own, which ends in `label`; its loopback is up.
    ///
    /// # Errors
    ///
    /// Where the caller may not, or `ip` is not installed.
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

    /// The name that `ip -n` and `tfo --netns` take.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the namespace's file is.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Does `work` in a thread inside the namespace, and waits for it. It panics as `work` does.
    ///
    /// # Panics
    ///
    /// Also where the thread cannot enter.
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

    /// A command that will run inside the namespace, with the file systems of the outside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a program inside, which must do, and gives what it wrote.
    ///
    /// # Errors
    ///
    /// Where it fails, or does not end in time.
    pub fn done(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::succeed(self.command(program).args(arguments), LIMIT)
    }

    /// Carries out commands of `ip` inside the namespace, all by one call.
    ///
    /// # Errors
    ///
    /// Where one fails: those before it stand.
    pub fn configure(&self, commands: &[impl AsRef<str>]) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]).process_group(0);
        let mut child = ip
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip")?;
        let errors = process::collect(child.stderr.take());
        if let Some(mut input) = child.stdin.take() {
            for command in commands {
                writeln!(input, "{}", command.as_ref())?;
            }
        }
        let status = process::wait(&mut child, LIMIT)?;
        let errors = errors.join().unwrap_or_default();
        ensure!(status.success(), "ip in {}: {}", self.name, errors.trim());
        Ok(())
    }

    /// Asks `ip` inside the namespace.
    ///
    /// # Errors
    ///
    /// Where it fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// The value of a sysctl, such as `net.ipv4.tcp_fastopen`.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        self.read(&sysctl_path(key))
    }

    /// Sets a sysctl.
    ///
    /// # Errors
    ///
    /// Where it cannot be written. The value, which may be a key, stays out of the error.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(sysctl_path(key), value))
            .with_context(|| format!("cannot write {key} in {}", self.name))
    }

    /// The text of a file that shows the namespace of who opens it, without the last line's end.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn read(&self, path: &Path) -> Result<String> {
        self.run(|| fs::read_to_string(path))
            .map(|text| text.trim_end().to_owned())
            .with_context(|| format!("cannot read {} in {}", path.display(), self.name))
    }
}

/// Waits until a program in `netns` listens on a TCP port.
///
/// # Errors
///
/// Where none does in time.
pub fn wait_for_listener(netns: &Netns, port: u16) -> Result<()> {
    // Local address, any remote one, and the state LISTEN.
    let port = format!(":{port:04X} ");
    let deadline = Instant::now() + patient(LIMIT);
    while Instant::now() < deadline {
        for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
            let listens = |line: &str| line.contains(&port) && line.contains(":0000 0A ");
            if netns.read(Path::new(table))?.lines().any(listens) {
                return Ok(());
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    bail!("no one listens on {port}in {}", netns.name())
}

/// Waits until an interface of `netns` sends what it is given.
///
/// The kernel gives it a queue some time after it has come up, and drops frames until then.
///
/// # Errors
///
/// Where it does not in time.
pub fn wait_until_up(netns: &Netns, interface: &str) -> Result<()> {
    let deadline = Instant::now() + patient(LIMIT);
    while Instant::now() < deadline {
        let text = netns.ip(&["-json", "link", "show", interface])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        if links[0]["operstate"] == "UP" && links[0]["qdisc"] != "noop" {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(2));
    }
    bail!("{interface} of {} does not come up", netns.name())
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes every namespace of this process: for who ends it without unwinding.
pub fn remove_all() {
    for name in live(|names| names.clone()) {
        remove(&name);
    }
}

fn remove(name: &str) {
    live(|names| names.retain(|live| live != name));
    if let Err(error) = ip(&["netns", "del", name]) {
        eprintln!("namespace {name} stays: {error:#}");
    }
}

fn live<T>(work: impl FnOnce(&mut Vec<String>) -> T) -> T {
    work(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Removes what a killed process left.
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

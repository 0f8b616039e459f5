//! `tfo enable` and `tfo disable`: listeners of runtimes without the option, which run already.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tfo_testbed::{
    netns::wait_for_listener,
    poll::wait_for,
    process::{self, Background, ensure_says},
    socket::{Connection, Listener, Method, Settings},
    testbed::REQUEST,
    tfo::{LIMIT, Tfo},
    veth::{Family, Pair, server_port},
};

/// The port of every server here.
const PORT: u16 = 4711;
/// Time for a compiler that has to compile its library first.
const COMPILED: Duration = Duration::from_secs(300);

const PYTHON: &str = "
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(('0.0.0.0', 4711), Echo).serve_forever()
";

const NODE: &str =
    "require('net').createServer(s => s.on('error', () => {}).pipe(s)).listen(4711, '::')";

const GO: &str = r#"package main

import (
	"io"
	"net"
)

func main() {
	listener, err := net.Listen("tcp", ":4711")
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() { io.Copy(connection, connection); connection.Close() }()
	}
}
"#;

const JAVA: &str = "
import java.net.*;
public class Echo {
    public static void main(String[] none) throws Exception {
        ServerSocket listener = new ServerSocket(4711);
        while (true) {
            Socket socket = listener.accept();
            new Thread(() -> {
                try (socket) { socket.getInputStream().transferTo(socket.getOutputStream()); }
                catch (java.io.IOException error) { }
            }).start();
        }
    }
}
";

/// Three processes that share the port, one more socket of IPv6 alone, and one whose parent ends.
const GROUP: &str = "
import os, socket, time
def listen(family, address):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, 4711))
    s.listen(9)
    return s
def serve(s):
    while True:
        c, _ = s.accept()
        while data := c.recv(4096):
            c.sendall(data)
        c.close()
for _ in range(3):
    if os.fork() == 0:
        serve(listen(socket.AF_INET, '0.0.0.0'))
serve(listen(socket.AF_INET6, '::'))
";

/// A directory for sources, removed on drop.
struct Sources(PathBuf);

impl Sources {
    fn new(label: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tfo-t{}-{label}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn start(pair: &Pair, program: &str, arguments: &[&str]) -> Result<Background> {
    let server = Background::start(pair.server.command(program).args(arguments))?;
    wait_for_listener(&pair.server, PORT)?;
    Ok(server)
}

/// Sends a request to the echo server. `true` if its data was in the SYN and was taken.
fn in_syn(pair: &Pair, family: Family) -> Result<bool> {
    let address = server_port(family, PORT);
    let connection = Connection::open(&pair.client, address, Method::SendTo, REQUEST)?;
    ensure!(connection.receive()? == REQUEST);
    let taken = connection.info()?.syn_data_taken;
    connection.finish()?;
    ensure!(connection.receive()?.is_empty());
    Ok(taken)
}

/// Connects until data is taken from a SYN: the first connection gets the cookie. On a machine that stalls for a second the
/// client's kernel sends the SYN again, without the option.
fn becomes_in_syn(pair: &Pair, family: Family) -> Result<()> {
    const TRIES: usize = 6;
    for _ in 0..TRIES {
        if in_syn(pair, family)? {
            return Ok(());
        }
    }
    anyhow::bail!("{family}: no data was taken from {TRIES} SYNs")
}

fn enable(tfo: &Tfo, more: &[&str]) -> Result<Vec<Value>> {
    let port = PORT.to_string();
    let mut value = tfo.json(&[&["enable", "--port", &port], more].concat())?;
    let listeners = value["listeners"].take();
    listeners.as_array().cloned().context("no listeners")
}

fn disable(tfo: &Tfo) -> Result<()> {
    tfo.done(&["disable", "--port", &PORT.to_string()])
        .map(drop)
}

/// Fast Open by `family` works once it was enabled, and no longer once it was disabled.
fn row(pair: &Pair, name: &str, pid: Option<u32>) -> Result<()> {
    let tfo = Tfo::new(&pair.server);
    ensure!(!in_syn(pair, Family::V4)?, "{name}: Fast Open before");
    let listeners = enable(&tfo, &[])?;
    let [listener] = &listeners[..] else {
        anyhow::bail!("{name}: {listeners:?}");
    };
    ensure!(
        listener["queue_before"] == 0 && listener["queue"] == 256 && listener["error"].is_null(),
        "{name}: {listener}"
    );
    if let Some(pid) = pid {
        ensure!(listener["pid"] == pid, "{name}: {listener}, not {pid}");
    }
    becomes_in_syn(pair, Family::V4).context(name.to_owned())?;
    println!("{name}: {listener}");
    disable(&tfo)?;
    ensure!(!in_syn(pair, Family::V4)?, "{name}: Fast Open after");
    Ok(())
}

#[test]
fn python_with_threads() -> Result<()> {
    let pair = Pair::new()?;
    let server = start(&pair, "python3", &["-c", PYTHON])?;
    row(&pair, "Python", Some(server.id()))
}

#[test]
fn node() -> Result<()> {
    if !is_installed("node") {
        println!("skipped: no Node.js here");
        return Ok(());
    }
    let pair = Pair::new()?;
    let server = start(&pair, "node", &["-e", NODE])?;
    row(&pair, "Node.js", Some(server.id()))
}

#[test]
fn java() -> Result<()> {
    if !is_installed("java") {
        println!("skipped: no Java here");
        return Ok(());
    }
    let pair = Pair::new()?;
    let sources = Sources::new("java")?;
    let source = sources.write("Echo.java", JAVA)?;
    let server = start(&pair, "java", &[&source])?;
    row(&pair, "Java", Some(server.id()))
}

#[test]
fn go() -> Result<()> {
    if !is_installed("go") {
        println!("skipped: no Go here");
        return Ok(());
    }
    let pair = Pair::new()?;
    let sources = Sources::new("go")?;
    let source = sources.write("echo.go", GO)?;
    let program = sources.0.join("echo").display().to_string();
    let mut go = Command::new("go");
    process::succeed(go.args(["build", "-o", &program, &source]), COMPILED)?;
    // Newer ones listen with MPTCP.
    let arguments = ["GODEBUG=multipathtcp=0", &program];
    let server = start(&pair, "env", &arguments)?;
    row(&pair, "Go", Some(server.id()))
}

/// The listener's process has another number there.
#[test]
fn a_process_in_another_pid_namespace() -> Result<()> {
    let pair = Pair::new()?;
    let unshare = [
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "python3",
        "-c",
        PYTHON,
    ];
    let server = start(&pair, "unshare", &unshare)?;
    let inside = Path::new("/proc").join(server.id().to_string());
    let children = inside.join(format!("task/{}/children", server.id()));
    let child = fs::read_to_string(children)?.trim().parse()?;
    row(&pair, "another PID namespace", Some(child))
}

#[test]
fn every_listener_of_the_port_is_changed() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let _group = start(&pair, "python3", &["-c", GROUP])?;
    wait_for("four listeners", LIMIT, || {
        let listeners = tfo.json(&["listeners"])?;
        let count = listeners["listeners"].as_array().map_or(0, Vec::len);
        Ok((count == 4).then_some(()))
    })?;
    let listeners = enable(&tfo, &["--queue", "17"])?;
    let changed = listeners.iter().filter(|each| each["queue"] == 17);
    ensure!(changed.count() == 4, "{listeners:?}");
    for family in Family::BOTH {
        becomes_in_syn(&pair, family)?;
    }
    // By another program's eyes.
    let shown = tfo.json(&["listeners"])?;
    let listed = shown["listeners"].as_array().context("no listeners")?;
    ensure!(listed.iter().all(|each| each["limit"] == 17), "{listed:#?}");
    // To another length, and to the same once more.
    for before in [17, 18] {
        let listeners = enable(&tfo, &["--queue", "18"])?;
        let changed = |each: &&Value| each["queue_before"] == before && each["queue"] == 18;
        ensure!(
            listeners.iter().filter(changed).count() == 4,
            "{listeners:?}"
        );
    }
    disable(&tfo)?;
    for family in Family::BOTH {
        ensure!(!in_syn(&pair, family)?);
    }
    Ok(())
}

/// Connections come and go while it is turned on and off; none fails, and none is answered wrongly.
#[test]
fn no_connection_fails_meanwhile() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let _server = start(&pair, "python3", &["-c", PYTHON])?;
    thread::scope(|scope| -> Result<()> {
        let client = scope.spawn(|| -> Result<usize> {
            let mut taken = 0;
            for _ in 0..300 {
                taken += usize::from(in_syn(&pair, Family::V4)?);
            }
            Ok(taken)
        });
        while !client.is_finished() {
            enable(&tfo, &[])?;
            disable(&tfo)?;
        }
        let taken = client.join().expect("no panic")?;
        println!("{taken} of 300 had their data taken");
        Ok(())
    })
}

/// The process is stopped in the middle of things, or gone; another one that holds the socket will do.
#[test]
fn a_socket_outlives_the_first_of_its_processes() -> Result<()> {
    const FORKED: &str = "
import os, socket, time
s = socket.socket()
s.bind(('0.0.0.0', 4711))
s.listen(9)
if os.fork() == 0:
    while True:
        c, _ = s.accept()
        while data := c.recv(4096):
            c.sendall(data)
        c.close()
time.sleep(600)
";
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let first = start(&pair, "python3", &["-c", FORKED])?;
    // A stopped process answers nothing, and need not.
    first.signal(Signal::STOP)?;
    let listeners = enable(&tfo, &[])?;
    ensure!(listeners[0]["pid"] == first.id(), "{listeners:?}");
    let children = format!("/proc/{0}/task/{0}/children", first.id());
    let child: u32 = fs::read_to_string(children)?.trim().parse()?;
    drop(first);
    let listeners = enable(&tfo, &["--queue", "7"])?;
    ensure!(
        listeners[0]["pid"] == child && listeners[0]["queue"] == 7,
        "{listeners:?}"
    );
    becomes_in_syn(&pair, Family::V4)?;
    let child = i32::try_from(child)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no process")?;
    rustix::process::kill_process(child, Signal::KILL)?;
    wait_for("the listener is gone", LIMIT, || {
        let output = tfo.run(&["enable", "--port", "4711"])?;
        Ok(output
            .stderr
            .contains("nothing listens there")
            .then_some(()))
    })
}

#[test]
fn what_cannot_have_it_is_refused() -> Result<()> {
    const OTHERS: &str = "
import socket, time
def listen(port, option=None, protocol=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    s.bind(('0.0.0.0', port))
    if option:
        s.setsockopt(socket.IPPROTO_TCP, *option)
    s.listen(9)
    return s
a, b, c = listen(1, protocol=262), listen(2, (34, 1)), listen(4711)
time.sleep(600)
";
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let server = start(&pair, "python3", &["-c", OTHERS])?;
    let refused = |arguments: &[&str], parts: &[&str]| -> Result<()> {
        let output = tfo.run(arguments)?;
        output.ensure_refused(parts)
    };
    let name = format!("0.0.0.0:1 of python3 ({}):", server.id());
    refused(&["enable", "--port", "1"], &[&name, "MPTCP"])?;
    let parts = ["0.0.0.0:2", "also from a spoofed address"];
    refused(&["enable", "--port", "2"], &parts)?;
    let parts = ["port 3: nothing listens there", "tfo listeners", "--netns"];
    refused(&["enable", "--port", "3"], &parts)?;
    refused(&["disable", "--port", "3"], &parts)?;
    let parts = ["no process nginx", "--process python3"];
    let port = ["enable", "--port", "4711"];
    refused(&[&port[..], &["--process", "nginx"]].concat(), &parts)?;
    let most = pair.server.sysctl("net.core.somaxconn")?;
    let over = (most.parse::<u32>()? + 1).to_string();
    let parts = [&over, "net.core.somaxconn", &most];
    refused(&[&port[..], &["--queue", &over]].concat(), &parts)?;
    pair.server.set_sysctl("net.ipv4.tcp_fastopen", "515")?;
    refused(&port, &["without a cookie", "net.ipv4.tcp_fastopen=3"])?;
    // Nothing of that changed anything.
    pair.server.set_sysctl("net.ipv4.tcp_fastopen", "1")?;
    let listed = tfo.json(&["listeners"])?;
    let limits = listed["listeners"].as_array().context("no listeners")?;
    ensure!(limits.iter().all(|each| each["limit"] == 0), "{listed:#}");
    // What the namespace turns off is set, and told.
    let output = tfo.run(&[&port[..], &["--process", "python3"]].concat())?;
    ensure!(output.status.success(), "{output:?}");
    let parts = ["RFC 7413", "twice", "net.ipv4.tcp_fastopen=3"];
    ensure_says(&output.stderr, &parts)?;
    ensure_says(&output.stdout, &["0.0.0.0:4711", "python3", "256"])?;
    // Turning it off is allowed everywhere but at MPTCP.
    tfo.done(&["disable", "--port", "2"]).map(drop)
}

/// Without privileges the listeners of the same user can be changed, and others not.
#[test]
fn another_users_listener_takes_privileges() -> Result<()> {
    let pair = Pair::new()?;
    let address = SocketAddr::new(Family::V4.unspecified(), PORT);
    let settings = Settings {
        queue: None,
        ..Settings::FAST_OPEN
    };
    let _listener = Listener::with(&pair.server, address, &settings)?;
    let binary = tfo_testbed::tfo::binary().display().to_string();
    let run = |setpriv: &[&str]| {
        let mut command = pair.server.command("setpriv");
        let arguments = [&binary, "enable", "--port", "4711"];
        process::output(command.args(setpriv).args(arguments), LIMIT)
    };
    let user = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ];
    let parts = ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "run tfo as root"];
    run(&user)?.ensure_refused(&parts)?;
    // This process is root's, whose capabilities one without them does not reach.
    run(&["--bounding-set=-sys_ptrace"])?.ensure_refused(&["CAP_SYS_PTRACE"])?;
    let with = run(&["--bounding-set=-all,+sys_ptrace,+dac_read_search"])?;
    ensure!(with.status.success(), "{with:?}");
    Ok(())
}

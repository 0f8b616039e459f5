//! Clients whose address changes inside a pool, and backends behind one address: what the kernel's cookie loses, and own
//! cookies keep.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    clients,
    kernel::TcpExt,
    keys::KeyFile,
    netns::Netns,
    process::succeed,
    socket::{Connection, Listener, Method},
    testbed::{REQUEST, Tally},
    tfo::{LIMIT, Tfo},
};

const PORT: u16 = 8080;
/// The router, as the client sees it.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 81, 0, 1)), PORT);
const BACKENDS: u8 = 3;
/// Addresses of the pool, 10.82.0.16/28: each connection has the next one.
const POOL: usize = 16;
const SECRET: &str = "363ec6a05e76eedeb9eb73bc5c25ca5f13f7c1df70c9af3531db4c83d23a8f6b";

/// The addresses that the network between client and backends translates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nat {
    /// The client's, to one of the pool.
    Pool,
    /// The server's, to one of the backends in turn.
    Backends,
}

/// A client, a translating router, and backends of which each has keys of its own.
struct Net {
    client: Netns,
    /// The command before its namespace: it detaches when it is dropped.
    backends: Vec<(Tfo, Netns)>,
    router: Netns,
}

impl Net {
    fn new(nat: Nat) -> Result<Self> {
        let (client, router) = (Netns::new("client")?, Netns::new("router")?);
        client.configure(&[
            format!(
                "link add client0 type veth peer name in0 netns {}",
                router.name()
            ),
            "link set client0 up".to_owned(),
            "addr add 10.81.0.2/24 dev client0".to_owned(),
        ])?;
        router.configure(&[
            "link set in0 up",
            "addr add 10.81.0.1/24 dev in0",
            "link add br0 type bridge",
            "link set br0 up",
            "addr add 10.80.0.1/24 dev br0",
        ])?;
        router.set_sysctl("net.ipv4.ip_forward", "1")?;
        let count = if nat == Nat::Backends { BACKENDS } else { 1 };
        let mut backends = Vec::new();
        for number in 0..count {
            let backend = Netns::new("backend")?;
            router.configure(&[
                format!(
                    "link add out{number} type veth peer name server0 netns {}",
                    backend.name()
                ),
                format!("link set out{number} up"),
                format!("link set out{number} master br0"),
            ])?;
            backend.configure(&[
                "link set server0 up".to_owned(),
                format!("addr add 10.80.0.{}/24 dev server0", 2 + number),
                "route add default via 10.80.0.1".to_owned(),
            ])?;
            backend.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
            let tfo = Tfo::new(&backend);
            tfo.done(&["attach", "server0"])?;
            backends.push((tfo, backend));
        }
        let map = (0..count).map(|number| format!("{number} : 10.80.0.{}", 2 + number));
        let map: Vec<_> = map.collect();
        let pool = (0..POOL).map(|number| format!("{number} : 10.82.0.{}", 16 + number));
        let pool: Vec<_> = pool.collect();
        let source = match nat {
            Nat::Pool => format!("numgen inc mod {POOL} map {{ {} }}", pool.join(", ")),
            Nat::Backends => "10.82.0.16".to_owned(),
        };
        let rules = format!(
            "table ip t {{\n\
             chain pre {{ type nat hook prerouting priority dstnat;\n\
             tcp dport {PORT} dnat ip to numgen inc mod {count} map {{ {} }};\n}}\n\
             chain post {{ type nat hook postrouting priority srcnat;\n\
             oifname br0 snat ip to {source};\n}}\n}}\n",
            map.join(", ")
        );
        succeed(router.command("nft").arg(&rules), LIMIT)?;
        Ok(Self {
            client,
            backends,
            router,
        })
    }

    /// Of `visits` connections of a client that has a cookie, those whose request was taken in the SYN.
    fn taken(&self, visits: usize) -> Result<usize> {
        let mut listeners = Vec::new();
        for (_, backend) in &self.backends {
            let address = SocketAddr::from(([0; 4], PORT));
            let listener = Listener::fast_open(backend, address)?.blocking()?;
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for listener in &listeners {
                scope.spawn(|| serve(listener, &done));
            }
            let taken = (|| {
                self.client.ip(&["tcp_metrics", "flush"])?;
                self.visit()?;
                let mut taken = 0;
                for _ in 0..visits {
                    taken += usize::from(self.visit()?);
                }
                Ok(taken)
            })();
            done.store(true, Ordering::Relaxed);
            taken
        })
    }

    /// Returns the counts of the backends' kernels while curl, which has no cookie yet, fetches a
    /// page three times.
    fn curl(&self) -> Result<Tally> {
        let kernels = || -> Result<Vec<_>> {
            let backends = self.backends.iter();
            backends.map(|(_, backend)| TcpExt::read(backend)).collect()
        };
        let mut listeners = Vec::new();
        for (_, backend) in &self.backends {
            let address = SocketAddr::from(([0; 4], PORT));
            listeners.push(Listener::fast_open(backend, address)?);
        }
        let before = kernels()?;
        self.client.ip(&["tcp_metrics", "flush"])?;
        clients::curl(&self.client, SERVER, &listeners.iter().collect::<Vec<_>>())?;
        let after = kernels()?;
        let sum = |kernels: &[TcpExt], name: &str| -> u64 {
            kernels.iter().map(|kernel| kernel.get(name)).sum()
        };
        Ok(Tally::of(|name| {
            (sum(&after, name) - sum(&before, name)).cast_signed()
        }))
    }

    /// Connects and checks that it is served. Gives whether the request was taken in the SYN.
    fn visit(&self) -> Result<bool> {
        let client = Connection::open(&self.client, SERVER, Method::SendTo, REQUEST)?;
        ensure!(client.receive()? == REQUEST);
        Ok(client.info()?.syn_data_taken)
    }

    fn tfo(&self, arguments: &[&str]) -> Result<()> {
        for (tfo, _) in &self.backends {
            tfo.done(arguments)?;
        }
        Ok(())
    }

    /// Gives the backends own cookies of one service.
    fn share(&self, secret: &KeyFile, service: &str) -> Result<()> {
        let rules = ["--service", service, "--secret-file", secret.path()];
        self.tfo(&[&["cookies", "set"], &rules[..]].concat())
    }

    /// No counter of `tfo` differs from the kernel's, anywhere.
    fn ensure_exact(&self) -> Result<()> {
        for (tfo, backend) in &self.backends {
            let stats = tfo.stats()?;
            let drifts = stats.drift.values().any(|drift| *drift != 0);
            ensure!(!drifts, "{}: {stats:?}", backend.name());
        }
        Ok(())
    }
}

/// Answers every request with itself, until `done`.
fn serve(listener: &TcpListener, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let mut request = [0; REQUEST.len()];
                // A client that gave up fails in `visit`.
                let _ = stream.set_nonblocking(false);
                let _ = stream.read_exact(&mut request);
                let _ = stream.write_all(&request);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return,
        }
    }
}

/// `TFO_VISITS` sets the number of connections of each kind.
fn visits() -> Result<usize> {
    match std::env::var("TFO_VISITS") {
        Ok(text) => text.parse().context("TFO_VISITS"),
        Err(_) => Ok(32),
    }
}

/// Each connection has the next of 16 addresses. The kernel's cookie is good for one of them.
#[test]
fn a_pool_of_clients_keeps_fast_open() -> Result<()> {
    let net = Net::new(Nat::Pool)?;
    let visits = visits()?;
    let kernel = net.taken(visits)?;
    net.tfo(&["cookies", "set", "--client-prefix-v4", "28"])?;
    let own = net.taken(visits)?;
    println!("in the SYN: {own} of {visits}, by the kernel alone {kernel}");
    ensure!(own == visits && kernel <= visits / 2, "{own}, {kernel}");
    net.ensure_exact()
}

/// Each connection meets the next of three backends, whose kernels have keys of their own.
#[test]
fn backends_behind_one_address_take_each_others_cookies() -> Result<()> {
    let net = Net::new(Nat::Backends)?;
    let visits = visits()?;
    let kernel = net.taken(visits)?;
    let secret = KeyFile::new(SECRET)?;
    net.share(&secret, "web")?;
    let own = net.taken(visits)?;
    println!("in the SYN: {own} of {visits}, by the kernels alone {kernel}");
    ensure!(own == visits && kernel <= visits / 2, "{own}, {kernel}");
    // Another service takes none of them.
    net.share(&secret, "mail")?;
    net.ensure_exact()
}

/// A client that this project did not write: curl's second and third request are in the SYN, of which the kernel alone takes
/// neither.
#[test]
fn curl_keeps_fast_open() -> Result<()> {
    let secret = KeyFile::new(SECRET)?;
    for nat in [Nat::Pool, Nat::Backends] {
        let net = Net::new(nat)?;
        let asked = Tally {
            requests: 1,
            ..Tally::default()
        };
        let kernel = net.curl()?;
        ensure!(kernel == Tally { failed: 2, ..asked }, "{kernel}");
        match nat {
            Nat::Pool => net.tfo(&["cookies", "set", "--client-prefix-v4", "28"])?,
            Nat::Backends => net.share(&secret, "web")?,
        }
        let own = net.curl()?;
        ensure!(
            own == Tally {
                passive: 2,
                ..asked
            },
            "{own}"
        );
        println!("curl: {own}, by the kernel alone {kernel}");
        net.ensure_exact()?;
    }
    Ok(())
}

/// A host that translates a port's address to a container's, while something listens at that port on the host, too: the
/// container's cookies pass as they are.
#[test]
fn cookies_of_translated_connections_are_left_alone() -> Result<()> {
    let net = Net::new(Nat::Backends)?;
    let router = &net.router;
    let _listener = Listener::fast_open(router, SocketAddr::from(([0; 4], PORT)))?;
    router.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    let tfo = Tfo::new(router);
    tfo.done(&["attach", "in0"])?;
    tfo.done(&["cookies", "set"])?;
    // The backends' keys are equal, so that the kernel alone takes all.
    for (_, backend) in &net.backends {
        let key = "00112233-44556677-8899aabb-ccddeeff";
        backend.set_sysctl("net.ipv4.tcp_fastopen_key", key)?;
    }
    let secret = KeyFile::new(SECRET)?;
    net.share(&secret, "web")?;
    let visits = 12;
    let taken = net.taken(visits)?;
    tfo.done(&["detach", "--all"])?;
    ensure!(taken == visits, "{taken} of {visits}");
    Ok(())
}

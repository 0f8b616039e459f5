//! Drivers of network devices that QEMU has, each in each mode: a server in the guest, with clients on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    guest::{Guest, Nic},
    kernel::feature,
    netns::Netns,
    poll::eventually,
    process::ensure_says,
    socket::{Connection, Method},
    tfo::LIMIT,
    veth::Family,
};

use super::{doctor, ensure_counted, until_in_syn};

const PORT: u16 = 8080;
const REQUEST: &[u8] = b"come back";

/// Answers each request with the request.
const SERVER: &str = "import socket, sys
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
s.bind((\"::\", int(sys.argv[1])))
s.listen(64)
while True:
    c, _ = s.accept()
    c.sendall(c.recv(100))
    c.close()";

/// Devices by the names that they have in the table.
const DEVICES: [(&str, Nic<'static>); 5] = [
    (
        "virtio_net, 1 queue pair",
        nic(
            "single",
            "virtio-net-pci",
            "virtio_net",
            "02:00:00:00:90:01",
            1,
        ),
    ),
    (
        "virtio_net, 2 of 4 queue pairs",
        nic(
            "several",
            "virtio-net-pci,mq=on,vectors=10",
            "virtio_net",
            "02:00:00:00:91:01",
            4,
        ),
    ),
    (
        "virtio_net without CTRL_GUEST_OFFLOADS",
        nic(
            "fixed",
            "virtio-net-pci,ctrl_guest_offloads=off",
            "virtio_net",
            "02:00:00:00:92:01",
            1,
        ),
    ),
    (
        "e1000e",
        nic("intel", "e1000e", "e1000e", "02:00:00:00:93:01", 1),
    ),
    (
        "vmxnet3",
        nic("vmware", "vmxnet3", "vmxnet3", "02:00:00:00:94:01", 1),
    ),
];

const fn nic(
    name: &'static str,
    device: &'static str,
    driver: &'static str,
    mac: &'static str,
    queues: usize,
) -> Nic<'static> {
    Nic {
        name,
        device,
        driver,
        mac,
        queues,
    }
}

/// An address in the network of the device of this number: 1 is the guest, 2 the client.
fn address(family: Family, number: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 90 + number, 0, host).into(),
        Family::V6 => {
            let network = 0xfd90 + u16::from(number);
            Ipv6Addr::new(network, 0, 0, 0, 0, 0, 0, host.into()).into()
        }
    }
}

struct Machines {
    guest: Guest,
    client: Netns,
    /// Major and minor number of the guest's kernel.
    version: (u32, u32),
}

impl Machines {
    fn new() -> Result<Self> {
        let client = Netns::new("client")?;
        let nics = DEVICES.map(|(_, nic)| nic);
        let guest = Guest::boot(&client, &nics)?;
        for (number, nic) in (0..).zip(&nics) {
            let tap = nic.tap();
            let mac = format!("02:00:00:00:{}:02", 90 + number);
            client.configure(&[format!("link set {tap} address {mac}")])?;
            for family in Family::BOTH {
                let (length, options) = match family {
                    Family::V4 => (24, ""),
                    Family::V6 => (64, "nodad"),
                };
                let [ours, theirs] = [2, 1].map(|host| address(family, number, host));
                client.configure(&[format!("addr add {ours}/{length} dev {tap} {options}")])?;
                let name = nic.name;
                guest.configure(&[
                    format!("addr add {theirs}/{length} dev {name} {options}"),
                    format!("neigh replace {ours} lladdr {mac} dev {name} nud permanent"),
                ])?;
            }
        }
        guest.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        guest.done(&format!("python3 -c '{SERVER}' {PORT} >/dev/null 2>&1 &"))?;
        let release = guest.done("uname -r")?;
        let mut numbers = release.split('.').map(str::parse::<u32>);
        let [major, minor] = [(); 2].map(|()| numbers.next());
        let version = (major.context("no release")??, minor.context("no release")??);
        let machines = Self {
            guest,
            client,
            version,
        };
        eventually("the server listens", LIMIT, || {
            Ok(machines.ask(0, Family::V4, Method::Plain).is_ok())
        })?;
        Ok(machines)
    }

    /// The guest's kernel can open connections for the guard.
    fn guards(&self) -> bool {
        self.version >= (6, 9)
    }

    /// Connects to the guest by this device. Returns whether the data was taken in the SYN.
    fn ask(&self, number: u8, family: Family, method: Method) -> Result<bool> {
        let server = SocketAddr::new(address(family, number, 1), PORT);
        let connection = Connection::open(&self.client, server, method, REQUEST)?;
        let answer = connection.receive()?;
        ensure!(answer == REQUEST, "{answer:?}");
        Ok(connection.info()?.syn_data_taken)
    }

    /// A client without a cookie, one that uses the cookie it got, and a plain one, in each family.
    fn clients(&self, number: u8) -> Result<()> {
        self.client.ip(&["tcp_metrics", "flush"])?;
        for family in Family::BOTH {
            ensure!(!self.ask(number, family, Method::SendTo)?, "{family}");
            until_in_syn(|| self.ask(number, family, Method::SendTo))
                .with_context(|| family.to_string())?;
            self.ask(number, family, Method::Plain)?;
        }
        Ok(())
    }

    /// What a mode does on the device of this number.
    fn in_mode(&self, number: u8, nic: &Nic<'_>, mode: &str) -> Result<&'static str> {
        let name = nic.name;
        let told = doctor(&self.guest, name)?;
        let attached = self.guest.tfo(&format!("attach {name} --mode {mode}"))?;
        println!(
            "{name}, {mode}: {told}\n{}{}",
            attached.stdout, attached.stderr
        );
        let takes = attached.status.success();
        if mode == "native" {
            let known = !told.contains("not reported");
            ensure!(known == (self.version >= (6, 3)), "{told}");
            let supports = told.contains("supports native XDP");
            ensure!(
                !known || takes == supports,
                "{told}, and then: {attached:?}"
            );
        }
        ensure!(takes || mode == "native", "{attached:?}");
        if !takes {
            return Ok("refused");
        }
        // The driver may have reset the device.
        eventually("the device is there again", LIMIT, || {
            Ok(self.ask(number, Family::V4, Method::Plain).is_ok())
        })?;
        self.clients(number)?;
        self.guest.tfo_done("keys rotate")?;
        for family in Family::BOTH {
            until_in_syn(|| self.ask(number, family, Method::SendTo))
                .with_context(|| format!("{family}, the old key"))?;
        }
        let mut least = vec![(CookieReqd, 2), (Passive, 4), (PassiveAltKey, 2)];
        if self.guards() {
            let set = format!("guard set on --port {PORT}");
            self.guest.tfo_done(&set)?;
            self.clients(number).context("with a guard")?;
            least.extend([(GuardChallenged, 4), (GuardAccepted, 4), (GuardProven, 2)]);
        }
        ensure_counted(&self.guest, &least)?;
        self.guest.tfo_done("detach --all")?;
        Ok(if self.guards() {
            "yes, with the guard"
        } else {
            "yes"
        })
    }
}

/// With more queue pairs in use than CPUs, and none to send from XDP, sending panics Linux 6.12: the guard is refused, until
/// the printed command has run.
#[test]
#[ignore = "it takes a guest: cargo xtask vm --drivers"]
fn a_guard_without_queues_to_send_from_is_refused() -> Result<()> {
    let machines = Machines::new()?;
    if !machines.guards() {
        println!("skipped: this kernel has no guard");
        return Ok(());
    }
    let (number, name) = (1, DEVICES[1].1.name);
    let guest = &machines.guest;
    guest.done(&format!("ethtool -L {name} combined 4"))?;
    guest.tfo_done(&format!("attach {name} --mode native"))?;
    let guard = format!("guard set on --port {PORT}");
    let refused = guest.tfo(&guard)?;
    println!("{}", refused.stderr);
    let fewer = format!("ethtool -L {name} combined 2");
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure_says(&refused.stderr, &["4 of 4 queue pairs", &fewer])?;
    machines.ask(number, Family::V4, Method::Plain)?;

    guest.tfo_done("detach --all")?;
    guest.done(&fewer)?;
    guest.tfo_done(&format!("attach {name} --mode native"))?;
    guest.tfo_done(&guard)?;
    machines.clients(number)?;
    ensure_counted(guest, &[(GuardChallenged, 4), (GuardAccepted, 4)])
}

/// A mode works as on every device, or the kernel refuses it, as `tfo doctor` has said where the kernel tells before.
#[test]
#[ignore = "it takes a guest: cargo xtask vm --drivers"]
fn drivers_take_the_modes_that_doctor_tells() -> Result<()> {
    let machines = Machines::new()?;
    for (number, (label, nic)) in (0..).zip(&DEVICES) {
        for mode in ["native", "generic", "tc"] {
            let does = machines.in_mode(number, nic, mode);
            let does = does.with_context(|| format!("{label}, {mode}"))?;
            feature(&format!("{label}, {mode}"), does);
        }
    }
    Ok(())
}

//! A router that serves clients itself, forwards them to a host behind it, and translates other connections, while the guard is
//! switched on and off.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    netns::Netns,
    seed::rng,
    socket::{Connection, Listener, Method},
    tfo::Tfo,
};

use super::networks::{Net, Setting};
use crate::guard::{printed, set_rules, type_in};

const REQUEST: &[u8] = b"who answers?";
const END: &[u8] = b"end";
/// The port that the router serves, and the host's.
const OWN: u16 = 8080;
const FORWARDED: u16 = 8081;

/// The services of the clients.
const SERVICES: [(&str, u16); 4] = [
    ("10.78.0.1", OWN),
    ("fd78::1", OWN),
    ("10.79.0.2", FORWARDED),
    ("fd79::2", FORWARDED),
];

/// It has conntrack follow the clients' connections, too.
const TRANSLATION: &str = "table inet nat { chain in { type nat hook prerouting priority dstnat; \
    ip daddr 10.78.0.1 tcp dport 8082 dnat ip to 10.79.0.2; \
    ip6 daddr fd78::1 tcp dport 8082 dnat ip6 to fd79::2; }; }";

/// Returns each request of each connection, until one is [`END`].
fn serve(listener: &Listener) -> Result<()> {
    loop {
        let accepted = listener.accept()?;
        let request = accepted.receive()?;
        if request == END {
            return Ok(());
        }
        accepted.send(&request)?;
    }
}

/// Connects to a service until `ended`, every other time with Fast Open. Gives how many connections there were, and how many had
/// their request taken from the SYN.
fn visit(client: &Netns, (address, port): (&str, u16), ended: &AtomicBool) -> Result<[u32; 2]> {
    let server = SocketAddr::new(address.parse()?, port);
    let [mut number, mut in_syn] = [0; 2];
    while !ended.load(Ordering::Relaxed) {
        let method = [Method::Plain, Method::SendTo][number as usize % 2];
        let connection = Connection::open(client, server, method, REQUEST)?;
        let what = || format!("{server}, connection {number}, {method:?}");
        ensure!(connection.receive().with_context(what)? == REQUEST);
        in_syn += u32::from(connection.info()?.syn_data_taken);
        number += 1;
        thread::sleep(Duration::from_millis(1));
    }
    Ok([number, in_syn])
}

/// `TFO_CHANGES` sets the number of changes.
#[test]
fn a_router_loses_no_connection_while_its_guard_comes_and_goes() -> Result<()> {
    let changes = std::env::var("TFO_CHANGES").map_or(Ok(15), |text| text.parse())?;
    let net = Net::new(Setting::Router)?;
    // The bare kernel resets connections here that reuse a port within a minute: there are enough for one each millisecond.
    let ports = "1024 65000";
    net.client
        .set_sysctl("net.ipv4.ip_local_port_range", ports)?;
    set_rules(&net.host, TRANSLATION)?;
    let tfo = Tfo::new(&net.host);
    tfo.done(&["attach", "host0", "host1"])?;
    // NAT of another port asks for an exception.
    let refused = tfo.run(&["guard", "set", "on", "--port", "8080"])?;
    type_in(&net.host, &printed(&refused))?;
    let listen = |netns: &Netns, port| {
        Listener::fast_open(netns, SocketAddr::new(IpAddr::V6(0.into()), port))
    };
    let listeners = [listen(&net.host, OWN)?, listen(&net.server, FORWARDED)?];
    let mut random = rng()?;
    let ended = AtomicBool::new(false);
    let mut change = || -> Result<()> {
        let mode = ["on", "off", "auto"][random.usize(..3)];
        let set = ["guard", "set", mode, "--port", "8080"];
        tfo.done(&[&set[..], &["--above", "1/s", "--quiet", "1s"]].concat())?;
        if random.u8(..4) == 0 {
            tfo.done(&["guard", "clear"])?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let servers = listeners
            .each_ref()
            .map(|listener| scope.spawn(|| serve(listener)));
        let (client, ended) = (&net.client, &ended);
        let clients = SERVICES.map(|service| scope.spawn(move || visit(client, service, ended)));
        let done = (0..changes).try_for_each(|_| change());
        ended.store(true, Ordering::Relaxed);
        for (client, service) in clients.into_iter().zip(SERVICES) {
            let [number, in_syn] = client.join().expect("no panic")?;
            println!("{service:?}: {in_syn} of {number} in the SYN");
            ensure!(in_syn > 0, "{service:?}");
        }
        done?;
        // The IPv4 addresses, one of each listener.
        for (server, (address, port)) in servers.into_iter().zip(SERVICES.into_iter().step_by(2)) {
            let to = SocketAddr::new(address.parse()?, port);
            Connection::open(client, to, Method::Plain, END)?;
            server.join().expect("no panic")?;
        }
        anyhow::Ok(())
    })?;
    let counters = tfo.stats()?.counters;
    println!(
        "{changes} changes; {} challenged",
        counters["GuardChallenged"]
    );
    ensure!(
        counters["GuardChallenged"] > 0 && counters["GuardWrongAcks"] == 0,
        "{counters:?}"
    );
    Ok(())
}

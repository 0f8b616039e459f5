//! The mirror, the guard and own cookies on devices above and below the one with the address, where the kernel has them.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    kernel::{feature, is_before, is_stock},
    keys,
    netns::Netns,
    poll::eventually,
    socket::{Connection, Listener, Method},
    testbed::{REQUEST, Testbed},
    tfo::LIMIT,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE},
};

/// The commands that make the devices of one end. `below` stands for the end's veth interface, `LOCAL`
/// and `REMOTE` for the last part of its address and of the other's. The last is the device that gets the addresses.
pub(super) type Devices = (&'static [&'static str], &'static str);

const PLAIN: Devices = (&[], "below");
const VLAN: Devices = (&["ip link add link below name top0 type vlan id 5"], "top0");
/// A tag with a priority bit outside the other.
const TWO_TAGS: Devices = (
    &[
        "ip link add link below name mid0 type vlan protocol 802.1ad id 7",
        "ip link set mid0 up",
        "ip link add link mid0 name top0 type vlan id 5",
    ],
    "top0",
);
const BOND: Devices = (
    &[
        "ip link add top0 type bond mode active-backup miimon 100",
        "ip link set below down",
        "ip link set below master top0",
    ],
    "top0",
);
/// A bridge whose port has tagged frames, with the address on a VLAN device of the bridge.
const TAGGED_PORT: Devices = (
    &[
        "ip link add mid0 type bridge vlan_filtering 1",
        "ip link set below master mid0",
        "ip link set mid0 up",
        "bridge vlan add dev below vid 5",
        "bridge vlan add dev mid0 vid 5 self",
        "ip link add link mid0 name top0 type vlan id 5",
    ],
    "top0",
);
/// As [`TAGGED_PORT`], with the address on the bridge, which gets the VLAN's frames without their tag.
const PORT_VLAN: Devices = (
    &[
        "ip link add top0 type bridge vlan_filtering 1",
        "ip link set below master top0",
        "bridge vlan add dev below vid 5",
        "bridge vlan add dev top0 vid 5 pvid untagged self",
    ],
    "top0",
);
const MACVLAN: Devices = (
    &["ip link add link below name top0 type macvlan mode bridge"],
    "top0",
);
const IPVLAN: Devices = (
    &["ip link add link below name top0 type ipvlan mode l2"],
    "top0",
);

/// The outcome for a client that connects to the address while the data path is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is mirrored, and challenged under the guard.
    Guarded,
    /// It is mirrored. `tfo guard set` refuses the interface with this reason.
    Refused(&'static str),
    /// Its packets pass, neither counted nor challenged: they are not for the interface.
    Elsewhere,
}

use Expected::{Elsewhere, Guarded, Refused};

/// A row of the table of features, the devices of server and client, where the data path is attached, and what is expected.
type Setting = (&'static str, Devices, Devices, &'static str, Expected);

const SETTINGS: [Setting; 13] = [
    ("VLAN devices", VLAN, VLAN, "below", Guarded),
    ("VLAN devices", TWO_TAGS, TWO_TAGS, "mid0", Guarded),
    ("VLAN devices", VLAN, VLAN, "top0", Guarded),
    ("bonds", BOND, PLAIN, "below", Guarded),
    ("bonds", BOND, PLAIN, "top0", Guarded),
    ("bridges with VLANs", TAGGED_PORT, VLAN, "top0", Guarded),
    ("bridges with VLANs", TAGGED_PORT, VLAN, "mid0", Guarded),
    (
        "bridges with VLANs",
        TAGGED_PORT,
        VLAN,
        "below",
        Refused("a port of mid0"),
    ),
    ("bridges with VLANs", PORT_VLAN, VLAN, "top0", Guarded),
    ("macvlan", MACVLAN, PLAIN, "top0", Guarded),
    ("macvlan", MACVLAN, PLAIN, "below", Elsewhere),
    ("ipvlan", IPVLAN, PLAIN, "top0", Guarded),
    ("ipvlan", IPVLAN, PLAIN, "below", Guarded),
];

/// Makes the devices of an end, with the addresses `10.79.0.number` and `fd79::number`. `false` where this kernel has no such
/// devices.
fn make(netns: &Netns, below: &str, number: u8, (devices, top): Devices) -> Result<bool> {
    let [local, remote] = [number, 3 - number].map(|number| number.to_string());
    let named = |text: &str| {
        let text = text.replace("below", below).replace("LOCAL", &local);
        text.replace("REMOTE", &remote)
    };
    for command in devices {
        let command = named(command);
        let mut words = command.split(' ');
        let program = words.next().context("an empty command")?;
        let Err(error) = netns.done(program, &words.collect::<Vec<_>>()) else {
            continue;
        };
        // What `ip` says of devices, `bridge` of VLANs and `modprobe` of modules that the kernel was built without.
        let error = format!("{error:#}");
        let absent = ["device type", "not supported", "not found in directory"];
        ensure!(absent.iter().any(|part| error.contains(part)), "{error}");
        ensure!(!is_stock(), "{error}");
        return Ok(false);
    }
    let top = named(top);
    // Else the device below a macvlan answers ARP for its address, too.
    netns.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    netns.configure(&[
        format!("addr add 10.79.0.{number}/24 dev {top}"),
        format!("addr add fd79::{number}/64 dev {top} nodad"),
        format!("link set {below} up"),
        format!("link set {top} up"),
    ])?;
    Ok(true)
}

/// Makes the devices of both ends. `false` where this kernel has no such devices.
pub(super) fn join(pair: &Pair, server: Devices, client: Devices) -> Result<bool> {
    Ok(make(&pair.client, CLIENT_INTERFACE, 2, client)?
        && make(&pair.server, SERVER_INTERFACE, 1, server)?)
}

/// The guard's answers leave by the device that the kernel's own would, with its tags; and wherever the data path is, it
/// costs no client its connection.
#[test]
fn guard_on_stacked_devices() -> Result<()> {
    if is_before(6, 9)? {
        return Ok(());
    }
    let mut forms = BTreeMap::new();
    for (row, server, client, attach, expected) in SETTINGS {
        let pair = Pair::new()?;
        let made = join(&pair, server, client)?;
        if made {
            let attach = attach.replace("below", SERVER_INTERFACE);
            check(pair, &attach, Family::V4, expected)
                .with_context(|| format!("{row}: attached to {attach} of {server:?}"))?;
        }
        let form = if made { "yes" } else { "no such devices" };
        forms.entry(row).or_insert(form);
    }
    for (row, form) in forms {
        feature(&format!("guard, {row}"), form);
    }
    Ok(())
}

/// Own cookies are issued and taken wherever the data path has the packets of the address, with their tags.
#[test]
fn own_cookies_on_stacked_devices() -> Result<()> {
    let mut forms = BTreeMap::new();
    // Those whose packets differ; an emulated machine takes a minute for each.
    for (row, server, client, attach) in [
        ("VLAN devices", VLAN, VLAN, "below"),
        ("VLAN devices", TWO_TAGS, TWO_TAGS, "mid0"),
        ("bonds", BOND, PLAIN, "top0"),
    ] {
        let pair = Pair::new()?;
        let made = join(&pair, server, client)?;
        if made {
            let attach = attach.replace("below", SERVER_INTERFACE);
            own_cookies_at(pair, &attach)
                .with_context(|| format!("{row}: attached to {attach} of {server:?}"))?;
        }
        let form = if made { "yes" } else { "no such devices" };
        forms.entry(row).or_insert(form);
    }
    for (row, form) in forms {
        feature(&format!("own cookies, {row}"), form);
    }
    Ok(())
}

/// With the data path on `interface`, a cookie outlives the kernel's keys.
fn own_cookies_at(pair: Pair, interface: &str) -> Result<()> {
    let mut testbed = Testbed::idle(pair)?;
    let listener = testbed.listen(Family::V4)?;
    testbed.tfo.done(&["attach", interface])?;
    testbed.restart()?;
    testbed.tfo.done(&["cookies", "set"])?;
    visit(&testbed, &listener, Family::V4)?;
    testbed.pair.server.set_sysctl(keys::SYSCTL, keys::OTHER)?;
    visit(&testbed, &listener, Family::V4)?;
    let counted = testbed.equal()?.counters;
    ensure!(
        counted["OwnIssued"] == 1 && counted["OwnYoung"] >= 2,
        "{counted:?}"
    );
    ensure!(counted["TCPFastOpenPassiveFail"] == 0, "{counted:?}");
    Ok(())
}

/// The data path on `interface` mirrors what the kernel counts, and a client connects to the server's address of this family
/// without the guard and, where the kernel can have it, under it.
pub(super) fn check(pair: Pair, interface: &str, family: Family, expected: Expected) -> Result<()> {
    let mut testbed = Testbed::idle(pair)?;
    let listener = testbed.listen(family)?;
    testbed.tfo.done(&["attach", interface])?;
    testbed.restart()?;
    visit(&testbed, &listener, family).context("without the guard")?;
    if is_before(6, 9)? {
        ensure!(testbed.equal()?.counters["TCPFastOpenPassive"] >= 1);
        return Ok(());
    }
    let said = testbed.tfo.run(&["guard", "set", "on"])?;
    if let Refused(reason) = expected {
        let refused = said.status.code() == Some(1) && said.stderr.contains(reason);
        ensure!(refused, "{said:?}");
    } else {
        ensure!(said.status.success(), "{said:?}");
    }
    testbed.pair.forget_cookies()?;
    visit(&testbed, &listener, family).context("under the guard")?;
    let counted = if expected == Elsewhere {
        testbed.tfo.stats()?.counters
    } else {
        testbed.equal()?.counters
    };
    let guarded =
        ["GuardChallenged", "GuardAccepted", "GuardProven"].map(|counter| counted[counter] >= 1);
    ensure!(guarded == [expected == Guarded; 3], "{counted:?}");
    let mirrored = counted["TCPFastOpenPassive"] >= 2;
    ensure!(mirrored == (expected != Elsewhere), "{counted:?}");
    Ok(())
}

/// A client connects until its cookie holds.
pub(super) fn visit(testbed: &Testbed, listener: &Listener, family: Family) -> Result<()> {
    let address = match family {
        Family::V4 => "10.79.0.1",
        Family::V6 => "fd79::1",
    };
    let to = SocketAddr::new(address.parse()?, listener.port());
    let visit = || -> Result<bool> {
        let client = Connection::open(&testbed.pair.client, to, Method::SendTo, REQUEST)?;
        let accepted = listener.accept()?;
        ensure!(accepted.receive()? == REQUEST);
        Ok(client.info()?.syn_data_taken)
    };
    // A new link may need a moment.
    eventually("the data is taken from a SYN", LIMIT, visit).map(drop)
}

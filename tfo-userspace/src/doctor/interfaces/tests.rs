use super::*;
use crate::doctor::{
    Verdict::{self, Note, Ok as Fine, Problem, Unknown, Warning},
    finding::testing::{expect, find},
};
use crate::kernel::ethtool::{Channels, Feature};

fn with(change: impl FnOnce(&mut InterfaceFacts)) -> Vec<Finding> {
    let mut facts = InterfaceFacts {
        name: "eth0".into(),
        up: true,
        link: Ok(Link::Ethernet),
        xdp: None,
        ours: None,
        native: NativeFacts {
            driver: Some("igb".into()),
            native: Some(true),
            mtu: 1500,
            ..NativeFacts::default()
        },
        device: DeviceFacts::default(),
        rx_checksum: Some(true),
        tcx: Vec::new(),
        filters: Vec::new(),
    };
    change(&mut facts);
    facts.judge()
}

fn ours(mode: AttachMode) -> OurProgram {
    OurProgram {
        program_id: 7,
        guard_id: Some(6),
        mode: Some(mode),
    }
}

#[test]
fn an_ordinary_interface_is_fine() {
    let findings = with(|_| ());
    expect(
        &findings,
        "XDP",
        Fine,
        "driver igb, MTU 1500: supports native",
    );
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].interface.as_deref(), Some("eth0"));
}

#[test]
fn the_modes_that_it_takes_are_told() {
    let of = |native| with(|facts| facts.native.native = native);
    expect(&of(Some(false)), "XDP", Note, "no native XDP");
    expect(&of(None), "XDP", Unknown, "when it attaches");
    expect(
        &with(|facts| facts.link = Ok(Link::None)),
        "XDP",
        Fine,
        "generic and tc",
    );
    let strange = with(|facts| facts.link = Err("Infiniband".into()));
    expect(&strange, "XDP", Problem, "Infiniband");
    let slow = with(|facts| facts.ours = Some(ours(AttachMode::Generic)));
    expect(&slow, "XDP", Note, "runs in generic mode");
    expect(
        &with(|facts| facts.ours = Some(ours(AttachMode::Native))),
        "XDP",
        Fine,
        "native",
    );
    let reported = with(|facts| facts.native.driver = Some("mlx5_core".into()));
    expect(&reported, "XDP", Fine, "reported: the link goes down");
}

#[test]
fn what_native_mode_costs_is_told() {
    let veth = |mode| {
        with(|facts| {
            facts.native.driver = Some("veth".into());
            facts.ours = mode;
        })
    };
    expect(&veth(None), "XDP", Note, "would give up GRO");
    let native = veth(Some(ours(AttachMode::Native)));
    expect(&native, "XDP", Warning, "would give up GRO");
    let remedy = find(&native, "XDP").remedy.as_deref();
    assert_eq!(remedy, Some("tfo attach --replace eth0 --mode auto"));
}

#[test]
fn offloads_that_native_mode_ends_are_told() {
    let lro = with(|facts| facts.native.lro = true);
    expect(&lro, "XDP", Note, "large receive offload (LRO)");
    let gro_hw = |fixed| {
        let gro_hw = Feature { on: true, fixed };
        with(|facts| facts.native.gro_hw = gro_hw)
    };
    expect(&gro_hw(false), "XDP", Note, "rx-gro-hw");
    // Linux refuses native mode there.
    let fixed = gro_hw(true);
    expect(&fixed, "XDP", Note, "cannot be switched off from here");
}

#[test]
fn a_long_mtu_needs_a_driver_that_scatters() {
    let of = |mtu, native, several| {
        with(|facts| {
            facts.native.mtu = mtu;
            facts.native.native = Some(native);
            facts.native.several_buffers = several;
        })
    };
    // On any page.
    let long = one_page_mtu() + 1;
    let text = format!("MTU {long}");
    expect(&of(long, true, false), "MTU", Warning, &text);
    for findings in [
        of(one_page_mtu(), true, false),
        of(long, true, true),
        of(long, false, false),
    ] {
        assert!(
            findings.iter().all(|each| each.check != "MTU"),
            "{findings:?}"
        );
    }
}

#[test]
fn queues_that_native_mode_lacks_are_told() {
    let of = |combined, mode| {
        with(|facts| {
            facts.ours = mode;
            facts.device.driver = Some("virtio_net".into());
            facts.device.queues = Some(Queues {
                channels: Channels { combined, max: 4 },
                stack: Some(combined),
                cpus: 2,
            });
        })
    };
    let findings = of(4, None);
    expect(
        &findings,
        "queues",
        Note,
        "4 of 4 queue pairs in use and 2 CPUs",
    );
    let remedy = find(&findings, "queues").remedy.as_deref();
    assert!(remedy.is_some_and(|it| it.contains("ethtool -L eth0 combined 2")));
    for fine in [of(2, None), of(4, Some(ours(AttachMode::Native)))] {
        assert!(fine.iter().all(|each| each.check != "queues"), "{fine:?}");
    }
}

#[test]
fn tags_that_xdp_does_not_see_are_told() {
    let of = |strips, vlans: &[&str]| {
        with(|facts| {
            facts.device.strips_vlan = strips;
            facts.device.vlans = vlans.iter().map(|name| (*name).to_owned()).collect();
        })
    };
    let findings = of(true, &["eth0.5", "eth0.7"]);
    expect(&findings, "VLAN tags", Note, "(eth0.5, eth0.7)");
    for fine in [of(true, &[]), of(false, &["eth0.5"])] {
        assert!(
            fine.iter().all(|each| each.check != "VLAN tags"),
            "{fine:?}"
        );
    }
}

#[test]
fn a_bond_and_its_slaves_are_told() {
    let slave = with(|facts| facts.device.master = Some(("bond0".into(), "bond".into())));
    expect(&slave, "bond", Note, "a slave of bond0");
    let bond = with(|facts| facts.device.slaves = vec!["eth1".into(), "eth2".into()]);
    expect(&bond, "bond", Fine, "a bond of eth1, eth2");
    let port = with(|facts| facts.device.master = Some(("br0".into(), "bridge".into())));
    assert!(port.iter().all(|each| each.check != "bond"), "{port:?}");
}

#[test]
fn others_are_named_and_we_are_not() {
    let other = AttachedXdp {
        program_id: 9,
        mode: AttachMode::Native,
    };
    let xdp = with(|facts| facts.xdp = Some(other));
    expect(&xdp, "other programs", Note, "XDP program 9 (native)");
    assert!(
        find(&xdp, "other programs")
            .remedy
            .as_deref()
            .unwrap()
            .contains("--mode tc")
    );
    let tc = with(|facts| {
        facts.ours = Some(ours(AttachMode::Tc));
        facts.tcx = vec![7, 8];
        facts.filters = vec!["flower".into()];
    });
    expect(
        &tc,
        "other programs",
        Note,
        "TCX program 8, classifiers (flower)",
    );
    let alone = with(|facts| {
        facts.ours = Some(ours(AttachMode::Native));
        facts.tcx = vec![6];
        facts.xdp = Some(AttachedXdp {
            program_id: 7,
            mode: AttachMode::Native,
        });
    });
    assert!(
        alone.iter().all(|each| each.verdict == Verdict::Ok),
        "{alone:?}"
    );
}

#[test]
fn a_device_that_is_down_or_checks_nothing_is_told() {
    expect(&with(|facts| facts.up = false), "state", Note, "down");
    expect(
        &with(|facts| facts.rx_checksum = Some(false)),
        "checksums",
        Note,
        "off",
    );
}

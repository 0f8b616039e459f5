//! Fitness of an interface for the guard: the SYN-ACKs that it sends have to reach the client, and
//! the ACKs that answer them have to reach the listener.

use crate::{
    datapath::namespace::AttachedInterface,
    kernel::{
        device::{DeviceFacts, Peer, Queues},
        link::AttachedXdp,
        native_xdp::QueueShortage,
    },
    model::AttachMode,
};

/// Why the guard cannot work on an attached interface; `None` where nothing is known against it.
pub fn guard_obstacle(interface: &AttachedInterface) -> Option<String> {
    let (name, mode) = (interface.name.as_deref()?, interface.mode?);
    unfit(name, mode, &DeviceFacts::read(interface.index, name).ok()?)
}

/// Why the guard cannot work on the interface `name`, or harms there, with the remedy; `None` where nothing is known
/// against it. `mode` is that of the attached program.
pub(super) fn unfit(name: &str, mode: AttachMode, facts: &DeviceFacts) -> Option<String> {
    if let Some((master, kind)) = &facts.master
        && kind != "bond"
        && kind != "vrf"
    {
        return Some(format!(
            "it is a port of {master} ({kind}), which takes its frames, and has the address: the connections that the guard \
             opens are reset. Attach to {master} instead (tfo attach {master})"
        ));
    }
    if let Some(child) = &facts.passthru {
        return Some(format!(
            "the macvlan {child} in passthru mode takes its frames: attach to {child} instead"
        ));
    }
    match mode {
        AttachMode::Native => unfit_in_native(name, facts),
        AttachMode::Generic => without_tags(name, facts),
        AttachMode::Offloaded | AttachMode::Tc => None,
    }
}

/// As [`unfit`], in native XDP alone.
pub(super) fn unfit_in_native(name: &str, facts: &DeviceFacts) -> Option<String> {
    let tc = format!("`tfo attach --replace {name} --mode tc`");
    let native = |xdp: AttachedXdp| xdp.mode == AttachMode::Native;
    match facts.peer {
        Some(Peer::Seen(Some(xdp))) if native(xdp) => {}
        Some(Peer::Seen(_)) => {
            return Some(format!(
                "native XDP on veth, and the peer has no native XDP program: veth drops the frames that the guard sends. \
                 Use traffic control ({tc}), or attach a program to the peer"
            ));
        }
        Some(Peer::Unseen) => {
            return Some(format!(
                "native XDP on veth, and this process cannot see whether the peer has a native XDP program, without which \
                 veth drops the frames that the guard sends. Use traffic control ({tc}), or attach a program to the peer and \
                 use --force"
            ));
        }
        None => {}
    }
    if let (Some(driver), Some(queues)) = (&facts.driver, facts.queues)
        && let Some(QueueShortage { effect, combined }) = QueueShortage::of(driver, queues)
    {
        let Queues { channels, cpus, .. } = queues;
        return Some(format!(
            "native XDP on {driver} with {} of {} queue pairs in use and {cpus} CPUs {effect}. Detach, \
             `ethtool -L {name} combined {combined}`, and attach again; or use traffic control ({tc})",
            channels.combined, channels.max,
        ));
    }
    without_tags(name, facts)
}

/// As [`unfit`], in XDP of both kinds: the kernel keeps a stripped tag beside the frame, and XDP sees the frame alone.
fn without_tags(name: &str, facts: &DeviceFacts) -> Option<String> {
    if !facts.strips_vlan || facts.vlans.is_empty() {
        return None;
    }
    let plural = if facts.vlans.len() == 1 { "" } else { "s" };
    Some(format!(
        "XDP on a device that strips VLAN tags (rxvlan on), with the VLAN device{plural} {}: SYNs come \
         without their tag there, and are not challenged. `ethtool -K {name} rxvlan off`, or use traffic control \
         (`tfo attach --replace {name} --mode tc`)",
        facts.vlans.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ethtool::Channels;

    fn judge(mode: AttachMode, change: impl FnOnce(&mut DeviceFacts)) -> Option<String> {
        let mut facts = DeviceFacts::default();
        change(&mut facts);
        unfit("eth0", mode, &facts)
    }

    fn expect(mode: AttachMode, parts: &[&str], change: impl FnOnce(&mut DeviceFacts)) {
        let said = judge(mode, change).expect("unfit");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }

    #[test]
    fn a_port_is_refused_for_what_takes_its_frames() {
        for kind in ["bridge", "team", "openvswitch", "unknown"] {
            for mode in [AttachMode::Native, AttachMode::Generic] {
                expect(mode, &["port of br0", kind, "Attach to br0"], |facts| {
                    facts.master = Some(("br0".into(), kind.into()));
                });
            }
        }
        for kind in ["bond", "vrf"] {
            let said = judge(AttachMode::Native, |facts| {
                facts.master = Some(("m0".into(), kind.into()));
            });
            assert_eq!(said, None);
        }
        expect(AttachMode::Generic, &["macvlan mv0"], |facts| {
            facts.passthru = Some("mv0".into());
        });
    }

    #[test]
    fn native_on_veth_needs_a_native_program_on_the_peer() {
        let program = |mode| {
            Peer::Seen(Some(AttachedXdp {
                program_id: 1,
                mode,
            }))
        };
        for (peer, part) in [
            (Peer::Seen(None), "has no native XDP program"),
            (program(AttachMode::Generic), "has no native XDP program"),
            (Peer::Unseen, "cannot see"),
        ] {
            expect(AttachMode::Native, &[part, "--mode tc"], |facts| {
                facts.peer = Some(peer);
            });
            let generic = judge(AttachMode::Generic, |facts| facts.peer = Some(peer));
            assert_eq!(generic, None);
        }
        let native = judge(AttachMode::Native, |facts| {
            facts.peer = Some(program(AttachMode::Native));
        });
        assert_eq!(native, None);
    }

    #[test]
    fn a_lack_of_queues_has_its_remedy() {
        let queues = Queues {
            channels: Channels {
                combined: 4,
                max: 4,
            },
            stack: Some(4),
            cpus: 2,
        };
        let set = |facts: &mut DeviceFacts| {
            facts.driver = Some("virtio_net".into());
            facts.queues = Some(queues);
        };
        assert_eq!(judge(AttachMode::Generic, set), None);
        expect(
            AttachMode::Native,
            &["4 of 4 queue pairs", "ethtool -L eth0 combined 2"],
            set,
        );
    }

    #[test]
    fn stripped_tags_matter_where_there_are_vlan_devices() {
        let with = |mode, strips, vlans: &[&str]| {
            judge(mode, |facts| {
                facts.strips_vlan = strips;
                facts.vlans = vlans.iter().map(|name| (*name).to_owned()).collect();
            })
        };
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let said = with(mode, true, &["eth0.5", "eth0.100"]).expect("unfit");
            assert!(
                said.contains("eth0.5, eth0.100") && said.contains("ethtool -K eth0 rxvlan off"),
                "{said}"
            );
        }
        assert_eq!(with(AttachMode::Native, true, &[]), None);
        assert_eq!(with(AttachMode::Native, false, &["eth0.5"]), None);
        assert_eq!(with(AttachMode::Tc, true, &["eth0.5"]), None);
    }
}

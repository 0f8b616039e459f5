//! The interfaces: the XDP support of their drivers, and other programs on them.

use std::collections::BTreeSet;

use aya::programs::{SchedClassifier, TcAttachType};
use tfo_common::wire::Link;

use super::finding::Finding;
use crate::{
    kernel::{
        ethtool,
        link::{AttachedXdp, Interface, remedy_of_layer},
        native_xdp::{NativeFacts, one_page_mtu},
        tc::{self, Direction},
    },
    model::AttachMode,
};

/// The program of `tfo` on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OurProgram {
    pub(super) program_id: u32,
    /// The id of the guard's program in traffic control.
    pub(super) guard_id: Option<u32>,
    /// `None` where it was detached.
    pub(super) mode: Option<AttachMode>,
}

/// Facts about an interface.
#[derive(Clone, Debug)]
pub(super) struct DeviceFacts {
    name: String,
    up: bool,
    link: Result<Link, String>,
    xdp: Option<AttachedXdp>,
    ours: Option<OurProgram>,
    native: NativeFacts,
    rx_checksum: Option<bool>,
    /// The ids of TCX programs at ingress, where this process may list them.
    tcx: Vec<u32>,
    /// The kinds of other filters at ingress.
    filters: Vec<String>,
}

impl DeviceFacts {
    pub(super) fn read(interface: &Interface, ours: Option<OurProgram>) -> Self {
        let Interface { name, index, .. } = interface;
        let tcx = SchedClassifier::query_tcx(name, TcAttachType::Ingress);
        Self {
            name: name.clone(),
            up: interface.up,
            link: interface.link.clone(),
            xdp: interface.xdp,
            filters: others(*index, ours.as_ref()),
            ours,
            native: NativeFacts::read(*index, name, interface.mtu),
            rx_checksum: ethtool::rx_checksum(name),
            tcx: tcx.map_or(Vec::new(), |(_, programs)| {
                programs
                    .iter()
                    .map(aya::programs::ProgramInfo::id)
                    .collect()
            }),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.mode()];
        findings.extend(self.mtu());
        findings.extend(self.others());
        if !self.up {
            let remedy = format!("ip link set {} up", self.name);
            findings.push(Finding::note("state", "it is down").remedy(remedy));
        }
        if self.rx_checksum == Some(false) {
            let found = "receive checksum offload is off: the CPU verifies every checksum, and the device drops \
                         no corrupt packet before XDP";
            let remedy = format!(
                "ethtool -K {} rx on, where the device supports it",
                self.name
            );
            findings.push(Finding::note("checksums", found).remedy(remedy));
        }
        findings
            .into_iter()
            .map(|finding| finding.of(&self.name))
            .collect()
    }

    /// XDP support and attach mode.
    fn mode(&self) -> Finding {
        const CHECK: &str = "XDP";
        let driver = self.native.driver.as_deref().unwrap_or("unknown");
        let found = |modes: &str| format!("driver {driver}, MTU {}: {modes}", self.native.mtu);
        let by_itself = format!("tfo attach --replace {} --mode auto", self.name);
        if let Err(layer) = &self.link {
            let found = found(&format!(
                "its link layer is {layer}, which tfo does not parse"
            ));
            return Finding::problem(CHECK, found).remedy(remedy_of_layer(layer));
        }
        if self.link == Ok(Link::None) {
            return Finding::ok(CHECK, found("no Ethernet header: generic and tc"));
        }
        if self.is_ours(AttachMode::Generic) {
            let found = found("tfo runs in generic mode, which slows large packets");
            return Finding::note(CHECK, found).remedy(by_itself);
        }
        match (
            self.native.native,
            self.native.refusal(),
            self.native.loss(),
        ) {
            (None, ..) => Finding::unknown(
                CHECK,
                found("native XDP support is not reported; tfo tries it when it attaches"),
            ),
            (_, Some(refusal), _) => Finding::note(CHECK, found(&refusal)),
            (_, None, Some(loss)) if self.is_ours(AttachMode::Native) => {
                Finding::warning(CHECK, found(&format!("in native mode {loss}"))).remedy(by_itself)
            }
            (_, None, Some(loss)) => {
                Finding::note(CHECK, found(&format!("supports native XDP, but {loss}")))
            }
            (_, None, None) => {
                let note = self.native.note();
                let note = note.map_or_else(String::new, |note| format!("; reported: {note}"));
                Finding::ok(CHECK, found(&format!("supports native XDP{note}")))
            }
        }
    }

    fn is_ours(&self, mode: AttachMode) -> bool {
        self.ours.is_some_and(|ours| ours.mode == Some(mode))
    }

    fn mtu(&self) -> Option<Finding> {
        if !self.native.is_mtu_too_long() || self.is_ours(AttachMode::Native) {
            return None;
        }
        let longest = one_page_mtu();
        let found = format!(
            "MTU {}: this driver supports native XDP only where a frame fits into a page, up to about {longest}",
            self.native.mtu
        );
        let remedy = format!("ip link set {} mtu {longest}, or --mode tc", self.name);
        Some(Finding::warning("MTU", found).remedy(remedy))
    }

    /// Programs of others on the interface.
    fn others(&self) -> Option<Finding> {
        let ours = self.ours.map(|ours| ours.program_id);
        let mut others = Vec::new();
        if let Some(xdp) = self.xdp.filter(|xdp| Some(xdp.program_id) != ours) {
            others.push(format!(
                "XDP program {} ({}), before tfo",
                xdp.program_id, xdp.mode
            ));
        }
        let guard = self.ours.and_then(|ours| ours.guard_id);
        let is_ours = |id: &u32| [ours, guard].contains(&Some(*id));
        let tcx = self.tcx.iter().filter(|id| !is_ours(id));
        others.extend(tcx.map(|id| format!("TCX program {id}")));
        others.extend(
            self.filters
                .iter()
                .map(|kind| format!("classifiers ({kind})")),
        );
        if others.is_empty() {
            return None;
        }
        let found = format!("other programs see its packets: {}", others.join(", "));
        let xdp = "; beside an XDP program, tfo needs --mode tc";
        let xdp = self
            .xdp
            .filter(|xdp| Some(xdp.program_id) != ours)
            .map_or("", |_| xdp);
        Some(Finding::note("other programs", found).remedy(format!(
            "nothing, unless they drop or redirect SYNs, which shows as drift{xdp}: \
             `bpftool net show dev {}`",
            self.name
        )))
    }
}

/// The kinds of filters at ingress that are not ours, without duplicates. TCX programs are not filters.
fn others(index: u32, ours: Option<&OurProgram>) -> Vec<String> {
    let ours = ours.map(|ours| ours.program_id);
    let filters = tc::filters(index, Direction::Ingress)
        .unwrap_or_default()
        .into_iter();
    let others = filters.filter(|filter| ours.is_none() || filter.program_id != ours);
    let kinds: BTreeSet<String> = others.map(|filter| filter.kind).collect();
    kinds.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Verdict::{self, Note, Ok as Fine, Problem, Unknown, Warning},
        finding::testing::{expect, find},
    };
    use crate::kernel::ethtool::Feature;

    fn with(change: impl FnOnce(&mut DeviceFacts)) -> Vec<Finding> {
        let mut facts = DeviceFacts {
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
}

//! The interfaces: the XDP support of their drivers, and other programs on them.

use std::collections::BTreeSet;

use aya::programs::{SchedClassifier, TcAttachType};
use tfo_common::wire::Link;

use super::finding::Finding;
use crate::{
    kernel::{
        device::{DeviceFacts, Queues},
        ethtool,
        link::{AttachedXdp, Interface, remedy_of_layer},
        native_xdp::{NativeFacts, QueueShortage, one_page_mtu},
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
pub(super) struct InterfaceFacts {
    name: String,
    up: bool,
    link: Result<Link, String>,
    xdp: Option<AttachedXdp>,
    ours: Option<OurProgram>,
    native: NativeFacts,
    device: DeviceFacts,
    rx_checksum: Option<bool>,
    /// The ids of TCX programs at ingress, where this process may list them.
    tcx: Vec<u32>,
    /// The kinds of other filters at ingress.
    filters: Vec<String>,
}

impl InterfaceFacts {
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
            device: DeviceFacts::read(*index, name).unwrap_or_default(),
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
        // The guard's own checks tell these where it runs in native XDP.
        if !self.is_ours(AttachMode::Native) {
            findings.extend(self.queues());
            findings.extend(self.vlan_tags());
        }
        findings.extend(self.bond());
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

    /// More queues than native XDP can be had with.
    fn queues(&self) -> Option<Finding> {
        let driver = self.device.driver.as_deref()?;
        let queues = self.device.queues?;
        let QueueShortage { effect, combined } = QueueShortage::of(driver, queues)?;
        let Queues { channels, cpus, .. } = queues;
        let found = format!(
            "native XDP on {driver} with {} of {} queue pairs in use and {cpus} CPUs {effect}",
            channels.combined, channels.max
        );
        let remedy = format!(
            "nothing in traffic control; for native XDP, `ethtool -L {} combined {combined}` before it is attached",
            self.name
        );
        Some(Finding::note("queues", found).remedy(remedy))
    }

    /// Tags that XDP does not see.
    fn vlan_tags(&self) -> Option<Finding> {
        let vlans = &self.device.vlans;
        if !self.device.strips_vlan || vlans.is_empty() {
            return None;
        }
        let found = format!(
            "it strips VLAN tags (rxvlan on), and has VLAN devices ({}): their SYNs come to XDP without a tag, so that a guard \
             does not challenge them there",
            vlans.join(", ")
        );
        let remedy = format!(
            "nothing in traffic control, which `--mode auto` takes; for XDP, `ethtool -K {} rxvlan off`",
            self.name
        );
        Some(Finding::note("VLAN tags", found).remedy(remedy))
    }

    /// A bond, or a slave of one.
    fn bond(&self) -> Option<Finding> {
        const CHECK: &str = "bond";
        let DeviceFacts { master, slaves, .. } = &self.device;
        if let Some((bond, _)) = master.as_ref().filter(|(_, kind)| kind == "bond") {
            let found = format!("it is a slave of {bond}, by whose other slaves packets come, too");
            let remedy =
                format!("`tfo attach {bond}`, or attach to all of its slaves, not to both");
            return Some(Finding::note(CHECK, found).remedy(remedy));
        }
        let slaves = (!slaves.is_empty()).then(|| slaves.join(", "))?;
        Some(Finding::ok(
            CHECK,
            format!("a bond of {slaves}: tfo attaches to it, or to all of these, not to both"),
        ))
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
mod tests;

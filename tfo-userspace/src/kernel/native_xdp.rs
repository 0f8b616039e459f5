//! The cost of native XDP to an interface, driver by driver, and the cases in which the kernel
//! refuses it.

use super::{
    device::Queues,
    ethtool::{self, Channels, Feature},
    xdp_features::{self, XdpFeatures},
};

/// The largest MTU at which a driver without multi-buffer support accepts XDP: a page less `XDP_PACKET_HEADROOM` (256),
/// `struct skb_shared_info` (320), and an Ethernet header with a VLAN tag (18). Some drivers reserve more. A page has
/// 4,096 bytes on x86-64, and up to 65,536 on arm64.
pub fn one_page_mtu() -> u32 {
    rustix::param::page_size() as u32 - 256 - 320 - 18
}

/// The effects of attaching an XDP program, for a driver.
struct Driver {
    name: &'static str,
    /// The measured loss for traffic as long as a program is attached.
    loses: Option<&'static str>,
    /// Other effects, as users and maintainers report them.
    note: &'static str,
}

const fn reported(name: &'static str, note: &'static str) -> Driver {
    Driver {
        name,
        loses: None,
        note,
    }
}

const DRIVERS: [Driver; 12] = [
    Driver {
        name: "veth",
        loses: Some("GRO and large segments: a TCP stream falls to a third of its rate"),
        note: "frames that XDP sends reach the peer only if it has an XDP program, too",
    },
    reported(
        "virtio_net",
        "takes one transmit queue for each CPU, where there are as many",
    ),
    reported("vmxnet3", "the link goes down and up"),
    reported(
        "ena",
        "works with at most half of the channels, and an MTU of 3498",
    ),
    reported("gve", "works with at most half of the queues"),
    reported("ixgbe", "is refused with more than 64 CPUs"),
    reported("i40e", "needs as many queues as CPUs to redirect"),
    reported("ice", "resets its queues"),
    reported("bnxt_en", "is refused with many channels"),
    reported(
        "hv_netvsc",
        "the program is lost when the virtual function goes",
    ),
    reported("mlx5_core", "the link goes down for up to seconds"),
    reported("mana", "LRO has to be off"),
];

/// More queue pairs in use than native XDP can be had with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueShortage {
    /// What follows from it.
    pub effect: &'static str,
    /// Queue pairs with which there is none.
    pub combined: u32,
}

impl QueueShortage {
    /// That of a driver; `None` where nothing is known against these queues.
    pub fn of(driver: &str, queues: Queues) -> Option<Self> {
        let Queues { channels, cpus, .. } = queues;
        match driver {
            "virtio_net" if lacks_queues(queues) => Some(Self {
                effect: "leaves no queues to send from XDP: sending has been seen to panic Linux 6.12",
                combined: cpus.min(channels.max),
            }),
            "ena" | "gve" if 2 * channels.combined > channels.max => Some(Self {
                effect: "is reported to be refused: half of the queues have to be left to XDP",
                combined: channels.max / 2,
            }),
            _ => None,
        }
    }
}

/// `virtnet_xdp_get_sq` takes for granted, where there are more queue pairs than CPUs, that each CPU has a spare one
/// behind those of the network stack.
fn lacks_queues(queues: Queues) -> bool {
    let Queues {
        channels: Channels { combined, max },
        stack,
        cpus,
    } = queues;
    if combined <= cpus {
        return false;
    }
    match stack {
        Some(stack) => combined < stack + cpus,
        None => combined + cpus > max,
    }
}

/// Facts about an interface that decide about native XDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeFacts {
    /// The driver's name.
    pub driver: Option<String>,
    /// The driver supports native XDP as it is set now; `None` where the kernel does not tell (before Linux 6.3).
    pub native: Option<bool>,
    /// It takes frames over several buffers.
    pub several_buffers: bool,
    /// Large receive offload is on.
    pub lro: bool,
    /// Receive offload of the device (`rx-gro-hw`).
    pub gro_hw: Feature,
    /// Bytes.
    pub mtu: u32,
}

impl NativeFacts {
    /// Reads the facts about the interface of this index and name, in the calling thread's namespace.
    pub fn read(index: u32, name: &str, mtu: u32) -> Self {
        let features = xdp_features::read(index).ok();
        Self {
            driver: ethtool::driver(name),
            native: features.map(XdpFeatures::native),
            several_buffers: features.is_some_and(XdpFeatures::several_buffers),
            lro: ethtool::lro(name) == Some(true),
            gro_hw: ethtool::feature(name, "rx-gro-hw").unwrap_or_default(),
            mtu,
        }
    }

    fn driver(&self) -> Option<&'static Driver> {
        let name = self.driver.as_deref()?;
        DRIVERS.iter().find(|driver| driver.name == name)
    }

    /// Why the kernel refuses native XDP, as far as is known beforehand.
    pub fn refusal(&self) -> Option<String> {
        let driver = self.driver.as_deref().unwrap_or("unknown");
        if self.native == Some(false) {
            return Some(format!(
                "the driver ({driver}) has no native XDP as it is set now"
            ));
        }
        if self.gro_hw.on && self.gro_hw.fixed {
            return Some(format!(
                "the device's own receive offload (rx-gro-hw) is on and cannot be switched off from here: {driver} then \
                 refuses native XDP. The host can (guest_tso4=off, guest_tso6=off, guest_csum=off)"
            ));
        }
        if self.is_mtu_too_long() {
            return Some(format!(
                "MTU {}: the driver ({driver}) takes native XDP up to about {}",
                self.mtu,
                one_page_mtu()
            ));
        }
        None
    }

    /// The driver supports native XDP only where a frame fits into a page, and it may not.
    pub fn is_mtu_too_long(&self) -> bool {
        self.native == Some(true) && !self.several_buffers && self.mtu > one_page_mtu()
    }

    /// Returns the loss for the interface's traffic under native XDP.
    pub fn loss(&self) -> Option<String> {
        if let Some(driver) = self.driver()
            && let Some(loses) = driver.loses
        {
            return Some(format!("{} would give up {loses}", driver.name));
        }
        if self.lro {
            return Some("large receive offload (LRO) would be switched off".to_owned());
        }
        if self.gro_hw.on {
            return Some(
                "the device's receive offload (rx-gro-hw) would be switched off".to_owned(),
            );
        }
        None
    }

    /// Returns the other reported effects of attaching XDP with the driver.
    pub fn note(&self) -> Option<&'static str> {
        self.driver().map(|driver| driver.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(driver: &str) -> NativeFacts {
        NativeFacts {
            driver: Some(driver.to_owned()),
            native: Some(true),
            mtu: 1500,
            ..NativeFacts::default()
        }
    }

    fn expect(said: Option<String>, part: &str) {
        let said = said.expect("something");
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }

    #[test]
    fn what_the_kernel_refuses_is_known_beforehand() {
        assert_eq!(of("e1000e").refusal(), None);
        let none = NativeFacts {
            native: Some(false),
            ..of("e1000e")
        };
        expect(none.refusal(), "no native XDP");
        let fixed = NativeFacts {
            gro_hw: Feature {
                on: true,
                fixed: true,
            },
            ..of("virtio_net")
        };
        expect(fixed.refusal(), "guest_tso4=off");
        let long = NativeFacts {
            mtu: one_page_mtu() + 1,
            ..of("ice")
        };
        expect(long.refusal(), &format!("MTU {}", one_page_mtu() + 1));
        let several = NativeFacts {
            several_buffers: true,
            ..long
        };
        assert_eq!(several.refusal(), None);
    }

    #[test]
    fn what_is_lost_is_told() {
        expect(of("veth").loss(), "GRO");
        let lro = NativeFacts {
            lro: true,
            ..of("mlx5_core")
        };
        expect(lro.loss(), "LRO");
        let gro_hw = NativeFacts {
            gro_hw: Feature {
                on: true,
                fixed: false,
            },
            ..of("virtio_net")
        };
        expect(gro_hw.loss(), "rx-gro-hw");
        assert_eq!(of("mlx5_core").loss(), None);
        assert!(of("mlx5_core").note().is_some() && of("e1000e").note().is_none());
    }

    #[test]
    fn virtio_net_needs_spare_queues_or_no_more_than_cpus() {
        let queues = |combined, max, stack, cpus| Queues {
            channels: Channels { combined, max },
            stack,
            cpus,
        };
        for (queues, lacks) in [
            // No spare queue, and more pairs than CPUs.
            (queues(4, 4, Some(4), 2), true),
            (queues(4, 4, None, 2), true),
            (queues(4, 5, Some(4), 2), true),
            // Two of the stack, two spare ones.
            (queues(4, 4, Some(2), 2), false),
            // With a lock.
            (queues(2, 2, Some(2), 2), false),
            (queues(1, 1, None, 8), false),
            (queues(6, 8, Some(4), 2), false),
            (queues(4, 8, None, 2), false),
        ] {
            let shortage = QueueShortage::of("virtio_net", queues);
            assert_eq!(shortage.is_some(), lacks, "{queues:?}");
            assert!(shortage.is_none_or(|it| it.combined == 2));
            assert_eq!(QueueShortage::of("mlx5_core", queues), None);
        }
    }

    #[test]
    fn half_of_the_queues_are_for_xdp() {
        let of = |driver, combined| {
            let channels = Channels { combined, max: 8 };
            let queues = Queues {
                channels,
                stack: None,
                cpus: 8,
            };
            QueueShortage::of(driver, queues).map(|shortage| shortage.combined)
        };
        for driver in ["ena", "gve"] {
            assert_eq!((of(driver, 5), of(driver, 4)), (Some(4), None));
        }
    }

    /// The loopback device has index 1.
    #[test]
    fn the_loopback_device_has_no_native_xdp() {
        expect(
            NativeFacts::read(1, "lo", 65_536).refusal(),
            "no native XDP",
        );
    }
}

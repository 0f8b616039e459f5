//! Metrics of the farm.

use super::{
    family::Families,
    table::{
        FARM_ACKNOWLEDGED, FARM_EPOCH, FARM_ERROR, FARM_FAILURES, FARM_IGNORED, FARM_INFO,
        FARM_LATE, FARM_LEADER, FARM_LEFT, FARM_MEMBERS, FARM_PHASE, FARM_REACHABLE, FARM_SKEW,
        GUARD_EDGE_HOSTS, GUARD_EDGE_TAKEN,
    },
};
use crate::{
    farm::{Cause, FarmReport, Phase, Verdict},
    model::EdgeService,
};

const PHASES: [Phase; 3] = [Phase::Activate, Phase::Steady, Phase::Stage];

pub(super) fn add_farm(families: &mut Families, netns: &str, farm: &FarmReport) {
    families.add(&FARM_INFO, &[netns, &farm.host, &farm.prefix], true);
    families.add(&FARM_REACHABLE, &[netns], farm.reachable);
    families.add(&FARM_ERROR, &[netns], farm.error.is_some());
    families.add(&FARM_FAILURES, &[netns], farm.failures);
    families.add(&FARM_IGNORED, &[netns], farm.ignored);
    families.add(&FARM_LEADER, &[netns], farm.leads);
    families.add(&FARM_LEFT, &[netns], farm.left_behind);
    families.add(&FARM_ACKNOWLEDGED, &[netns], farm.acknowledged);
    if let Some(position) = farm.position {
        families.add(&FARM_EPOCH, &[netns], position.epoch);
        for phase in PHASES {
            let labels = [netns, &phase.to_string()];
            families.add(&FARM_PHASE, &labels, position.phase == phase);
        }
    }
    if let Some(skew) = farm.skew {
        families.add(&FARM_SKEW, &[netns], skew);
    }
    if let Some([members, late]) = farm.members {
        families.add(&FARM_MEMBERS, &[netns], members);
        families.add(&FARM_LATE, &[netns], late);
    }
    for (service, verdict) in &farm.edges {
        add_edge(families, netns, service, verdict);
    }
}

fn add_edge(families: &mut Families, netns: &str, service: &EdgeService, verdict: &Verdict) {
    let Some(taken) = verdict.taken else { return };
    let (vip, port) = (service.vip.to_string(), service.port.to_string());
    families.add(&GUARD_EDGE_TAKEN, &[netns, &vip, &port], taken);
    let mut add = |name: &str, hosts: usize| {
        families.add(&GUARD_EDGE_HOSTS, &[netns, &vip, &port, name], hosts);
    };
    add("takes", verdict.takes.len());
    for name in Cause::NAMES {
        let causes = verdict.refuses.values();
        add(name, causes.filter(|cause| cause.name() == name).count());
    }
}

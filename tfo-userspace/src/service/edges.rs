//! The rules for services behind this host, as its farm has them: their challenges state what all hosts keep, and one whose
//! answers no host takes is off, since every client that it challenges would be reset.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use tfo_common::guard::GuardMode;
use tracing::{info, warn};

use crate::{
    datapath::{GuardChange, GuardError, Namespace, OnUnfit},
    farm::{GuardRecord, Guards, Membership, Quiet, Terms, Verdict, host_options, judge, meet},
    kernel::clock,
    model::{EdgeGuard, EdgeService, Guard},
};

type Rules = BTreeMap<EdgeService, EdgeGuard>;

/// Keeps the configured rules in line with what hosts take.
#[derive(Default)]
pub(super) struct EdgeKeeper {
    verdicts: BTreeMap<EdgeService, Verdict>,
    /// What the challenges of configured services are to state.
    terms: BTreeMap<EdgeService, Terms>,
    /// The guards that they were judged by: this host's, and those of the farm's hosts.
    judged: Option<(GuardRecord, Arc<Guards>)>,
    /// The rules that were put in force last.
    rules: Rules,
    quiet: Quiet,
}

impl EdgeKeeper {
    /// These rules are in force.
    pub(super) fn set(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The configured rules as they are to be in force.
    pub(super) fn adjusted(&self, configured: &Rules) -> Rules {
        let own_scale = self.judged.as_ref().map(|(own, _)| own.window_scale);
        let of = |(service, edge): (&EdgeService, &EdgeGuard)| {
            let mut edge = *edge;
            let verdict = self.verdicts.get(service);
            if verdict.is_some_and(|verdict| verdict.taken == Some(false)) {
                edge.rule.mode = GuardMode::Off;
            }
            if let Some(terms) = self.terms.get(service) {
                let scale = terms.window_scale;
                let scale = scale.filter(|scale| own_scale != Some(*scale));
                edge.window_scale = edge.window_scale.or(scale);
                edge.mss = edge.mss.into_iter().chain(terms.mss).min();
                edge.receive_buffer = terms.receive_buffer;
                edge.options = host_options(&terms.options);
            }
            (*service, edge)
        };
        configured.iter().map(of).collect()
    }

    /// Judges by what the farm's hosts last told, and puts rules in force that this changes; those that somebody changed by
    /// hand stay otherwise. `own` is the guard in force. Gives whether rules that answer SYNs were changed.
    ///
    /// # Errors
    ///
    /// [`GuardError`]; the next call tries again.
    pub(super) async fn follow(
        &mut self,
        namespace: &Namespace,
        configured: Option<&Guard>,
        own: Option<&GuardRecord>,
        farm: Option<&Membership>,
    ) -> Result<bool, GuardError> {
        let none = Rules::new();
        let configured = configured.map_or(&none, |guard| &guard.edges);
        self.judge(configured, own, farm);
        let rules = self.adjusted(configured);
        let differs =
            |(service, edge): &(&EdgeService, &EdgeGuard)| self.rules.get(service) != Some(edge);
        let changed: Vec<_> = rules.iter().filter(differs).collect();
        if changed.is_empty() {
            return Ok(false);
        }
        let change = GuardChange::begin(namespace)?;
        let mut guard = change.before.clone().unwrap_or_default();
        for (service, edge) in changed {
            if let Some(in_force) = guard.edges.get_mut(service) {
                *in_force = *edge;
            }
        }
        let answers = guard.answers();
        if !guard.is_empty() {
            change.apply(Some(&guard), OnUnfit::Keep).await?;
        }
        self.rules = rules;
        Ok(answers)
    }

    fn judge(&mut self, configured: &Rules, own: Option<&GuardRecord>, farm: Option<&Membership>) {
        let Some(farm) = farm else {
            *self = Self {
                rules: mem::take(&mut self.rules),
                ..Self::default()
            };
            return;
        };
        // Without a secret there is nothing in force; without etcd, what was judged stays.
        let own = own.filter(|own| own.secret.is_some() || configured.is_empty());
        let Some((own, hosts)) = own.zip(farm.guards()) else {
            return;
        };
        let (mut own, mut states) = (own.clone(), own.states());
        for (service, edge) in configured {
            own.edges.insert(*service, edge.window_scale);
            states.remove(service);
        }
        own.set_states(&states);
        let same = |(before, known): &(GuardRecord, Arc<Guards>)| {
            *before == own && Arc::ptr_eq(known, &hosts)
        };
        if self.judged.as_ref().is_some_and(same) {
            return;
        }
        let name = farm.report().host;
        let mut terms = meet(&name, &own, &hosts);
        // Those that were set by hand state what they state.
        terms.retain(|service, _| configured.contains_key(service));
        let mut with_terms = own.clone();
        for (service, terms) in &terms {
            with_terms.edges.insert(*service, terms.window_scale);
            states.insert(*service, terms.options.clone());
        }
        with_terms.set_states(&states);
        let verdicts = judge(&name, &with_terms, &hosts);
        self.log(configured, &verdicts, &terms);
        farm.report_edges(&verdicts);
        self.judged = Some((own, hosts));
        (self.verdicts, self.terms) = (verdicts, terms);
    }

    /// Logs what is new, but not all of it where it goes back and forth.
    fn log(
        &mut self,
        configured: &Rules,
        verdicts: &BTreeMap<EdgeService, Verdict>,
        terms: &BTreeMap<EdgeService, Terms>,
    ) {
        let news = verdicts.iter();
        let news = news.flat_map(|(service, verdict)| {
            self.news(service, verdict, configured.contains_key(service))
        });
        let scales = terms.iter();
        let scales = scales.filter_map(|(service, terms)| {
            let before = self.terms.get(service).map(|before| &before.scales);
            let differ = terms.window_scale.is_none() && before != Some(&terms.scales);
            differ.then(|| (false, scales_differ(service, &terms.scales)))
        });
        let news: Vec<_> = news.chain(scales).collect();
        let text: String = news.iter().map(|(_, line)| line.as_str()).collect();
        if news.is_empty() || !self.quiet.allows(&text, clock::since_boot()) {
            return;
        }
        for (is_well, line) in news {
            if is_well {
                info!("guard: {line}");
            } else {
                warn!("guard: {line}");
            }
        }
    }

    /// The lines about a service that are new; `true` for good news. A rule that was set by hand stays as it is.
    fn news(
        &self,
        service: &EdgeService,
        verdict: &Verdict,
        configured: bool,
    ) -> Vec<(bool, String)> {
        let before = self.verdicts.get(service);
        let was_off = before.is_some_and(|before| before.taken == Some(false));
        let is_off = verdict.taken == Some(false);
        let mut news = Vec::new();
        if was_off && !is_off {
            let now = if configured {
                "guarded as configured again"
            } else {
                "a host takes the answers to its challenges again"
            };
            news.push((true, format!("{service}: {now}")));
        }
        let refused = before.map(|before| &before.refuses);
        let is_known = was_off == is_off && refused == Some(&verdict.refuses);
        if verdict.refuses.is_empty() || is_known {
            return news;
        }
        let what = match (is_off, configured) {
            (true, true) => {
                "no host takes the answers to its challenges, so it is not guarded".to_owned()
            }
            (true, false) => {
                "no host takes the answers to its challenges, and its rule, set by hand, stays"
                    .to_owned()
            }
            (false, _) => {
                let scale = verdict.window_scale;
                let scale = scale.map_or_else(|| "none".to_owned(), |scale| scale.to_string());
                format!("not all hosts take the answers to its challenges (window scale {scale})")
            }
        };
        let (refusals, remedy) = (verdict.refusals(), verdict.remedy(service.port));
        news.push((false, format!("{service}: {what}: {refusals}: {remedy}")));
        news
    }
}

/// The line about hosts without a window scale that all have.
fn scales_differ(service: &EdgeService, scales: &BTreeSet<u8>) -> String {
    let scales: Vec<_> = scales.iter().map(ToString::to_string).collect();
    let scales = scales.join(", ");
    format!(
        "{service}: its hosts have the window scales {scales}, so its challenges state none, and no window of a challenged \
         client's connection is more than 64 KiB: give all hosts the same net.ipv4.tcp_rmem"
    )
}

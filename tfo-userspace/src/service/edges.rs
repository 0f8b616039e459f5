//! The rules for services behind this host, as its farm has them: one whose answers no host takes is off, since every client
//! that it challenges would be reset.

use std::{collections::BTreeMap, sync::Arc};

use tfo_common::guard::GuardMode;
use tracing::{info, warn};

use crate::{
    datapath::{GuardChange, GuardError, Namespace, OnUnfit},
    farm::{GuardRecord, Guards, Membership, Quiet, Verdict, judge},
    kernel::clock,
    model::{EdgeGuard, EdgeService, Guard},
};

type Rules = BTreeMap<EdgeService, EdgeGuard>;

/// Keeps the configured rules in line with what hosts take.
#[derive(Default)]
pub(super) struct EdgeKeeper {
    verdicts: BTreeMap<EdgeService, Verdict>,
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
            if let Some(verdict) = self.verdicts.get(service) {
                if verdict.taken == Some(false) {
                    edge.rule.mode = GuardMode::Off;
                }
                let scale = Some(verdict.window_scale).filter(|scale| own_scale != Some(*scale));
                edge.window_scale = edge.window_scale.or(scale);
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
            (self.verdicts, self.judged) = (BTreeMap::new(), None);
            return;
        };
        // Without a secret there is nothing in force; without etcd, what was judged stays.
        let own = own.filter(|own| own.secret.is_some() || configured.is_empty());
        let Some((own, hosts)) = own.zip(farm.guards()) else {
            return;
        };
        let edges = configured.iter();
        let own = GuardRecord {
            edges: edges
                .map(|(service, edge)| (*service, edge.window_scale))
                .collect(),
            ..own.clone()
        };
        let same = |(before, known): &(GuardRecord, Arc<Guards>)| {
            *before == own && Arc::ptr_eq(known, &hosts)
        };
        if self.judged.as_ref().is_some_and(same) {
            return;
        }
        let verdicts = judge(&farm.report().host, &own, &hosts);
        self.log(&verdicts);
        farm.report_edges(&verdicts);
        (self.verdicts, self.judged) = (verdicts, Some((own, hosts)));
    }

    /// Logs what is new, but not all of it where it goes back and forth.
    fn log(&mut self, verdicts: &BTreeMap<EdgeService, Verdict>) {
        let news = verdicts.iter();
        let news = news.flat_map(|(service, verdict)| self.news(service, verdict));
        let news: Vec<_> = news.collect();
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

    /// The lines about a service that are new; `true` for good news.
    fn news(&self, service: &EdgeService, verdict: &Verdict) -> Vec<(bool, String)> {
        let before = self.verdicts.get(service);
        let was_off = before.is_some_and(|before| before.taken == Some(false));
        let is_off = verdict.taken == Some(false);
        let mut news = Vec::new();
        if was_off && !is_off {
            news.push((true, format!("{service}: guarded as configured again")));
        }
        let refused = before.map(|before| &before.refuses);
        let is_known = was_off == is_off && refused == Some(&verdict.refuses);
        if verdict.refuses.is_empty() || is_known {
            return news;
        }
        let what = if is_off {
            "no host takes the answers to its challenges, so it is not guarded".to_owned()
        } else {
            let scale = verdict.window_scale;
            format!("not all hosts take the answers to its challenges (window scale {scale})")
        };
        let (port, refusals) = (service.port, verdict.refusals());
        news.push((
            false,
            format!(
                "{service}: {what}: {refusals}: `tfo guard set off --port {port} --secret-file FILE` there has a host take them"
            ),
        ));
        news
    }
}

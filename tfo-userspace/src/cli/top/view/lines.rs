//! The single lines: title, keys, guard, share, sources and foot.

use ratatui::{
    style::{Color, Modifier},
    text::{Line, Span},
};
use tfo_common::counters::Counter;
use tfo_userspace::{datapath::GuardState, metrics::NamespaceFacts, model::FastOpenSummary};

use crate::cli::{
    rate,
    time::age,
    top::{rates::Rates, settings::View},
};

/// Guarded ports that are named.
const GUARDED: usize = 3;
/// Rows of a terminal from which on the sources have a line, whatever they do.
const TALL: u16 = 30;

/// Source prefixes that are kept, and those that ask without using.
fn sources(facts: &NamespaceFacts) -> [usize; 2] {
    let interfaces = facts.interfaces.iter();
    interfaces
        .filter_map(|interface| interface.sources)
        .fold([0; 2], |[kept, asks], [more, ask]| {
            [kept + more, asks + ask]
        })
}

/// True if the sources have a line.
pub(super) fn has_sources(facts: &NamespaceFacts, height: u16) -> bool {
    let [kept, asks] = sources(facts);
    asks > 0 || (kept > 0 && height >= TALL)
}

impl View {
    pub(super) fn title(&self, facts: &NamespaceFacts) -> Line<'static> {
        let place = match facts.target.netns.as_str() {
            "" => String::new(),
            name => format!("  netns {name}"),
        };
        let mut line = Line::from(vec![
            Span::styled("tfo top", Modifier::BOLD),
            Span::raw(place),
        ]);
        if let Some(mode) = facts.fast_open {
            line.push_span(format!("  net.ipv4.tcp_fastopen = {}", mode.0));
            if mode.no_cookie() {
                line.push_span(Span::styled("  NO COOKIES ASKED FOR", self.warning()));
            } else if !mode.server() {
                line.push_span(Span::styled("  OFF FOR LISTENERS", self.warning()));
            }
        }
        line
    }

    pub(super) fn keys(&self, facts: &NamespaceFacts) -> Line<'static> {
        let mut line = Line::raw("keys");
        for (role, key) in ["primary", "backup"].iter().zip(&facts.fingerprints) {
            line.push_span(format!("  {role} {key}"));
        }
        if let Some(time) = facts.keys_age {
            line.push_span(format!("  changed {} ago", age(time)));
        }
        if facts.keys_agree == Some(false) {
            line.push_span(Span::styled("  KERNEL HAS OTHERS", self.warning()));
        }
        line
    }

    /// The guarded ports, and the guard's actions per second.
    pub(super) fn guard(&self, state: &GuardState, rates: &Rates) -> Line<'static> {
        let on: Vec<_> = state.ports.iter().filter(|port| port.on).collect();
        let mut line = Line::raw("guard");
        let mut ports: Vec<_> = on
            .iter()
            .take(GUARDED)
            .map(|port| match port.key() {
                (None, 0) => "others".to_owned(),
                _ => port.name(),
            })
            .collect();
        if on.len() > GUARDED {
            ports.push(format!("{} more", on.len() - GUARDED));
        }
        line.push_span(match on.iter().filter_map(|port| port.since).max() {
            None => Span::raw("  off"),
            Some(since) => {
                let text = format!("  ON at {} for {}", ports.join(", "), age(since));
                Span::styled(text, self.warning())
            }
        });
        let shown: [(_, &[_]); 3] = [
            (
                "challenged",
                &[Counter::GuardChallenged, Counter::GuardReferred],
            ),
            ("proven", &[Counter::GuardProven]),
            ("accepted", &[Counter::GuardAccepted]),
        ];
        for (name, counters) in shown {
            let grows = counters.iter().map(|counter| rates.counter(*counter).1);
            let grows = grows.sum();
            let text = format!("  {name} {}/s", rate::format(grows));
            line.push_span(Span::styled(text, self.alive(grows, Color::Yellow)));
        }
        line
    }

    /// The share of data taken, in the longest form that fits.
    pub(super) fn share(&self, facts: &NamespaceFacts, rates: &Rates, width: u16) -> Line<'static> {
        let summary = FastOpenSummary::of(&facts.counters());
        let share = summary.taken_share();
        let Some(ratio) = share.ratio() else {
            return Line::styled("Fast Open  no SYN has used it", Modifier::BOLD);
        };
        let attempts = share.whole;
        let whole = format!(
            "Fast Open  {} of {attempts} SYNs had their data taken ({share})",
            summary.taken
        );
        let lately = rates.history.front().map_or(String::new(), |interval| {
            let share = interval.summary.taken_share();
            match share.whole {
                0 => "  now none".to_owned(),
                _ => format!("  now {share} of {}/s", rate::format(interval.rate)),
            }
        });
        let forms = [
            format!("{whole}{lately}"),
            whole,
            format!("Fast Open  {share} of {attempts} SYNs"),
            format!("Fast Open  {share}"),
        ];
        let fits = |form: &String| form.chars().count() <= usize::from(width);
        let form = forms.into_iter().find(fits);
        let colour = if ratio > 0.5 {
            Color::Green
        } else {
            Color::Yellow
        };
        Line::styled(
            form.unwrap_or_else(|| share.to_string()),
            self.style(colour).add_modifier(Modifier::BOLD),
        )
    }

    pub(super) fn sources(&self, facts: &NamespaceFacts) -> Line<'static> {
        let [kept, asks] = sources(facts);
        let mut line = Line::raw(format!("sources  {kept} kept"));
        if asks > 0 {
            let text = format!("  {asks} ask without using (tfo stats --by source)");
            line.push_span(Span::styled(text, self.style(Color::Yellow)));
        }
        line
    }

    pub(super) fn foot(&self, facts: &NamespaceFacts) -> Line<'static> {
        match facts.errors.iter().next() {
            Some((part, error)) => Line::styled(format!("{part}: {error}"), self.warning()),
            None => Line::styled(
                format!("every {}; q quits", age(self.interval)),
                self.style(Color::DarkGray),
            ),
        }
    }
}

//! What is drawn.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table},
};
use tfo_common::counters::Counter;
use tfo_userspace::{
    datapath::{Drift, GuardState},
    metrics::NamespaceFacts,
};

use super::rates::Rates;

/// How it is drawn.
pub(super) struct View {
    /// With colours.
    pub(super) colour: bool,
    /// How often.
    pub(super) interval: Duration,
}

/// Most lines of interfaces.
const INTERFACES: usize = 3;
/// Most guarded ports by number.
const GUARDED: usize = 3;

impl View {
    /// Draws all of it, as far as there is room.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, rates: &Rates) {
        let Some(facts) = &rates.now else { return };
        let interfaces = facts.interfaces.len().clamp(1, INTERFACES) as u16;
        let counters = 1 + (Counter::MIRRORED.len() + Counter::OWN.len()) as u16;
        // No line where there is no guard.
        let guard = u16::from(facts.guard.is_some());
        let [title, keys, shield, links, tables, ports, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(guard),
            Constraint::Length(1 + interfaces),
            Constraint::Length(counters),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.title(facts), title);
        frame.render_widget(self.keys(facts), keys);
        if let Some(state) = &facts.guard {
            frame.render_widget(self.guard(state, rates), shield);
        }
        self.interfaces(frame, links, rates, facts);
        let [left, right] = Layout::horizontal([Constraint::Length(53), Constraint::Min(0)])
            .spacing(2)
            .areas(tables);
        self.counters(frame, left, rates, facts);
        self.reasons(frame, right, rates);
        self.ports(frame, ports, rates);
        frame.render_widget(self.foot(facts), foot);
    }

    fn style(&self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// A warning stands out without colour, too.
    fn warning(&self) -> Style {
        self.style(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn title(&self, facts: &NamespaceFacts) -> Line<'static> {
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

    fn keys(&self, facts: &NamespaceFacts) -> Line<'static> {
        let mut line = Line::raw("keys");
        for (role, key) in ["primary", "backup"].iter().zip(&facts.fingerprints) {
            line.push_span(format!("  {role} {key}"));
        }
        if let Some(age) = facts.keys_age {
            line.push_span(format!("  changed {} ago", span(age)));
        }
        if facts.keys_agree == Some(false) {
            line.push_span(Span::styled("  KERNEL HAS OTHERS", self.warning()));
        }
        line
    }

    /// Which ports are guarded, and what that does, per second.
    fn guard(&self, state: &GuardState, rates: &Rates) -> Line<'static> {
        let on: Vec<_> = state.ports.iter().filter(|port| port.on).collect();
        let mut line = Line::raw("guard");
        let mut ports: Vec<_> = on
            .iter()
            .take(GUARDED)
            .map(|port| match port.port {
                0 => "others".to_owned(),
                port => port.to_string(),
            })
            .collect();
        if on.len() > GUARDED {
            ports.push(format!("{} more", on.len() - GUARDED));
        }
        line.push_span(match on.iter().filter_map(|port| port.since).max() {
            None => Span::raw("  off"),
            Some(since) => {
                let text = format!("  ON at {} for {}", ports.join(", "), span(since));
                Span::styled(text, self.warning())
            }
        });
        for (name, counter) in [
            ("challenged", Counter::GuardChallenged),
            ("proven", Counter::GuardProven),
            ("accepted", Counter::GuardAccepted),
        ] {
            let (_, grows) = rates.counter(counter);
            let text = format!("  {name} {}/s", rate(grows));
            line.push_span(Span::styled(text, self.alive(grows, Color::Yellow)));
        }
        line
    }

    fn interfaces(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates, facts: &NamespaceFacts) {
        let heads = ["interface", "mode", "mirror", "SYNs/s"];
        let widths = [29, 12, 8, 9].map(Constraint::Length);
        let mut rows = Vec::new();
        for interface in &facts.interfaces {
            let mode = match interface.mode {
                Some(mode) => Cell::new(mode.to_string()),
                None => Cell::new("NOT ATTACHED").style(self.warning()),
            };
            let mirror = interface.mirror.map_or(String::new(), |it| it.to_string());
            let syns = rate(rates.interface(interface));
            rows.push(Row::new([
                Cell::new(interface.name.clone()),
                mode,
                Cell::new(mirror),
                number(syns),
            ]));
        }
        if rows.is_empty() {
            let none = "attached to none here: `tfo attach IFACE`";
            frame.render_widget(Paragraph::new(none), area);
            return;
        }
        frame.render_widget(self.table(&heads, 3, rows, &widths), area);
    }

    fn counters(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates, facts: &NamespaceFacts) {
        let heads = ["counter", "per s", "total", "drift"];
        let widths = [25, 8, 11, 6].map(Constraint::Length);
        let drift = facts.drift.as_ref().map(Drift::drift);
        let counters = Counter::MIRRORED.iter().chain(&Counter::OWN);
        let rows = counters.enumerate().map(|(at, counter)| {
            let (total, grows) = rates.counter(*counter);
            let drift = drift.and_then(|drift| drift.get(at).copied());
            let drift = match drift {
                Some(0) => number("0".to_owned()),
                Some(by) => number(by.to_string()).style(self.warning()),
                None => Cell::default(),
            };
            Row::new([
                Cell::new(counter.name()),
                number(rate(grows)).style(self.alive(grows, Color::Green)),
                number(count(total)),
                drift,
            ])
        });
        frame.render_widget(self.table(&heads, 1, rows.collect(), &widths), area);
    }

    fn reasons(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        let heads = ["why not used", "per s"];
        let widths = [16, 8].map(Constraint::Length);
        let rows = Counter::REASONS.iter().map(|reason| {
            let (_, grows) = rates.counter(*reason);
            let name = reason.name();
            Row::new([
                Cell::new(name.strip_prefix("Reason").unwrap_or(name)),
                number(rate(grows)),
            ])
            .style(self.alive(grows, Color::Yellow))
        });
        frame.render_widget(self.table(&heads, 1, rows.collect(), &widths), area);
    }

    fn ports(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        const COLUMNS: [(&str, Counter); 6] = [
            ("SYNs/s", Counter::Syns),
            ("data/s", Counter::SynsWithData),
            ("Reqd/s", Counter::CookieReqd),
            ("Passive/s", Counter::Passive),
            ("AltKey/s", Counter::PassiveAltKey),
            ("Fail/s", Counter::PassiveFail),
        ];
        let [_, area] = Layout::vertical([Constraint::Max(1), Constraint::Min(0)]).areas(area);
        let heads = COLUMNS.map(|(head, _)| head);
        let heads = [&["port"][..], &heads].concat();
        let widths = [8, 9, 9, 9, 9, 9, 9].map(Constraint::Length);
        let rows = rates.ports().into_iter().map(|row| {
            let cells = COLUMNS.map(|(_, counter)| number(rate(rates.port(&row, counter))));
            Row::new([Cell::new(row.label.clone())].into_iter().chain(cells))
        });
        frame.render_widget(self.table(&heads, 1, rows.collect(), &widths), area);
    }

    fn foot(&self, facts: &NamespaceFacts) -> Line<'static> {
        match facts.errors.iter().next() {
            Some((part, error)) => Line::styled(format!("{part}: {error}"), self.warning()),
            None => Line::styled(
                format!("every {}; q quits", span(self.interval)),
                self.style(Color::DarkGray),
            ),
        }
    }

    /// What moves is seen.
    fn alive(&self, rate: f64, colour: Color) -> Style {
        if rate > 0.0 {
            self.style(colour).add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        }
    }

    /// A table whose heads stand as its cells do: to the right from the column `right` on.
    fn table(
        &self,
        heads: &[&'static str],
        right: usize,
        rows: Vec<Row<'static>>,
        widths: &[Constraint],
    ) -> Table<'static> {
        let heads = heads.iter().enumerate().map(|(at, head)| {
            if at < right {
                Cell::new(*head)
            } else {
                number((*head).to_owned())
            }
        });
        let style = self.style(Color::Cyan).add_modifier(Modifier::UNDERLINED);
        Table::new(rows, widths)
            .header(Row::new(heads).style(style))
            .column_spacing(1)
    }
}

fn number(text: String) -> Cell<'static> {
    Cell::new(Line::from(text).alignment(Alignment::Right))
}

/// Three digits or so, in at most 6 characters.
fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        it if it < 9.95 => format!("{it:.1}"),
        it if it < 9_999.5 => format!("{it:.0}"),
        it if it < 999_950.0 => format!("{:.1}k", it / 1e3),
        it => format!("{:.1}M", it / 1e6),
    }
}

/// All digits, as long as there are eleven at most.
fn count(count: u64) -> String {
    match count {
        0..=99_999_999_999 => count.to_string(),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// A time in its greatest unit.
fn span(time: Duration) -> String {
    match time.as_secs() {
        it @ 0..120 => format!("{it} s"),
        it @ 120..7_200 => format!("{} min", it / 60),
        it @ 7_200..172_800 => format!("{} h", it / 3_600),
        it => format!("{} d", it / 86_400),
    }
}

#[cfg(test)]
mod tests;

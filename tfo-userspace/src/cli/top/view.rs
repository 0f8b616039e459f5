//! The screen: as much as the terminal has room for, the share of data taken first.
//!
//! A column or a row that does not fit is left out whole: a number is never cut.

mod chart;
mod lines;
mod tables;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
};

use self::tables::{Grid, INTERFACES};
use super::{rates::Rates, settings::View};

/// The width of the table of counters: beside it is room for the reasons on 80 columns.
const COUNTERS_WIDTH: u16 = 50;
/// The width of the table of reasons.
const REASONS_WIDTH: u16 = 28;
/// Columns between two tables.
const SPACING: u16 = 2;

impl View {
    /// Draws everything that there is room for.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, rates: &Rates) {
        let Some(facts) = &rates.now else { return };
        let area = frame.area();
        let tables = Tables {
            reasons: self.reasons(rates),
            counters: self.counters(rates, facts),
            ports: self.ports(rates),
        };
        let guard = u16::from(facts.guard.is_some());
        let links = 1 + facts.interfaces.len().clamp(1, INTERFACES) as u16;
        let sources = u16::from(lines::has_sources(facts, area.height));
        // Title, keys, share and foot.
        let taken = 4 + guard + links + sources + tables.height(area.width);
        let charts = chart::height(area.height, area.height.saturating_sub(taken));
        let [title, keys, shield, share, charts, links, asks, rest, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(guard),
            Constraint::Length(1),
            Constraint::Length(charts),
            Constraint::Length(links),
            Constraint::Length(sources),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(self.title(facts), title);
        frame.render_widget(self.keys(facts), keys);
        if let Some(state) = &facts.guard {
            frame.render_widget(self.guard(state, rates), shield);
        }
        frame.render_widget(self.share(facts, rates, share.width), share);
        self.charts(frame, charts, rates);
        self.interfaces(frame, links, rates, facts);
        frame.render_widget(self.sources(facts), asks);
        tables.draw(frame, rest);
        frame.render_widget(self.foot(facts), foot);
    }
}

/// Reasons, counters and ports: side by side, or one above the other on a narrow terminal.
struct Tables {
    reasons: Grid,
    counters: Grid,
    ports: Grid,
}

impl Tables {
    const fn is_narrow(width: u16) -> bool {
        width < COUNTERS_WIDTH + SPACING + REASONS_WIDTH
    }

    /// Rows that it takes to show everything.
    fn height(&self, width: u16) -> u16 {
        let [reasons, counters, ports] =
            [&self.reasons, &self.counters, &self.ports].map(Grid::height);
        if Self::is_narrow(width) {
            reasons + counters + ports
        } else {
            reasons.max(counters) + 1 + ports
        }
    }

    fn draw(self, frame: &mut Frame<'_>, area: Rect) {
        if Self::is_narrow(area.width) {
            // The reasons first: they are what to look for.
            let [first, second, third] = Layout::vertical([
                Constraint::Length(self.reasons.height()),
                Constraint::Length(self.counters.height()),
                Constraint::Min(0),
            ])
            .areas(area);
            self.reasons.draw(frame, first);
            self.counters.draw(frame, second);
            self.ports.draw(frame, third);
            return;
        }
        // Some ports are seen, however many counters and reasons there are.
        let wanted = self.counters.height().max(self.reasons.height());
        let least = self.ports.height().min(1 + area.height / 4);
        let upper = wanted.min(area.height.saturating_sub(least));
        let gap = u16::from(upper + self.ports.height() < area.height);
        let [upper, _, lower] = Layout::vertical([
            Constraint::Length(upper),
            Constraint::Length(gap),
            Constraint::Min(0),
        ])
        .areas(area);
        let [left, right] =
            Layout::horizontal([Constraint::Length(COUNTERS_WIDTH), Constraint::Min(0)])
                .spacing(SPACING)
                .areas(upper);
        self.counters.draw(frame, left);
        self.reasons.draw(frame, right);
        self.ports.draw(frame, lower);
    }
}

#[cfg(test)]
mod tests;

//! The share of data taken and the rate of attempts over time, a column per interval, the newest at the right.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Color,
    symbols::bar,
    text::Line,
    widgets::{Paragraph, RenderDirection, Sparkline, SparklineBar},
};

use crate::cli::{
    rate,
    top::{rates::Rates, settings::View},
};

/// Bars of ASCII characters.
const ASCII: bar::Set<'_> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "#",
    five_eighths: "+",
    half: "+",
    three_eighths: "-",
    one_quarter: "-",
    one_eighth: ".",
    empty: " ",
};

/// The width of the labels.
const LABELS: u16 = 13;

/// Rows of both charts at most: more detail tells no more.
const MOST: u16 = 18;

/// Rows of both charts on a terminal of `terminal` rows, `spare` of which nothing else needs.
pub(super) fn height(terminal: u16, spare: u16) -> u16 {
    let least = match terminal {
        0..20 => 0,
        20..40 => 3,
        _ => 6,
    };
    spare.clamp(least, MOST)
}

impl View {
    pub(super) fn charts(&self, frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
        // Two thirds of the height are the share's.
        let rows = area.height - area.height / 3;
        let [share, rate] =
            Layout::vertical([Constraint::Length(rows), Constraint::Min(0)]).areas(area);
        let history = rates.history.iter();
        let shares = history
            .clone()
            .map(|interval| interval.summary.taken_share().per_mille());
        let shares = shares.map(|share| share.map(|it| visible(it, 1000, rows)));
        let labels = ["taken 100 %", "        0 %"];
        self.chart(frame, share, labels, shares, 1000, Color::Green);

        let most = history.clone().map(|it| it.rate).fold(0.0, f64::max);
        let scale = if most > 0.0 { 1000.0 / most } else { 0.0 };
        #[allow(clippy::cast_sign_loss, reason = "rates are not negative")]
        let syns = history.map(|it| match (it.rate * scale) as u64 {
            _ if it.rate <= 0.0 => None,
            part => Some(visible(part, 1000, rate.height)),
        });
        let label = format!("{:>6}/s", rate::format(most));
        let labels = [label.as_str(), ""];
        self.chart(frame, rate, labels, syns, 1000, Color::Yellow);
    }

    /// A chart beside its labels, that of its highest value in the first row, that of its lowest in the last.
    fn chart(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        [highest, lowest]: [&str; 2],
        newest_first: impl Iterator<Item = Option<u64>>,
        most: u64,
        colour: Color,
    ) {
        let [labels, bars] =
            Layout::horizontal([Constraint::Length(LABELS), Constraint::Min(0)]).areas(area);
        let mut lines = vec![Line::raw(""); usize::from(area.height)];
        if let Some(last) = lines.last_mut() {
            *last = Line::raw(lowest.to_owned());
        }
        if let Some(first) = lines.first_mut() {
            *first = Line::raw(highest.to_owned());
        }
        frame.render_widget(Paragraph::new(lines), labels);
        let data: Vec<_> = newest_first
            .take(usize::from(bars.width))
            .map(SparklineBar::from)
            .collect();
        let chart = Sparkline::default()
            .data(data)
            .max(most)
            .direction(RenderDirection::RightToLeft)
            .style(self.style(colour));
        let chart = if self.ascii {
            chart.bar_set(ASCII)
        } else {
            chart
        };
        frame.render_widget(chart, bars);
    }
}

/// `value`, or the least that a chart of so many rows shows: 0 of some SYNs is a bar, no SYN is none.
fn visible(value: u64, most: u64, rows: u16) -> u64 {
    // Eight levels a row.
    value.max(most.div_ceil(8 * u64::from(rows.max(1))))
}

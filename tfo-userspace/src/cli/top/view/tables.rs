//! The tables: interfaces, counters, reasons and ports.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Cell, Paragraph, Row, Table},
};
use tfo_common::counters::{Counter, Counters};
use tfo_userspace::{
    datapath::Drift,
    metrics::NamespaceFacts,
    model::{FastOpenSummary, Share},
};

use crate::cli::{
    rate,
    top::{rates::Rates, settings::View},
};

/// Interfaces that are shown.
pub(super) const INTERFACES: usize = 3;

/// A table that leaves out the columns and rows for which there is no room.
pub(super) struct Grid {
    /// Each column's head and width, the most important first.
    columns: Vec<(&'static str, u16)>,
    /// Columns from this one on are aligned to the right.
    right: usize,
    rows: Vec<Vec<Cell<'static>>>,
    head: Style,
}

impl Grid {
    /// Rows of the terminal that it takes whole.
    pub(super) fn height(&self) -> u16 {
        match self.rows.len() {
            0 => 0,
            rows => 1 + rows as u16,
        }
    }

    /// The number of columns that fit into a width, at least 1.
    fn fitting(&self, width: u16) -> usize {
        let mut taken = 0;
        let fits = self.columns.iter().take_while(|(_, column)| {
            taken += column + u16::from(taken > 0);
            taken <= width
        });
        fits.count().max(1)
    }

    pub(super) fn draw(mut self, frame: &mut Frame<'_>, area: Rect) {
        if self.rows.is_empty() || area.height < 2 {
            return;
        }
        let columns = self.fitting(area.width);
        let room = usize::from(area.height) - 1;
        if self.rows.len() > room {
            let left = self.rows.len() - (room - 1);
            self.rows.truncate(room - 1);
            self.rows.push(vec![Cell::new(format!("{left} more"))]);
        }
        let rows = self.rows.into_iter();
        let rows = rows.map(|cells| Row::new(cells.into_iter().take(columns)));
        let columns = &self.columns[..columns];
        let heads = columns.iter().enumerate().map(|(at, (head, _))| {
            if at < self.right {
                Cell::new(*head)
            } else {
                number((*head).to_owned())
            }
        });
        let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
        let table = Table::new(rows, widths)
            .header(Row::new(heads).style(self.head))
            .column_spacing(1);
        frame.render_widget(table, area);
    }
}

impl View {
    fn grid(
        &self,
        right: usize,
        columns: &[(&'static str, u16)],
        rows: Vec<Vec<Cell<'static>>>,
    ) -> Grid {
        Grid {
            columns: columns.to_vec(),
            right,
            rows,
            head: self.style(Color::Cyan).add_modifier(Modifier::UNDERLINED),
        }
    }

    pub(super) fn interfaces(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        rates: &Rates,
        facts: &NamespaceFacts,
    ) {
        let mut rows = Vec::new();
        for interface in &facts.interfaces {
            let mode = match interface.mode {
                Some(mode) => Cell::new(mode.to_string()),
                None => Cell::new("NOT ATTACHED").style(self.warning()),
            };
            let mirror = interface.mirror.map_or(String::new(), |it| it.to_string());
            rows.push(vec![
                Cell::new(interface.name.clone()),
                mode,
                number(rate::format(rates.interface(interface))),
                number(mirror),
            ]);
        }
        if rows.is_empty() {
            let none = "attached to none here: `tfo attach IFACE`";
            frame.render_widget(Paragraph::new(none), area);
            return;
        }
        let names = facts.interfaces.iter().take(INTERFACES);
        let width = names.map(|interface| interface.name.chars().count()).max();
        let width = width.unwrap_or(0).max("interface".len()) as u16;
        let columns = [
            ("interface", width),
            ("mode", 12),
            ("SYNs/s", 7),
            ("mirror", 6),
        ];
        self.grid(2, &columns, rows).draw(frame, area);
    }

    /// The counters that are not 0, and those of the kernel that are not.
    pub(super) fn counters(&self, rates: &Rates, facts: &NamespaceFacts) -> Grid {
        let drift = facts.drift.as_ref();
        let drifts = drift.map(Drift::drift);
        let mut rows = Vec::new();
        let counters = Counter::MIRRORED
            .iter()
            .chain(&Counter::OWN)
            .chain(&Counter::OWN_COOKIES);
        for (at, counter) in counters.enumerate() {
            let (total, grows) = rates.counter(*counter);
            let kernel = drift.and_then(|drift| drift.kernel.get(at).copied());
            if total == 0 && kernel.unwrap_or(0) == 0 {
                continue;
            }
            let drift = match drifts.and_then(|drifts| drifts.get(at).copied()) {
                Some(0) => number("0".to_owned()),
                Some(by) => number(signed(by)).style(self.warning()),
                None => Cell::default(),
            };
            rows.push(vec![
                Cell::new(counter.name()),
                number(rate::format(grows)).style(self.alive(grows, Color::Green)),
                number(count(total)),
                drift,
            ]);
        }
        let columns = [("counter", 25), ("per s", 6), ("total", 11), ("drift", 5)];
        self.grid(1, &columns, rows)
    }

    /// The reasons that occurred, in the order of `tfo stats`.
    pub(super) fn reasons(&self, rates: &Rates) -> Grid {
        let counters = rates.now.as_ref().map(NamespaceFacts::counters);
        let summary = FastOpenSummary::of(&counters.unwrap_or_default());
        let rows = summary.reasons.iter().map(|(reason, syns)| {
            let (_, grows) = rates.counter(*reason);
            let name = reason.name();
            let style = self.alive(grows, Color::Yellow);
            vec![
                Cell::new(name.strip_prefix("Reason").unwrap_or(name)).style(style),
                number(rate::format(grows)).style(style),
                number(percent(summary.share(*syns))),
            ]
        });
        let mut rows: Vec<_> = rows.collect();
        // No attempt of its own, so it has no share.
        let (total, grows) = rates.counter(Counter::ReasonRetransmission);
        if total > 0 {
            let style = self.alive(grows, Color::Yellow);
            rows.push(vec![
                Cell::new("Retransmission").style(style),
                number(rate::format(grows)).style(style),
                number("-".to_owned()),
            ]);
        }
        let columns = [("not taken", 15), ("per s", 6), ("%", 5)];
        self.grid(1, &columns, rows)
    }

    pub(super) fn ports(&self, rates: &Rates) -> Grid {
        const COLUMNS: [(&str, Counter); 6] = [
            ("SYNs/s", Counter::Syns),
            ("data/s", Counter::SynsWithData),
            ("Reqd/s", Counter::CookieReqd),
            ("Passive/s", Counter::Passive),
            ("AltKey/s", Counter::PassiveAltKey),
            ("Fail/s", Counter::PassiveFail),
        ];
        let rows = rates.ports().into_iter().map(|row| {
            let share = |counters: &Counters| FastOpenSummary::of(counters).taken_share();
            let mut cells = vec![
                Cell::new(row.label.clone()),
                number(percent(share(&row.total))),
            ];
            cells.extend(
                COLUMNS.map(|(_, counter)| number(rate::format(rates.port(&row, counter)))),
            );
            cells
        });
        let columns = [("port", 9), ("taken %", 7)];
        let rates = COLUMNS.map(|(head, _)| (head, 9));
        let columns = [&columns[..], &rates].concat();
        self.grid(1, &columns, rows.collect())
    }
}

fn number(text: String) -> Cell<'static> {
    Cell::new(Line::from(text).alignment(Alignment::Right))
}

/// A share without its sign, for a column of them: at most 5 characters.
fn percent(share: Share) -> String {
    share.to_string().trim_end_matches(" %").to_owned()
}

/// At most 11 characters: all digits if they fit, else millions.
pub(super) fn count(count: u64) -> String {
    match count {
        0..=99_999_999_999 => count.to_string(),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// At most 5 characters; a large number is a bound.
pub(super) fn signed(number: i64) -> String {
    match number {
        -999..=9_999 => number.to_string(),
        ..-999 => "<-999".to_owned(),
        _ => ">9999".to_owned(),
    }
}

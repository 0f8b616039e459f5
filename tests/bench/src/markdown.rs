//! `report.md`.

use std::fmt::Write as _;

use crate::report::{Net, Plot, Quiet, Report, Row, Section, Spread, Table};

/// All of `report.md`.
pub(crate) fn page(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = format!(
        "# Benchmark of tfo: cost and savings\n\n\
         Written by `cargo xtask bench{}`: {} with {} cores, Linux {}, {}; commit {}, {}.\n\n\
         Every ratio compares two values of one round, measured one after the other. A value is the median of\n\
         all rounds, with minimum and maximum in parentheses. Only the ratios carry over to other machines. Net\n\
         figures are without the cost of an empty program in the same round; `-` stands where the baseline costs\n\
         hardly more than that. `report.json` has the same values.\n",
        if machine.quick { " --quick" } else { "" },
        machine.cpu,
        machine.cores,
        machine.kernel,
        if machine.compiled {
            "BPF JIT on"
        } else {
            "BPF JIT off"
        },
        machine.commit,
        machine.date,
    );
    if let Some(quiet) = &machine.quiet {
        page += &format!("\n{}\n", how_quiet(quiet));
    }
    for part in &report.sections {
        page += &section(part);
    }
    if !report.missing.is_empty() {
        page += "\n## Not measured\n\n";
        for (what, why) in &report.missing {
            writeln!(page, "- {what}: {why}").expect("writing to a String does not fail");
        }
    }
    page
}

/// A sentence on what else ran.
fn how_quiet(quiet: &Quiet) -> String {
    let [before, after] = quiet.load;
    format!(
        "How quiet it was: load average {before:.2} before and {after:.2} after, of which the benchmark is about 1. The\n\
         hypervisor took {:.1} % of all CPUs' time.",
        quiet.stolen * 100.0,
    )
}

fn section(section: &Section) -> String {
    let mut text = format!("\n## {}\n", section.title);
    for paragraph in &section.about {
        text += &format!("\n{paragraph}\n");
    }
    for part in &section.tables {
        text += &table(part);
    }
    for Plot { caption, file, .. } in &section.plots {
        text += &format!("\n![{caption}]({file})\n");
    }
    text
}

/// A table with its name as heading.
pub(crate) fn table(part: &Table) -> String {
    let Table {
        name,
        of,
        unit,
        yardstick,
        subject,
        rows,
        ..
    } = part;
    let better = if part.more_is_better {
        "; higher is better"
    } else {
        ""
    };
    let mut text = format!("\n### {name}\n\n");
    let columns = net_columns(part);
    match yardstick {
        Some(yardstick) => {
            text += &format!("In {unit}{better}.\n\n");
            text += &format!("| {of} | {yardstick} | {subject} | ratio |");
            for (heading, _) in &columns {
                text += &format!(" {heading} |");
            }
            text += &format!("\n|{}\n", "---|".repeat(4 + columns.len()));
        }
        None => text += &format!("| {of} | {unit}{better} |\n|---|---|\n"),
    }
    for row in rows {
        text += &line(row, &columns);
    }
    text
}

/// Heading of a column, and its cell in a row.
type Column = (&'static str, fn(&Row) -> Option<String>);

/// Columns of net figures: of the time, and of instructions where they are counted.
fn net_columns(table: &Table) -> Vec<Column> {
    fn in_full(spread: Spread) -> String {
        show(&spread, figure)
    }
    fn as_ratio(spread: Spread) -> String {
        show(&spread, ratio)
    }
    let columns: [Column; 2] = match table.net {
        None => return Vec::new(),
        Some(Net::Difference) => [
            ("net", |row| row.net.map(in_full)),
            ("net instructions", |row| row.instructions.map(in_full)),
        ],
        Some(Net::Ratio) => [
            ("net ratio", |row| row.net.map(as_ratio)),
            ("net ratio of instructions", |row| {
                row.instructions.map(as_ratio)
            }),
        ],
    };
    let counted = table.rows.iter().any(|row| row.instructions.is_some());
    columns
        .into_iter()
        .take(if counted { 2 } else { 1 })
        .collect()
}

fn line(row: &Row, columns: &[Column]) -> String {
    let mut line = format!("| {} |", row.name);
    let cells = [
        row.yardstick.map(|spread| show(&spread, figure)),
        Some(show(&row.subject, figure)),
        row.ratio.map(|spread| show(&spread, ratio)),
    ];
    let net = columns.iter();
    let net = net.map(|(_, cell)| cell(row).unwrap_or_else(|| "-".into()));
    for cell in cells.into_iter().flatten().chain(net) {
        line += &format!(" {cell} |");
    }
    line + "\n"
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// `median (min to max)`, or the median alone if all values are equal.
fn show(spread: &Spread, number: fn(f64) -> String) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(number);
    if least == most {
        median
    } else {
        format!("{median} ({least} to {most})")
    }
}

/// One decimal place below 1000; above, an integer with thousands separators.
fn figure(value: f64) -> String {
    if value.abs() < 1000.0 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::Cost, report::Sample};

    #[test]
    fn a_table_has_a_line_for_each_row_and_a_cell_for_each_column() {
        let samples = [(10.0, 11.0), (10.0, 30.0), (20.0, 30.0)];
        let samples = samples.map(|(yardstick, subject)| Sample { yardstick, subject });
        let mut part = Table {
            name: "Frames".into(),
            of: "frame".into(),
            unit: "ns".into(),
            yardstick: Some("empty".into()),
            subject: "tfo".into(),
            rows: vec![Row::paired("ARP", &samples)],
            ..Table::default()
        };
        assert_eq!(
            table(&part),
            "\n### Frames\n\nIn ns.\n\n\
             | frame | empty | tfo | ratio |\n|---|---|---|---|\n\
             | ARP | 10 (10 to 20) | 30 (11 to 30) | 1.50 (1.10 to 3.00) |\n"
        );
        part.yardstick = None;
        part.more_is_better = true;
        part.rows = vec![Row::single("UDP", [1_234_567.0])];
        assert_eq!(
            table(&part),
            "\n### Frames\n\n| frame | ns; higher is better |\n|---|---|\n| UDP | 1,234,567 |\n"
        );
    }

    #[test]
    fn a_table_has_columns_for_net_figures_and_instructions_where_there_are_any() {
        let cost = |nanoseconds, instructions| Cost {
            nanoseconds,
            instructions,
        };
        let rows = vec![
            Row::beside_empty("ACK", &[[cost(30.0, Some(100.0)), cost(32.5, Some(120.0))]]),
            Row::beside_empty("SYN", &[[cost(30.0, None), cost(60.0, None)]]),
        ];
        let text = table(&Table::beside_empty("T", "frame", rows));
        assert!(
            text.ends_with(
                "| frame | empty program | tfo | ratio | net | net instructions |\n|---|---|---|---|---|---|\n\
                 | ACK | 30 | 32.5 | 1.08 | 2.5 | 20 |\n| SYN | 30 | 60 | 2.00 | 30 | - |\n"
            ),
            "{text}"
        );
        let rows = [40.0, 30.5].map(|c| {
            Row::beside(
                "SYN",
                &[[cost(30.0, None), cost(c, None), cost(45.0, None)]],
            )
        });
        let text = table(&Table::beside("T", "frame", "C", rows.into()));
        assert!(
            text.ends_with(
                "| frame | C | tfo | ratio | net ratio |\n|---|---|---|---|---|\n\
                 | SYN | 40 | 45 | 1.12 | 1.50 |\n| SYN | 30.5 | 45 | 1.48 | - |\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.25, "0.2"),
            (-1234.0, "-1,234"),
            (30.0, "30"),
            (999.94, "999.9"),
            (1000.0, "1,000"),
            (65_536.4, "65,536"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn a_page_names_what_is_missing() {
        let report = Report {
            missing: vec![("C".into(), "there is no clang".into())],
            ..Report::default()
        };
        assert!(page(&report).ends_with("measured\n\n- C: there is no clang\n"));
    }
}

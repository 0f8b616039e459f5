//! `report.md`.

use std::fmt::Write as _;

use crate::report::{Plot, Report, Row, Section, Spread, Table};

/// All of `report.md`.
pub(crate) fn page(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = format!(
        "# Benchmark of tfo: cost and savings\n\n\
         Written by `cargo xtask bench{}`: {} with {} cores, Linux {}, {}; commit {}, {}.\n\n\
         Every ratio compares two values of one round, measured one after the other. A value is the median of\n\
         all rounds, with minimum and maximum in parentheses. Only the ratios carry over to other machines.\n\
         `report.json` has the same values.\n",
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
pub(crate) fn table(table: &Table) -> String {
    let Table {
        name,
        of,
        unit,
        yardstick,
        subject,
        rows,
        ..
    } = table;
    let better = if table.more_is_better {
        "; higher is better"
    } else {
        ""
    };
    let mut text = format!("\n### {name}\n\n");
    match yardstick {
        Some(yardstick) => {
            text += &format!("In {unit}{better}.\n\n");
            text += &format!("| {of} | {yardstick} | {subject} | ratio |\n|---|---|---|---|\n");
        }
        None => text += &format!("| {of} | {unit}{better} |\n|---|---|\n"),
    }
    for row in rows {
        text += &line(row);
    }
    text
}

fn line(row: &Row) -> String {
    let mut line = format!("| {} |", row.name);
    let cells = [
        row.yardstick.map(|spread| show(&spread, figure)),
        Some(show(&row.subject, figure)),
        row.ratio
            .map(|spread| show(&spread, |value| format!("{value:.2}"))),
    ];
    for cell in cells.into_iter().flatten() {
        line += &format!(" {cell} |");
    }
    line + "\n"
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
    if value < 1000.0 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
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
    use crate::report::Sample;

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
            more_is_better: false,
            rows: vec![Row::paired("ARP", &samples)],
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
    fn figures_are_short() {
        for (value, text) in [
            (0.25, "0.2"),
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

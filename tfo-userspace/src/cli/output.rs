//! What subcommands print with.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde_json::json;
use tfo_common::{
    counters::{Counter, Counters},
    rate::Rate,
};
use tfo_userspace::kernel::sysctl;

/// Prints to standard output. A reader that has seen enough (`tfo stats | head`) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    write(text).map(drop)
}

/// Prints to standard output; `false` where nobody reads it any more.
pub(super) fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other
            .map(|()| true)
            .context("cannot write to standard output"),
    }
}

/// Prints one JSON object.
pub(super) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// An object from each counter's name to its value.
pub(super) fn counters_json(counters: &Counters) -> serde_json::Value {
    Counter::ALL
        .into_iter()
        .map(|counter| (counter.name().to_owned(), counters.get(counter).into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A rate; `null` where there is none.
pub(super) fn rate_json(rate: Rate) -> serde_json::Value {
    let Rate { per_second, burst } = rate;
    let limited = !rate.is_unlimited();
    limited
        .then(|| json!({ "per_second": per_second, "burst": burst }))
        .into()
}

/// A warning on standard error.
pub(super) fn warn(text: &str) {
    eprintln!("tfo: warning: {text}");
}

/// Says so where the kernel takes no Fast Open at all.
pub(super) fn warn_if_off() -> anyhow::Result<()> {
    if let Some(hint) = sysctl::mode()?.server_off_hint() {
        warn(&hint);
    }
    Ok(())
}

/// Lines up rows in columns: the first to the left, the others to the right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text += cells.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

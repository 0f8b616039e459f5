//! Writing to standard output, and the shapes of text and JSON that subcommands share.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::bail;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use tfo_common::{
    counters::{Counter, Counters},
    rate::Rate,
};
use tfo_userspace::{
    datapath::{self, Namespace},
    kernel::{refusal, sysctl},
    service::describe_hook_change,
};

/// Writes to standard output. A closed pipe (`tfo stats | head`) is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    write(text).map(drop)
}

/// Writes to standard output; `false` if nobody reads it any more.
pub(super) fn write(text: &str) -> anyhow::Result<bool> {
    write_raw(&printable(text))
}

/// As [`write()`], with the escape codes in `text`.
pub(super) fn write_raw(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => bail!(
            "cannot write to standard output: {error}: {}",
            remedy(&error)
        ),
        Ok(()) => Ok(true),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space there, or write elsewhere"
        }
        _ => "write elsewhere",
    }
}

/// Time between two looks at a pipe that nothing is written to.
const PIPE_CHECK: Duration = Duration::from_millis(200);

/// Completes when the reader of standard output has closed its end of a pipe or socket; never for a file or a
/// terminal. For commands that may write nothing for a long time.
pub(super) async fn reader_gone() {
    while !is_closed() {
        tokio::time::sleep(PIPE_CHECK).await;
    }
}

fn is_closed() -> bool {
    let out = io::stdout();
    let mut out = [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::empty())];
    let now = Timespec::default();
    // A pipe whose readers are gone has POLLERR, a socket POLLHUP.
    poll(&mut out, Some(&now)).is_ok()
        && out[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Moves interfaces to the hooks that the changed policy or guard calls for, and tells of it on standard error.
pub(super) async fn follow_job(namespace: &Namespace) -> anyhow::Result<()> {
    for change in datapath::follow_job(namespace).await? {
        eprintln!("tfo: {}", printable(&describe_hook_change(&change)));
    }
    Ok(())
}

/// Prints one JSON object.
pub(super) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    write_raw(&format!("{value:#}\n")).map(drop)
}

/// An object from each counter's name to its value, zeros included.
pub(super) fn counters_json(counters: &Counters) -> serde_json::Value {
    Counter::ALL
        .into_iter()
        .map(|counter| (counter.name().to_owned(), counters.get(counter).into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// As [`counters_json`], without the counters that are 0.
pub(super) fn occurred_json(counters: &Counters) -> serde_json::Value {
    Counter::ALL
        .into_iter()
        .filter(|counter| counters.get(*counter) > 0)
        .map(|counter| (counter.name().to_owned(), counters.get(counter).into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// `{"per_second", "burst"}`; `null` for no limit.
pub(super) fn rate_json(rate: Rate) -> serde_json::Value {
    let Rate { per_second, burst } = rate;
    let limited = !rate.is_unlimited();
    limited
        .then(|| json!({ "per_second": per_second, "burst": burst }))
        .into()
}

/// A warning on standard error.
pub(super) fn warn(text: &str) {
    eprintln!("tfo: warning: {}", printable(text));
}

/// An error on standard error; with `verbose`, each of its causes on a line of its own.
pub(crate) fn tell(error: &anyhow::Error, verbose: u8) {
    let mut chain = error.chain();
    let is_limit = |cause: &(dyn std::error::Error + 'static)| {
        let text = cause.to_string();
        text.contains("(os error 24)") && !text.contains("ulimit")
    };
    if error.chain().any(is_limit) {
        eprintln!("tfo: {}", refusal::of_files());
    } else if let Some(first) = chain.next() {
        eprintln!("tfo: {}", printable(&first.to_string()));
    }
    if verbose > 0 {
        for cause in chain {
            eprintln!("  because: {}", printable(&cause.to_string()));
        }
    }
}

/// A text for the terminal: names of interfaces may contain escape codes.
pub(super) fn printable(text: &str) -> String {
    let is_code = |it: char| it.is_control() && it != '\n';
    if !text.contains(is_code) {
        return text.to_owned();
    }
    let escape = |it: char| {
        if is_code(it) {
            it.escape_default().to_string()
        } else {
            it.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// Warns if `net.ipv4.tcp_fastopen` lets no listener use Fast Open.
pub(super) fn warn_if_off() -> anyhow::Result<()> {
    if let Some(hint) = sysctl::mode()?.server_off_hint() {
        warn(&hint);
    }
    Ok(())
}

/// Rows in columns two spaces apart: the first column aligned to the left, the others to the right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    columns(rows, |column, _| column > 0)
}

/// Rows in columns two spaces apart, indented: all aligned to the right, except the last one, which is a text.
pub(super) fn list(rows: &[Vec<String>]) -> String {
    let text = columns(rows, |column, of| column + 1 < of);
    let lines = text.lines();
    lines.flat_map(|line| ["  ", line, "\n"]).collect()
}

/// Rows in columns; `to_the_right` is asked by column and number of columns in the row.
fn columns(rows: &[Vec<String>], to_the_right: impl Fn(usize, usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            line += gap;
            line += &if to_the_right(column, row.len()) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// `count` with its noun: "1 SYN", "2 SYNs".
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_codes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\nb"), "a\nb");
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\r");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "1", "one"], ["bcd", "100", "hundred"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a      1      one\nbcd  100  hundred\n");
        assert_eq!(list(&rows), "    a    1  one\n  bcd  100  hundred\n");
    }
}

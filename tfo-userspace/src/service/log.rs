//! The log, on standard error.

use std::{
    env,
    io::{self, IsTerminal as _, Write},
};

use rustix::fs::fstat;
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{MakeWriter, layer},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Starts logging: of this program from `info` on, or more with `-v`; of libraries errors only.
///
/// Lines to the journal begin with their priority, as in sd-daemon(3), and have no time: the journal adds its own.
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // A prefix: it covers the library and the data path, too.
    let targets = Targets::new()
        .with_default(LevelFilter::ERROR)
        // An interface whose name is not UTF-8 makes it log each message of the kernel.
        .with_target("netlink", LevelFilter::OFF)
        .with_target("tfo", level);
    let lines = layer().with_target(false);
    let lines = if is_journal() {
        let lines = lines.without_time().with_level(false).with_ansi(false);
        lines.with_writer(Journal).with_filter(targets).boxed()
    } else {
        let lines = lines.with_ansi(io::stderr().is_terminal());
        lines.with_writer(io::stderr).with_filter(targets).boxed()
    };
    tracing_subscriber::registry().with(lines).init();
}

/// `true` if standard error is the journal, whose device and inode systemd puts into `JOURNAL_STREAM`.
fn is_journal() -> bool {
    let (Ok(stream), Ok(stderr)) = (env::var("JOURNAL_STREAM"), fstat(io::stderr())) else {
        return false;
    };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

/// Writes lines with their priority in front.
struct Journal;

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line("<6>")
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line {
        Line(match *line.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        })
    }
}

struct Line(&'static str);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = [self.0.as_bytes(), line].concat();
        io::stderr().write_all(&text)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

//! `tfo top`: the counters of a network namespace, live on a terminal.

mod json;
mod rates;
mod settings;
mod view;

use std::{
    env,
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tfo_userspace::{
    datapath::{Namespace, NamespaceError},
    metrics::{self, ScrapeTarget},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::{rates::Rates, settings::View};
use super::{
    number::number,
    output::{reader_gone, write_raw},
};

#[derive(Args)]
pub(super) struct TopArgs {
    /// Time between two readings: a number with s, m, h or d
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = tfo_userspace::config::parse_interval)]
    interval: Duration,
    /// Print one JSON object per line and interval, the first after the first one; needs no terminal
    #[arg(long)]
    json: bool,
    /// With --json: exit after this many lines [default: no limit]
    #[arg(long, value_name = "N", requires = "json", value_parser = number::<u64>(1..=u64::MAX))]
    count: Option<u64>,
}

pub(super) async fn run(args: &TopArgs, netns: Option<&str>) -> anyhow::Result<()> {
    if args.json {
        return print_lines(args, netns).await;
    }
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!(
            "`tfo top` needs a terminal: `tfo stats --watch 1` and `tfo top --json` print lines instead"
        );
    }
    if env::var_os("TERM").is_some_and(|term| term == "dumb") {
        bail!(
            "`tfo top` moves the cursor, which TERM=dumb says that this terminal does not: set TERM, or `tfo stats --watch 1`"
        );
    }
    let namespace = Namespace::current()?;
    let watch = target(netns);
    let view = View::of_environment(args.interval);
    // `try_init` restores the terminal on a panic.
    let mut terminal = ratatui::try_init().context("cannot draw on the terminal")?;
    let result = watch_until_quit(&mut terminal, &namespace, &watch, &view).await;
    ratatui::restore();
    result
}

fn target(netns: Option<&str>) -> ScrapeTarget {
    ScrapeTarget {
        netns: netns.unwrap_or_default().to_owned(),
        ..ScrapeTarget::default()
    }
}

/// Prints a line for each interval until interrupted, or until nobody reads any more.
async fn print_lines(args: &TopArgs, netns: Option<&str>) -> anyhow::Result<()> {
    let (namespace, watch) = (Namespace::current()?, target(netns));
    if namespace.interfaces().await?.is_empty() {
        bail!(NamespaceError::nothing_attached());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut turns = interval(args.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rates = Rates::default();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            _ = turns.tick() => rates.next(metrics::read(&namespace, &watch).await),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = reader_gone() => break,
        }
        if let Some(line) = json::line(&rates) {
            if !write_raw(&line)? {
                break;
            }
            left -= 1;
        }
    }
    Ok(())
}

async fn watch_until_quit(
    terminal: &mut DefaultTerminal,
    namespace: &Namespace,
    watch: &ScrapeTarget,
    view: &View,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut events = EventStream::new();
    let mut turns = interval(view.interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rates = Rates::default();
    loop {
        tokio::select! {
            _ = turns.tick() => rates.next(metrics::read(namespace, watch).await),
            event = events.next() => match event {
                Some(Ok(event)) if !quits(&event) => {}
                Some(Err(error)) => return Err(error).context("cannot read from the terminal"),
                // A key that quits, or the terminal is gone.
                _ => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        // After other events, too: the terminal may have been resized.
        terminal
            .draw(|frame| view.draw(frame, &rates))
            .context("cannot draw on the terminal")?;
    }
}

/// q, Escape and Ctrl-C, which is not a signal in raw mode.
fn quits(event: &Event) -> bool {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press,
        ..
    }) = event
    else {
        return false;
    };
    match code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_quit() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert!(quits(&key(KeyCode::Char('q'), none)));
        assert!(quits(&key(KeyCode::Esc, none)));
        assert!(quits(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!quits(&key(KeyCode::Char('c'), none)));
        assert!(!quits(&Event::Resize(80, 24)));
    }
}

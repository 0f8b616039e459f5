//! `tfo policy withheld`.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use tfo_common::policy::withhold::SourceState;
use tfo_userspace::{datapath::Namespace, kernel::clock, model::Prefix};

use crate::cli::{
    output::{print, print_json, table, warn},
    time,
};

#[derive(Args)]
pub(in crate::cli) struct WithheldArgs {
    /// List every source of which something is remembered
    #[arg(long)]
    all: bool,
    /// First forget the sources in this prefix, which are given cookies again; may be given several times
    #[arg(long, value_name = "PREFIX")]
    forget: Vec<Prefix>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

type Sources = BTreeMap<Prefix, SourceState>;

pub(super) fn run(args: &WithheldArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let policy = namespace.policy();
    forget(&namespace, &args.forget)?;
    let withholds = policy.get()?.is_some_and(|policy| policy.withholds());
    let now = clock::monotonic().as_nanos() as u64;
    let mut sources = policy.remembered()?;
    sources.retain(|_, state| args.all || state.is_withheld(now));
    if args.json {
        let sources: Vec<_> = sources.iter().map(|it| to_json(it, now)).collect();
        return print_json(&json!({ "in_force": withholds, "sources": sources }));
    }
    if !withholds {
        return print("no rule withholds cookies: `tfo policy set --withhold 1d` does\n");
    }
    print(&text(&sources, now))
}

/// Forgets the sources in these prefixes, all in one go.
fn forget(namespace: &Namespace, prefixes: &[Prefix]) -> anyhow::Result<()> {
    let mut sources: Vec<_> = namespace.policy().remembered()?.into_keys().collect();
    let is_in = |prefix: &Prefix| sources.iter().any(|source| prefix.contains(*source));
    let (some, none): (Vec<_>, Vec<_>) = prefixes.iter().copied().partition(is_in);
    for prefix in none {
        let text = format!(
            "{prefix}: nothing is remembered of a source there: `tfo policy withheld --all` lists them"
        );
        if some.is_empty() {
            bail!(text);
        }
        warn(&text);
    }
    sources.retain(|source| some.iter().any(|prefix| prefix.contains(*source)));
    Ok(namespace.policy().forget(&sources)?)
}

fn text(sources: &Sources, now: u64) -> String {
    if sources.is_empty() {
        return "cookies are withheld from no source\n".into();
    }
    let heads = [
        "source", "withheld", "for", "given", "plain", "waiting", "worked",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (source, state) in sources {
        let left = match state.until.saturating_sub(now) {
            0 => "no".into(),
            left => time::age(Duration::from_nanos(left)),
        };
        rows.push(vec![
            source.to_string(),
            state.withheld.to_string(),
            left,
            state.given.to_string(),
            state.plain.to_string(),
            state.waiting.to_string(),
            worked(state, now).map_or("never".into(), |ago| format!("{} ago", time::age(ago))),
        ]);
    }
    table(&rows)
}

fn worked(state: &SourceState, now: u64) -> Option<Duration> {
    (state.worked != 0).then(|| Duration::from_nanos(now.saturating_sub(state.worked)))
}

fn to_json((source, state): (&Prefix, &SourceState), now: u64) -> Value {
    let cause = state.is_withheld(now).then(|| {
        if state.never_opens() {
            "no-connection"
        } else {
            "no-cookie"
        }
    });
    json!({
        "source": source.to_string(),
        "cause": cause,
        "seconds_left": state.until.saturating_sub(now) / 1_000_000_000,
        "withheld": state.withheld,
        "given": state.given,
        "plain": state.plain,
        "waiting": state.waiting,
        "worked_seconds_ago": worked(state, now).map(|ago| ago.as_secs()),
    })
}

//! `tfo doctor`.

mod fix;

use std::{
    env,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;
use tfo_userspace::doctor::{self, Finding, Verdict};

use self::fix::Fixing;
use super::{
    exit::FOUND,
    output::{print_json, printable, tell, write_raw},
};

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Network interfaces [default: all that are up]
    #[arg(value_name = "IFACE")]
    interfaces: Vec<String>,
    /// Print what of this tfo can set by itself, which are sysctls, and what is left to you; with --yes, set it
    #[arg(long)]
    fix: bool,
    /// With --fix: set the sysctls, and keep them in /etc/sysctl.d for the next boot
    #[arg(long, requires = "fix")]
    yes: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = doctor::examine(&args.interfaces).await?;
    let worst = findings.iter().map(|each| each.verdict).max();
    let worst = worst.unwrap_or(Verdict::Ok);
    if args.fix {
        return fix(args, &findings, worst);
    }
    if args.json {
        print_json(&json!({ "verdict": worst, "findings": findings }))?;
    } else {
        write_raw(&text(&findings, is_coloured()))?;
    }
    Ok(if worst >= Verdict::Warning {
        ExitCode::from(FOUND)
    } else {
        ExitCode::SUCCESS
    })
}

/// Sets sysctls, or says which it would set; and names what is left.
fn fix(args: &DoctorArgs, findings: &[Finding], worst: Verdict) -> anyhow::Result<ExitCode> {
    let fixing = if args.yes {
        Fixing::apply(findings)
    } else {
        Fixing::plan(findings)
    };
    let left = fix::left(findings);
    if args.json {
        print_json(&json!({ "verdict": worst, "findings": findings, "fix": fixing.json() }))?;
    } else {
        write_raw(&printable(&fixing.text()))?;
        if !left.is_empty() {
            let left = text(&left, is_coloured());
            write_raw(&format!("left to you:\n{left}"))?;
        }
    }
    let errors = fixing.errors();
    let failed = !errors.is_empty();
    for error in errors {
        tell(&error.into(), 0);
    }
    // Without --yes nothing is done about any of it.
    let found = if args.yes {
        !left.is_empty()
    } else {
        worst >= Verdict::Warning
    };
    Ok(match (failed, found) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(FOUND),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none()
}

/// A line for each finding, and one for its remedy.
fn text(findings: &[Finding], colour: bool) -> String {
    let label = |finding: &Finding| match &finding.interface {
        Some(interface) => printable(&format!("{interface} {}", finding.check)),
        None => finding.check.to_owned(),
    };
    let labels: Vec<_> = findings.iter().map(label).collect();
    let width = labels
        .iter()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (finding, label) in findings.iter().zip(&labels) {
        let verdict = format!("{:<7}", finding.verdict);
        let verdict = if colour {
            paint(finding.verdict, &verdict)
        } else {
            verdict
        };
        text += &format!(
            "{verdict}  {label:<width$}  {}\n",
            printable(&finding.found)
        );
        if let Some(remedy) = &finding.remedy {
            text += &format!("{:9}{:width$}  -> {}\n", "", "", printable(remedy));
        }
    }
    let count = |verdict, name| {
        let count = findings
            .iter()
            .filter(|each| each.verdict == verdict)
            .count();
        format!("{count} {name}{}", if count == 1 { "" } else { "s" })
    };
    text + &format!(
        "{}, {}\n",
        count(Verdict::Problem, "problem"),
        count(Verdict::Warning, "warning")
    )
}

fn paint(verdict: Verdict, text: &str) -> String {
    let code = match verdict {
        Verdict::Ok => "32",
        Verdict::Unknown => "2",
        Verdict::Note => "36",
        Verdict::Warning => "33",
        Verdict::Problem => "1;31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

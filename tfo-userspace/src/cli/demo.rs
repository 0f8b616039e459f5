//! `tfo demo`.

use std::process::ExitCode;

use serde_json::{Value, json};
use tfo_common::counters::{Counter, Counters};
use tfo_userspace::{
    datapath::Drift,
    demo::{Demo, DemoStep, Exchange, ONE_WAY, STEPS, StepDone},
};

use super::{
    exit::FOUND,
    output::{occurred_json, print, print_json, table},
};

/// The width of what comes first in a line: the times of two connections, or a command.
const WIDTH: usize = 22;

pub(super) async fn run(json: bool) -> anyhow::Result<ExitCode> {
    let mut demo = Demo::start().await?;
    // Told step by step: they take a second.
    let tell = |text: &str| if json { Ok(()) } else { print(text) };
    tell(&format!(
        "A client and a server in network namespaces of their own, {} ms apart; times are from connect to reply:\n\n",
        ONE_WAY.as_millis()
    ))?;
    let attached = &demo.attached;
    tell(&line(
        "tfo attach",
        &format!(
            "program {} on the server's interface, {} mode, {} mirror",
            attached.program_id, attached.mode, attached.mirror
        ),
    ))?;
    let mut done = Vec::new();
    for step in &STEPS {
        let result = demo.step(step)?;
        tell(&step_text(step, &result))?;
        done.push((step, result));
    }
    let (drift, differ) = demo.compare().await?;
    if json {
        print_json(&to_json(&demo, &done, &drift, &differ))?;
    } else {
        print(&format!("\n{}", comparison(&drift, &differ)))?;
        let exchanges = done.iter().flat_map(|(_, done)| &done.exchanges);
        print(&gain(&exchanges.collect::<Vec<_>>()))?;
    }
    Ok(if differ.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND)
    })
}

fn line(first: &str, second: &str) -> String {
    format!("  {first:<WIDTH$}  {second}\n")
}

/// Returns the text of a step: its result, and below it the counts of `tfo`.
fn step_text(step: &DemoStep, done: &StepDone) -> String {
    let times = done
        .exchanges
        .iter()
        .map(|each| format!("{} {:.0} ms", each.family, each.reply_ms));
    let times = times.collect::<Vec<_>>().join(", ");
    let mut text = line(step.command.unwrap_or(&times), step.shows);
    let counted = Counter::MIRRORED.into_iter().chain(Counter::REASONS);
    let counted = counted.filter(|counter| done.counted.get(*counter) > 0);
    let counted: Vec<_> = counted
        .map(|counter| format!("{} +{}", counter.name(), done.counted.get(counter)))
        .collect();
    if !counted.is_empty() {
        text += &line("", &format!("  counted: {}", counted.join(", ")));
    }
    text
}

/// The counters beside the kernel's.
fn comparison(drift: &Drift, differ: &[Counter]) -> String {
    let mut rows = vec![
        ["counter", "tfo", "kernel", "drift"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let ours = &drift.ours.total;
    let mirrored = Counter::MIRRORED.into_iter();
    let mirrored = mirrored.zip(drift.kernel).zip(drift.drift());
    for ((counter, kernel), by) in mirrored {
        let own = ours.get(counter);
        if own != 0 || kernel != 0 {
            let numbers = [own.to_string(), kernel.to_string(), by.to_string()];
            rows.push([vec![counter.name().to_owned()], numbers.to_vec()].concat());
        }
    }
    let others = Counter::ALL.into_iter().skip(Counter::MIRRORED.len());
    for counter in others.filter(|counter| ours.get(*counter) != 0) {
        rows.push(vec![
            counter.name().to_owned(),
            ours.get(counter).to_string(),
        ]);
    }
    let verdict = if differ.is_empty() {
        "tfo and the kernel counted the same"
    } else {
        "tfo and the kernel did not count the same: `tfo doctor` checks this host"
    };
    format!("{}\n{verdict}\n", table(&rows))
}

/// The time that sending the request in the SYN saves.
fn gain(exchanges: &[&Exchange]) -> String {
    let median = |in_syn| {
        let of = exchanges.iter().filter(|each| each.in_syn == in_syn);
        let mut times: Vec<_> = of.map(|each| each.reply_ms).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    };
    let (Some(fast), Some(plain)) = (median(true), median(false)) else {
        return String::new();
    };
    let in_syn = exchanges.iter().filter(|each| each.in_syn);
    let (in_syn, early) = (
        in_syn.clone().count(),
        in_syn.filter(|each| each.before_handshake).count(),
    );
    let round_trip = ONE_WAY.as_secs_f64() * 2e3;
    format!(
        "{in_syn} requests came in a SYN; the server read {early} of them before the handshake was complete\n\
         median time to the reply: {fast:.1} ms, without data in the SYN {plain:.1} ms: {:.1} ms saved, or {:.2} round trips of {round_trip:.0} ms\n",
        plain - fast,
        (plain - fast) / round_trip,
    )
}

fn to_json(
    demo: &Demo,
    done: &[(&DemoStep, StepDone)],
    drift: &Drift,
    differ: &[Counter],
) -> Value {
    let by_name = |value: &dyn Fn(usize) -> Value| -> Value {
        let names = Counter::MIRRORED.iter().enumerate();
        let pairs = names.map(|(index, counter)| (counter.name().to_owned(), value(index)));
        Value::Object(pairs.collect())
    };
    let steps = done.iter().map(|(step, done)| {
        json!({
            "step": step.name,
            "shows": step.shows,
            "connections": done.exchanges,
            "counted": occurred_json(&done.counted),
        })
    });
    let counters: &Counters = &drift.ours.total;
    json!({
        "one_way_ms": ONE_WAY.as_millis() as u64,
        "program": demo.attached.program_id,
        "mode": demo.attached.mode.to_string(),
        "mirror": demo.attached.mirror.to_string(),
        "steps": steps.collect::<Vec<_>>(),
        "counters": occurred_json(counters),
        "kernel": by_name(&|index| drift.kernel[index].into()),
        "drift": by_name(&|index| drift.drift()[index].into()),
        "equal": differ.is_empty(),
    })
}

#[cfg(test)]
mod tests {
    use tfo_userspace::{demo::Family, kernel::client_socket::ClientFail};

    use super::*;

    fn exchange(reply_ms: f64, in_syn: bool) -> Exchange {
        Exchange {
            family: Family::V6,
            reply_ms,
            in_syn,
            before_handshake: in_syn,
            client_fail: ClientFail::None,
        }
    }

    #[test]
    fn a_step_tells_what_was_counted() {
        let mut counted = Counters::default();
        counted.add(Counter::PassiveFail, 2);
        counted.add(Counter::ReasonBadCookie, 2);
        counted.add(Counter::Syns, 2);
        let exchanges = vec![exchange(80.9, false)];
        let text = step_text(&STEPS[7], &StepDone { exchanges, counted });
        assert_eq!(
            text,
            "  IPv6 81 ms              the cookie is refused, and replaced; the request follows the handshake\n  \
             \x20                         counted: TCPFastOpenPassiveFail +2, ReasonBadCookie +2\n"
        );
    }

    #[test]
    fn the_gain_is_between_medians() {
        let all = [
            exchange(90.0, false),
            exchange(80.0, false),
            exchange(85.0, false),
            exchange(45.0, true),
        ];
        let text = gain(&all.iter().collect::<Vec<_>>());
        assert!(
            text.contains("45.0 ms, without data in the SYN 85.0 ms: 40.0 ms saved, or 1.00 round trips of 40 ms"),
            "{text}"
        );
        assert_eq!(gain(&[]), "");
    }
}

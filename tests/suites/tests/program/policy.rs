//! Policies: random policies and random SYNs, compared with a simple model of the rules.
//!
//! A failure prints the seed; `TFO_SEED` repeats it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use tfo_common::{
    counters::Counter,
    policy::{Action, Class, Limit, once::OnceBy},
    rate::Rate,
};
use tfo_testbed::{
    program::{Changes, PASS, Program},
    seed::{rng, rng_with},
};
use tfo_userspace::model::{LimitedSources, Lists, OnceMemory, Policy, PortPolicy, Prefix};

use crate::{
    flow::{BACKUP, PRIMARY},
    policy_case::{Case, PORTS},
    policy_model::{Decision, Model},
};

const POLICIES: usize = 150;
const SYNS: usize = 120;
/// Limits refill after a second: a policy is replaced before that, since the model has no clock.
const LIMITS_REST: Duration = Duration::from_millis(950);
/// `XDP_DROP`.
const DROP: u32 = 1;

/// `true` if the checksum may be a pseudo-header's sum that the card is to complete: XDP then leaves the SYN alone.
fn seems_partial(frame: &[u8]) -> bool {
    let v6 = frame[12] == 0x86;
    let (addresses, tcp) = if v6 { (22..54, 54) } else { (26..34, 34) };
    let len = (frame.len() - tcp) as u32;
    let words = frame[addresses].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let sum = sum + 6 + len;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[tcp + 16..tcp + 18] == (sum as u16).to_be_bytes()
}

fn random_policy(random: &mut Rng) -> Policy {
    let port = |random: &mut Rng| PortPolicy {
        actions: [
            *random.choice(&Action::ALL).unwrap(),
            action(random),
            action(random),
            action(random),
        ],
        limits: std::array::from_fn(|_| Limit {
            source: rate(random),
            port: rate(random),
        }),
        denied: action(random),
        no_cookie: Action::Pass,
        once_by: *random.choice(&OnceBy::ALL).unwrap(),
        // No handshake is completed here, so nothing is ever withheld.
        withhold: Duration::from_secs(random.u64(..2)),
        dry_run: random.bool(),
    };
    let mut ports = BTreeMap::new();
    for number in &PORTS[..2] {
        if random.bool() {
            ports.insert(*number, port(random));
        }
    }
    let mut prefixes: Vec<Prefix> = [
        ("192.0.2.0", 24),
        ("192.0.2.7", 32),
        ("192.0.0.0", 8),
        ("2001:db8::", 32),
        ("2001:db8::", 64),
        ("2001:db8::1", 128),
        ("0.0.0.0", 0),
    ]
    .map(|(address, len)| Prefix {
        address: address.parse().unwrap(),
        len,
    })
    .into();
    random.shuffle(&mut prefixes);
    prefixes.truncate(random.usize(..5));
    let deny = prefixes.split_off(prefixes.len() / 2);
    Policy {
        sources: LimitedSources {
            max: 1024,
            v4: *random.choice(&[0, 24, 32]).unwrap(),
            v6: *random.choice(&[48, 64, 128]).unwrap(),
        },
        default: port(random),
        ports,
        lists: Lists {
            allow: prefixes,
            deny,
        },
        once: OnceMemory::default(),
    }
}

fn action(random: &mut Rng) -> Action {
    *random.choice(&Action::WITHOUT_MEMORY).unwrap()
}

fn rate(random: &mut Rng) -> Rate {
    if random.bool() {
        Rate {
            per_second: 1,
            burst: random.u32(1..6),
        }
    } else {
        Rate::UNLIMITED
    }
}

fn action_title(action: Action) -> &'static str {
    match action {
        Action::Pass => "Pass",
        Action::Reissue => "Reissue",
        Action::Fallback => "Fallback",
        Action::Drop => "Drop",
        Action::Once => "Once",
    }
}

/// Expected increases of the counters that depend on a policy.
fn expected_counts(case: &Case, decision: &Decision) -> Changes {
    let mut names = Vec::new();
    let class = case.class();
    let done = match decision {
        Decision::Done(action, _, false) => *action,
        _ => Action::Pass,
    };
    if let Decision::Done(action, cause, dry_run) = decision {
        let begin = if *dry_run { "DryRun" } else { "Policy" };
        names.extend([
            format!("{begin}{}", action_title(*action)),
            format!("{begin}{cause}"),
        ]);
    }
    if *decision == Decision::Allowed {
        names.push("PolicyAllowed".to_owned());
    }
    if *decision == Decision::First {
        names.push("PolicyFirst".to_owned());
    }
    match (done, class) {
        (Action::Pass, Some(Class::Bad)) => names.push("TCPFastOpenPassiveFail".to_owned()),
        (Action::Pass, Some(Class::Valid)) => names.push("TCPFastOpenPassive".to_owned()),
        (Action::Pass, Some(Class::Request)) | (Action::Reissue, _) => {
            names.push("TCPFastOpenCookieReqd".to_owned());
        }
        _ => {}
    }
    if done != Action::Pass && matches!(class, Some(Class::Valid | Class::Request)) {
        names.push("ReasonPolicy".to_owned());
    }
    let all = Counter::ALL.iter().map(|counter| counter.name());
    let counted = all.map(|name| (name, u64::from(names.iter().any(|each| each == name))));
    counted.filter(|(_, count)| *count != 0).collect()
}

/// `true` for a counter of [`expected_counts`].
fn is_of_policy(name: &str) -> bool {
    name != "TCPFastOpenPassiveAltKey"
        && (name.starts_with("TCPFastOpen")
            || name.starts_with("Policy")
            || name.starts_with("DryRun")
            || name == "ReasonPolicy")
}

#[test]
fn policies_do_what_their_rules_say() -> Result<()> {
    let mut random = rng()?;
    let mut program = Program::with_keys(&[PRIMARY, BACKUP])?;
    let mut tally = BTreeMap::<String, usize>::new();
    let mut policies = 0;
    // A slow machine tests fewer SYNs per policy, and needs more policies.
    while policies < POLICIES || policies < 10 * POLICIES && !missing(&tally).is_empty() {
        policies += 1;
        let policy = random_policy(&mut random);
        program.datapath().set_policy(Some(&policy))?;
        let mut model = Model::new(&policy);
        let since = Instant::now();
        for _ in 0..SYNS {
            let syn = Case::random(&mut random);
            let decision = model.decide(&syn);
            let done = match decision {
                Decision::Done(action, _, false) => action,
                _ => Action::Pass,
            };
            let frame = syn.frame(Action::Pass);
            let (verdict, out, counted) = program.run(&frame)?;
            if since.elapsed() > LIMITS_REST {
                break;
            }
            if let Decision::Done(action, cause, dry_run) = &decision {
                let name = format!("{action:?} {cause} {dry_run}");
                *tally.entry(name).or_default() += 1;
            }
            let context = || format!("{decision:?} of {frame:02x?} by {policy:#?}");
            let drops = done == Action::Drop;
            ensure!(
                verdict == if drops { DROP } else { PASS },
                "{verdict}: {}",
                context()
            );
            let mut counts = counted.total;
            counts.retain(|name, _| is_of_policy(name));
            ensure!(
                counts == expected_counts(&syn, &decision),
                "{counts:?}: {}",
                context()
            );
            let mut expected = syn.frame(done);
            if seems_partial(&frame) {
                let tcp = if frame[12] == 0x86 { 54 } else { 34 };
                expected[tcp + 16..tcp + 18].copy_from_slice(&frame[tcp + 16..tcp + 18]);
            }
            ensure!(drops || out == expected, "{out:02x?}: {}", context());
        }
    }
    // Every action and every cause has occurred, enforced and in dry runs.
    println!("{tally:#?}");
    let missing = missing(&tally);
    ensure!(
        missing.is_empty(),
        "none of {missing:?} in {policies} policies"
    );
    Ok(())
}

/// Causes that have not occurred, enforced (`false`) or in a dry run (`true`).
fn missing(tally: &BTreeMap<String, usize>) -> Vec<String> {
    // No data is untaken where no socket is looked up, and no cookie is withheld where no handshake is completed.
    let unmet = [Counter::PolicyUntaken, Counter::PolicyWithheld];
    let met = |counter: &&Counter| !unmet.contains(*counter);
    let causes = Counter::POLICY[3..].iter().filter(met);
    let causes = causes.flat_map(|counter| {
        let cause = &counter.name()["Policy".len()..];
        [false, true].map(|dry_run| format!(" {cause} {dry_run}"))
    });
    causes
        .filter(|end| !tally.keys().any(|key| key.ends_with(end)))
        .collect()
}

/// Without a policy, from the start or after a clear, every frame passes unchanged.
#[test]
fn a_policy_that_is_cleared_does_nothing() -> Result<()> {
    let mut program = Program::with_keys(&[PRIMARY])?;
    let drop = Policy {
        default: PortPolicy {
            actions: [Action::Drop; 4],
            ..PortPolicy::default()
        },
        ..Policy::default()
    };
    let mut random = rng_with(1)?;
    for _ in 0..5 {
        program.datapath().set_policy(None)?;
        for _ in 0..50 {
            program.pass(&Case::random(&mut random).frame(Action::Pass))?;
        }
        program.datapath().set_policy(Some(&drop))?;
        let mut dropped = 0;
        for _ in 0..50 {
            let case = Case::random(&mut random);
            let (verdict, ..) = program.run(&case.frame(Action::Pass))?;
            assert_eq!(verdict == DROP, case.class().is_some());
            dropped += u32::from(verdict == DROP);
        }
        assert!(dropped > 10, "{dropped}");
    }
    Ok(())
}

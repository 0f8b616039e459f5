//! Accepted cookies before, during and after key changes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;
use aya::programs::{TestRun as _, TestRunOptions};
use tfo_common::{
    counters::Counter::{
        self, CookieReqd, Passive, PassiveAltKey, PassiveFail, ReasonBadCookie, Syns,
    },
    fastopen::KeySet,
};
use tfo_testbed::{
    packet::fast_open,
    program::{KeyBytes, Program},
};

use crate::flow::{BACKUP, FLOWS, Flow, PRIMARY, V4, V6, syn_counts};

const DATA: &[u8] = b"GET /";

/// Expected counts of a cookie under no key.
const BAD: &[Counter] = &[PassiveFail, ReasonBadCookie];

/// A SYN with this cookie; a request if it is empty.
fn syn(flow: Flow, cookie: &[u8]) -> bytes::Bytes {
    flow.syn().options(&fast_open(cookie)).data(DATA).frame()
}

#[test]
fn without_a_key_set_no_cookie_is_good() -> Result<()> {
    let mut program = Program::load()?;
    for set_empty in [false, true] {
        if set_empty {
            program.set_keys(&[])?;
        }
        for flow in FLOWS {
            let request = program.count(&syn(flow, b""))?;
            assert_eq!(request, syn_counts(&[CookieReqd], DATA));
            // The zero key is not accepted unless it is in the set.
            for key in [PRIMARY, [0; 16]] {
                let cookie = program.count(&syn(flow, &flow.cookie(&key)))?;
                assert_eq!(cookie, syn_counts(BAD, DATA));
            }
        }
    }
    Ok(())
}

#[test]
fn the_zero_key_is_a_key() -> Result<()> {
    let program = Program::with_keys(&[[0; 16]])?;
    for flow in FLOWS {
        let counted = program.count(&syn(flow, &flow.cookie(&[0; 16])))?;
        assert_eq!(counted, syn_counts(&[Passive], DATA));
    }
    Ok(())
}

/// The steps of a rotation: the set of keys at each step, and the expected counts of the old key's cookie.
#[test]
fn a_cookie_lives_as_long_as_its_key() -> Result<()> {
    const OLD: KeyBytes = PRIMARY;
    const NEW: KeyBytes = *b"a new key.......";
    let mut program = Program::load()?;
    for (keys, old, new) in [
        (&[OLD][..], &[Passive][..], BAD),
        (&[OLD, NEW], &[Passive], &[Passive, PassiveAltKey]),
        (&[NEW, OLD], &[Passive, PassiveAltKey], &[Passive]),
        (&[NEW], BAD, &[Passive]),
        (&[], BAD, BAD),
        (&[OLD], &[Passive], BAD),
    ] {
        program.set_keys(keys)?;
        for flow in FLOWS {
            for (key, counters) in [(OLD, old), (NEW, new)] {
                let counted = program.count(&syn(flow, &flow.cookie(&key)))?;
                assert_eq!(counted, syn_counts(counters, DATA));
            }
        }
    }
    Ok(())
}

#[test]
fn every_key_but_the_first_is_a_backup() -> Result<()> {
    let keys: Vec<KeyBytes> = (0..KeySet::MAX as u8).map(|n| [n; 16]).collect();
    let program = Program::with_keys(&keys)?;
    for flow in FLOWS {
        for (index, key) in keys.iter().enumerate() {
            let counters: &[_] = if index == 0 {
                &[Passive]
            } else {
                &[Passive, PassiveAltKey]
            };
            let counted = program.count(&syn(flow, &flow.cookie(key)))?;
            assert_eq!(counted, syn_counts(counters, DATA), "key {index}");
        }
    }
    Ok(())
}

#[test]
fn a_cookie_is_good_for_its_own_addresses_alone() -> Result<()> {
    let program = Program::with_keys(&[PRIMARY, BACKUP])?;
    for flow in FLOWS {
        let swapped = Flow {
            client: flow.server,
            server: flow.client,
        };
        let other_client = Flow {
            client: if flow.client.is_ipv4() {
                "192.0.2.8".parse()?
            } else {
                "2001:db8:1:2:3:4:5:7".parse()?
            },
            ..flow
        };
        let other_family = if flow.client.is_ipv4() { V6 } else { V4 };
        for issued_for in [swapped, other_client, other_family] {
            let counted = program.count(&syn(flow, &issued_for.cookie(&PRIMARY)))?;
            assert_eq!(counted, syn_counts(BAD, DATA));
        }
    }
    Ok(())
}

#[test]
fn every_bit_of_a_cookie_counts() -> Result<()> {
    let program = Program::with_keys(&[PRIMARY])?;
    for flow in FLOWS {
        let cookie = u64::from_le_bytes(flow.cookie(&PRIMARY));
        for bit in 0..64 {
            let counted = program.count(&syn(flow, &(cookie ^ 1 << bit).to_le_bytes()))?;
            assert_eq!(counted, syn_counts(BAD, DATA), "bit {bit}");
        }
    }
    Ok(())
}

/// Two sets with one key in common replace each other. A cookie of that key is valid at any moment: no packet sees an
/// empty or partial set.
#[test]
fn a_set_is_swapped_whole() -> Result<()> {
    // About 50 ms: longer than a replacement, which waits for an RCU grace period, as the start of a test run does.
    // Shorter runs synchronize with the replacements and see the same set each time.
    const RUNS: u32 = 500_000;
    let sets: [&[KeyBytes]; 2] = [&[PRIMARY, BACKUP], &[[1; 16], [2; 16], [3; 16], PRIMARY]];
    let mut program = Program::with_keys(sets[0])?;
    let handle = program.another_handle()?;
    let frame = syn(V6, &V6.cookie(&PRIMARY));
    let swapped = AtomicBool::new(false);
    let runs = thread::scope(|scope| {
        let runner = scope.spawn(|| -> Result<u64> {
            let mut runs = 0;
            while !swapped.load(Ordering::Relaxed) {
                handle.test_run(TestRunOptions {
                    data_in: Some(&frame),
                    repeat: RUNS,
                    ..TestRunOptions::default()
                })?;
                runs += u64::from(RUNS);
            }
            Ok(runs)
        });
        let swaps = (0..100).try_for_each(|n| program.set_keys(sets[n % 2]));
        swapped.store(true, Ordering::Relaxed);
        swaps?;
        runner.join().expect("the runner does not panic")
    })?;
    let total = program.counters()?.total;
    assert_eq!(total.get(Syns), runs);
    assert_eq!(total.get(Passive), runs);
    assert_eq!(total.get(PassiveFail), 0);
    // The runs used both sets.
    let alt_key = total.get(PassiveAltKey);
    assert!((1..runs).contains(&alt_key), "{alt_key} of {runs}");
    Ok(())
}

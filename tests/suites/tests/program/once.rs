//! The memory of the action `once`: its rate of errors, and copies that come at one instant.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tfo_common::{
    counters::Counter::{self, PolicyFirst, PolicyRepeated},
    policy::{Action, Class},
};
use tfo_testbed::{
    packet::fast_open,
    policy::{everywhere, rule},
    program::Program,
};
use tfo_userspace::model::{OnceMemory, Policy};

use crate::flow::{FLOWS, Flow, PRIMARY, V4};

/// SYNs that the memory is made for.
const CAPACITY: u32 = 1 << 16;

fn loaded() -> Result<Program> {
    let mut program = Program::with_keys(&[PRIMARY])?;
    let once = OnceMemory::default().with_capacity(CAPACITY);
    program.datapath().set_policy(Some(&Policy {
        once,
        ..everywhere(rule(Class::Valid, Action::Once))
    }))?;
    Ok(program)
}

/// A SYN with a valid cookie that is told from others by its sequence number.
fn syn(flow: Flow, sequence: u32) -> bytes::Bytes {
    let syn = flow.syn().numbers(sequence, 0);
    syn.options(&fast_open(&flow.cookie(&PRIMARY)))
        .data(b"GET / HTTP/1.1\r\nHost: example.org")
        .frame()
}

fn run(program: &Xdp, frame: &[u8]) -> Result<()> {
    program.test_run(TestRunOptions {
        data_in: Some(frame),
        ..TestRunOptions::default()
    })?;
    Ok(())
}

fn count(program: &Program, counter: Counter) -> Result<u64> {
    Ok(program.counters()?.total.get(counter))
}

/// Each is new. At its capacity, the memory takes at most one in 5,000 for a copy.
#[test]
fn few_new_syns_are_taken_for_copies() -> Result<()> {
    let program = loaded()?;
    let handle = program.another_handle()?;
    for sequence in 0..CAPACITY {
        run(&handle, &syn(FLOWS[sequence as usize % 2], sequence))?;
    }
    let repeated = count(&program, PolicyRepeated)?;
    ensure!(count(&program, PolicyFirst)? + repeated == u64::from(CAPACITY));
    println!("{repeated} of {CAPACITY} taken for copies");
    ensure!(repeated <= u64::from(CAPACITY / 5000), "{repeated}");
    for sequence in 0..CAPACITY {
        run(&handle, &syn(FLOWS[sequence as usize % 2], sequence))?;
    }
    let all = count(&program, PolicyRepeated)?;
    ensure!(all == repeated + u64::from(CAPACITY), "a copy was taken");
    Ok(())
}

/// Two CPUs meet the same SYN at the same time, again and again: one of them is the first.
#[test]
fn of_two_copies_at_one_instant_one_is_taken() -> Result<()> {
    const PAIRS: u32 = 10_000;
    let program = loaded()?;
    let all = sched_getaffinity(None)?;
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| all.is_set(*cpu))
        .take(2)
        .collect();
    ensure!(cpus.len() == 2, "one CPU only");
    let barrier = Arc::new(Barrier::new(2));
    let threads = cpus.into_iter().map(|cpu| {
        let (handle, barrier) = (program.another_handle()?, barrier.clone());
        Ok(thread::spawn(move || -> Result<()> {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one)?;
            (0..PAIRS).try_for_each(|sequence| {
                let frame = syn(V4, sequence);
                barrier.wait();
                run(&handle, &frame)
            })
        }))
    });
    for thread in threads.collect::<Result<Vec<_>>>()? {
        thread.join().ok().context("a thread panicked")??;
    }
    let (first, repeated) = (
        count(&program, PolicyFirst)?,
        count(&program, PolicyRepeated)?,
    );
    println!("{first} taken, {repeated} not, of {PAIRS} pairs");
    ensure!(first + repeated == u64::from(2 * PAIRS));
    // A few may be taken for copies of others.
    ensure!(first <= u64::from(PAIRS) && first >= u64::from(PAIRS - PAIRS / 1000));
    Ok(())
}

//! Random frames: the program in the kernel counts what the same code counts on the host, and passes every frame.
//!
//! A failure prints the seed of the frames; `TFO_SEED` repeats it.

use anyhow::Result;
use tfo_common::counters::{Counter, Counters};
use tfo_testbed::{
    fuzz::{Frames, run_frames},
    seed::seed,
};

const FRAMES: usize = 100_000;

/// Counters that need a socket lookup.
const OF_SOCKETS: [Counter; 10] = [
    Counter::ListenOverflow,
    Counter::ReasonOff,
    Counter::ReasonListenerWithout,
    Counter::ReasonQueueFull,
    Counter::ReasonNoListener,
    Counter::ReasonSynCookies,
    Counter::ReasonSynQueueFull,
    Counter::ReasonAcceptQueueFull,
    Counter::ReasonRetransmission,
    Counter::ReasonSigned,
];

fn check(frames: Frames) -> Result<Counters> {
    run_frames(frames, seed(fastrand::u64(..))?, FRAMES)
}

#[test]
fn on_noise() -> Result<()> {
    let counted = check(Frames::Noise)?;
    assert!(counted.get(Counter::Syns) > 1000, "{counted:?}");
    assert!(counted.get(Counter::Unparsed) > 10_000, "{counted:?}");
    Ok(())
}

#[test]
fn on_spoiled_syns() -> Result<()> {
    let counted = check(Frames::SpoiledSyns)?;
    let of_policy = [&Counter::POLICY[..], &Counter::DRY_RUN, &Counter::PASSED].concat();
    for counter in Counter::ALL {
        let count = counted.get(counter);
        if OF_SOCKETS.contains(&counter) {
            assert_eq!(count, 0, "{}: no socket was looked up", counter.name());
        } else if of_policy.contains(&counter) || counter == Counter::ReasonPolicy {
            assert_eq!(count, 0, "{}: there is no policy", counter.name());
        } else if Counter::GUARD.contains(&counter) || counter == Counter::ReasonGuard {
            assert_eq!(count, 0, "{}: there is no guard", counter.name());
        } else if Counter::OWN_COOKIES.contains(&counter) {
            assert_eq!(count, 0, "{}: there are no own cookies", counter.name());
        } else if counter == Counter::Elsewhere {
            assert_eq!(count, 0, "the program is for no interface");
        } else {
            assert!(count > 500, "{}: {counted:?}", counter.name());
        }
    }
    Ok(())
}

//! Keys derived from a secret and the clock.

use super::*;

const SECRET: &[u8; 32] = b"thirty-two bytes that none knows";

#[test]
fn derived_keys_change_at_every_half() {
    let secret = Secret::parse(SECRET).unwrap();
    let mut schedule = SecretSchedule::new(INTERVAL, None, Now::default());
    for half in 2..200_u64 {
        let n = half / 2;
        for into in [0, 49] {
            let time = SECOND * (half * 50 + into) as u32;
            let now = Now {
                wall: time,
                boot: time,
            };
            let plan = schedule.plan(&secret, now);
            schedule.installed(&secret, now);
            let backup = if half % 2 == 0 { n - 1 } else { n + 1 };
            assert!(plan.pair.keys().eq([secret.key(n), secret.key(backup)]));
            // What comes next is accepted before.
            let next = secret.key(n + 1);
            assert!(
                plan.staged
                    .into_iter()
                    .chain(plan.pair.keys())
                    .any(|key| key == next)
            );
            assert_eq!(schedule.until_next(now), SECOND * (50 - into) as u32);
        }
    }
}

#[test]
fn no_live_derived_key_is_lost_to_jumps() {
    let secret = Secret::parse(SECRET).unwrap();
    let mut dice = Dice(2);
    let mut now = TestHost::with(pair(1, None)).now;
    let mut schedule = SecretSchedule::new(INTERVAL, None, now);
    // The key that was primary before, and until when it was.
    let mut before: Option<(Key, Duration)> = None;
    let mut last: Option<(Key, Duration)> = None;
    let mut held = 0;
    for _ in 0..20_000 {
        match dice.roll(30) {
            0 => now.wall += SECOND * dice.roll(1000) as u32,
            1 => now.wall -= SECOND * dice.roll(1000) as u32,
            _ => {
                let time = SECOND * dice.roll(10) as u32;
                now.wall += time;
                now.boot += time;
            }
        }
        let plan = schedule.plan(&secret, now);
        schedule.installed(&secret, now);
        if let Some(last) = last.filter(|(key, _)| *key != plan.pair.primary) {
            before = Some(last);
        }
        last = Some((plan.pair.primary, now.boot));
        // tofurkey itself drops one half an interval after it was issued last.
        if let Some((key, until)) = before
            && now.boot.saturating_sub(until) < INTERVAL / 2
        {
            assert!(
                plan.pair.keys().any(|each| each == key),
                "{:?}",
                now.boot.saturating_sub(until)
            );
            held += 1;
        }
    }
    assert!(held > 1000);
}

#[test]
fn a_key_out_of_the_sequence_is_held_for_an_interval() {
    let secret = Secret::parse(SECRET).unwrap();
    let mut now = TestHost::with(pair(1, None)).now;
    assert_eq!(now.wall.as_secs() % 100, 0);
    let mut schedule = SecretSchedule::new(INTERVAL, Some(key(7)), now);
    let mut backups = Vec::new();
    for _ in 0..100 {
        let plan = schedule.plan(&secret, now);
        schedule.installed(&secret, now);
        backups.push(plan.pair.backup);
        now.wall += SECOND;
        now.boot += SECOND;
    }
    assert!(backups.iter().all(|backup| *backup == Some(key(7))));
    // The key of the interval before is younger.
    let n = now.wall.as_secs() / 100;
    let plan = schedule.plan(&secret, now);
    assert!(plan.pair.keys().eq([secret.key(n), secret.key(n - 1)]));
}

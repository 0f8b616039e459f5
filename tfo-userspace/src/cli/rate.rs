//! Rates: how much a counter grew in a second.

use std::time::Duration;

/// `grown` in `elapsed`, per second; 0 if no time has passed.
pub(super) fn per_second(grown: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
        let grown = grown as f64;
        grown / seconds
    } else {
        0.0
    }
}

/// A rate as text: about three digits, at most 6 characters below 10^12.
pub(super) fn format(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        it if it < 0.05 => "<0.1".to_owned(),
        it if it < 9.95 => format!("{it:.1}"),
        it if it < 9_999.5 => format!("{it:.0}"),
        it if it < 999_950.0 => format!("{:.1}k", it / 1e3),
        it if it < 999_950_000.0 => format!("{:.1}M", it / 1e6),
        it => format!("{:.1}G", it / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.02, "<0.1"),
            (0.25, "0.2"),
            (9.94, "9.9"),
            (9.96, "10"),
            (9_999.0, "9999"),
            (10_000.0, "10.0k"),
            (999_949.0, "999.9k"),
            (1_234_567.0, "1.2M"),
            (12_345_678_900.0, "12.3G"),
        ] {
            assert_eq!(format(value), text);
        }
    }

    #[test]
    fn no_time_has_no_rate() {
        assert!(per_second(9, Duration::ZERO).abs() < f64::EPSILON);
        assert!((per_second(9, Duration::from_secs(2)) - 4.5).abs() < f64::EPSILON);
    }
}

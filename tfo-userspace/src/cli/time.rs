//! Moments and ages as text.

use std::time::Duration;

/// RFC 3339, in UTC, with this many digits of the second's fraction, at most 9.
pub(super) fn rfc3339(since_1970: Duration, digits: usize) -> String {
    let seconds = since_1970.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60,
    );
    if digits > 0 {
        let fraction = format!("{:09}", since_1970.subsec_nanos());
        text += &format!(".{}", &fraction[..digits.min(9)]);
    }
    text + "Z"
}

/// A moment of the clock of events, which stood at 0 so long after 1970: RFC 3339, in UTC, to the microsecond.
pub(super) fn of_event(nanoseconds: u64, since_boot: Duration) -> String {
    rfc3339(since_boot + Duration::from_nanos(nanoseconds), 6)
}

/// An age in the largest unit of which there are two or more.
pub(super) fn age(time: Duration) -> String {
    match time.as_secs() {
        it @ 0..120 => format!("{it} s"),
        it @ 120..7_200 => format!("{} min", it / 60),
        it @ 7_200..172_800 => format!("{} h", it / 3_600),
        it => format!("{} d", it / 86_400),
    }
}

/// The Gregorian date so many days after 1970-01-01, as (year, month, day). It counts in years that begin in
/// March, so that a leap day is the last of its year.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (march_year, day) = (era * 400 + year, day - (153 * month + 2) / 5 + 1);
    if month < 10 {
        (march_year, month + 3, day)
    } else {
        (march_year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_089, (2025, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn times_have_the_digits_that_were_asked_for() {
        let time = Duration::new(951_782_399, 4_567_891);
        assert_eq!(rfc3339(time, 0), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(time, 6), "2000-02-28T23:59:59.004567Z");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (119, "119 s"),
            (120, "2 min"),
            (86_400, "24 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}

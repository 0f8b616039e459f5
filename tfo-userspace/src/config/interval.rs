//! Times with a unit.

use std::time::Duration;

/// Reads a time such as `30s`, `15m`, `24h` or `7d`: from 1 s to 100 years.
///
/// # Errors
///
/// The remedy.
pub fn parse_interval(text: &str) -> Result<Duration, String> {
    let error =
        || format!("write a whole number above 0 with s, m, h or d, such as 24h, not {text:?}");
    let (digits, seconds) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
    // At most a century: no clock arithmetic overflows.
    match seconds.filter(|seconds| *seconds <= 100 * 365 * 86_400) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_a_number_and_a_unit() {
        assert_eq!(parse_interval("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_interval("24h"), Ok(Duration::from_secs(86_400)));
        for text in [
            "",
            "0s",
            "5",
            "h",
            "-1h",
            "1.5h",
            "24 h",
            "1w",
            "99999999999999999999d",
        ] {
            let error = parse_interval(text).unwrap_err();
            assert!(error.contains("such as 24h"), "{text}: {error}");
        }
    }
}

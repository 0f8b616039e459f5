//! Times as people write them.

use std::time::Duration;

/// A time such as `30s`, `15m`, `24h` or `7d`.
///
/// # Errors
///
/// Where it is something else: what to write instead.
pub fn interval(text: &str) -> Result<Duration, String> {
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
    // A century, so that no clock arithmetic overflows.
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
        assert_eq!(interval("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(interval("24h"), Ok(Duration::from_secs(86_400)));
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
            let error = interval(text).unwrap_err();
            assert!(error.contains("such as 24h"), "{text}: {error}");
        }
    }
}

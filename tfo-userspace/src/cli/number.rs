//! Whole numbers on the command line.

use std::ops::RangeInclusive;

/// A parser of whole numbers in `range`, which `T` holds. Its error says what to write.
pub(super) fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| match (range.start(), range.end()) {
                (least, &u64::MAX) => format!("write a whole number of {least} or more"),
                (least, most) => format!("write a whole number from {least} to {most}"),
            })
    }
}

/// A parser of ports.
pub(super) fn port(text: &str) -> Result<u16, String> {
    number(1..=u64::from(u16::MAX))(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told_what_is() {
        assert_eq!(port("65535"), Ok(65_535));
        for text in ["", "0", "65536", "-1", "0.1", "1s", "99999999999999999999"] {
            let expected = Err("write a whole number from 1 to 65535".to_owned());
            assert_eq!(port(text), expected, "{text}");
        }
        let count = number::<u64>(1..=u64::MAX);
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        assert!(count("0").unwrap_err().ends_with("of 1 or more"));
    }
}

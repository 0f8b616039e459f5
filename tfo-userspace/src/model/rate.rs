//! Text of a [`Rate`]: `100/s`, `100/s burst 500`, `unlimited`.

use tfo_common::rate::Rate;

/// Most per second. [`Rate::take`] counts in whole nanoseconds between two SYNs: a greater rate would be unlimited.
const MAX_PER_SECOND: u32 = 1_000_000_000;

/// Reads `N/s`, `N/s burst M` or `unlimited`. Without a burst, it is N.
///
/// # Errors
///
/// The text, the cause and the remedy.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "unlimited" {
        return Ok(Rate::UNLIMITED);
    }
    let wrong =
        || format!("{text:?} is no rate: write it as 100/s, \"100/s burst 500\" or unlimited");
    let mut words = text.split_whitespace();
    let per_second = words.next().and_then(|word| word.strip_suffix("/s"));
    let per_second: u32 = per_second.and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let burst = match (words.next(), words.next()) {
        (None, _) => per_second,
        (Some("burst"), Some(burst)) => burst.parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    if words.next().is_some() {
        return Err(wrong());
    }
    if per_second == 0 || burst == 0 {
        return Err(format!(
            "{text:?} has a rate or a burst of 0: both are at least 1"
        ));
    }
    if per_second > MAX_PER_SECOND {
        return Err(format!(
            "{text:?} is above {MAX_PER_SECOND}/s, the greatest rate that can be enforced: give a lower one, or unlimited"
        ));
    }
    Ok(Rate { per_second, burst })
}

/// The text that [`parse_rate`] reads.
pub fn format_rate(rate: Rate) -> String {
    let Rate { per_second, burst } = rate;
    if rate.is_unlimited() {
        "unlimited".to_owned()
    } else if burst == per_second {
        format!("{per_second}/s")
    } else {
        format!("{per_second}/s burst {burst}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back() {
        for text in ["unlimited", "1/s", "100/s burst 500", "1000000000/s"] {
            assert_eq!(format_rate(parse_rate(text).unwrap()), text);
        }
        assert_eq!(
            parse_rate("7/s").unwrap(),
            parse_rate("7/s burst 7").unwrap()
        );
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "7",
            "7/m",
            "-1/s",
            "7/s burst",
            "7/s burst x",
            "7/s burst 7 7",
            "7/s 7 7",
            "4294967296/s",
            "x/s",
        ] {
            assert!(
                parse_rate(text).unwrap_err().contains("is no rate"),
                "{text}"
            );
        }
        for text in ["1000000001/s", "4294967295/s burst 1"] {
            let error = parse_rate(text).unwrap_err();
            assert!(error.contains("above 1000000000/s"), "{error}");
        }
        for text in ["0/s", "0/s burst 7", "7/s burst 0"] {
            assert!(
                parse_rate(text)
                    .unwrap_err()
                    .ends_with("both are at least 1"),
                "{text}"
            );
        }
    }
}

//! The settings of the screen, and the styles by them.

use std::{env, time::Duration};

use ratatui::style::{Color, Modifier, Style};

/// The settings of the screen.
pub(super) struct View {
    pub(super) colour: bool,
    /// Draws charts of ASCII characters alone.
    pub(super) ascii: bool,
    /// The time between two readings.
    pub(super) interval: Duration,
}

impl View {
    /// Draws for this process's environment.
    pub(super) fn of_environment(interval: Duration) -> Self {
        // The first that is set decides: locale(7).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
        Self {
            // https://no-color.org
            colour: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            ascii: !locale.is_some_and(|locale| is_utf8(&locale)),
            interval,
        }
    }

    pub(super) fn style(&self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// A warning stands out without colour, too.
    pub(super) fn warning(&self) -> Style {
        self.style(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The style of a rate: it stands out while it is not 0.
    pub(super) fn alive(&self, rate: f64, colour: Color) -> Style {
        if rate > 0.0 {
            self.style(colour).add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        }
    }
}

/// True for the name of a locale with the encoding UTF-8, such as en_GB.UTF-8.
fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_name_their_encoding() {
        for (locale, utf8) in [
            ("en_GB.UTF-8", true),
            ("C.utf8", true),
            ("C", false),
            ("de_DE", false),
        ] {
            assert_eq!(is_utf8(locale), utf8, "{locale}");
        }
    }
}

//! Values of the file that have a text form of their own.

use std::{str::FromStr, time::Duration};

use serde::Deserialize;
use tfo_common::{
    guard::GuardMode,
    policy::{Action, once::OnceBy},
    rate::Rate,
};

use super::interval::parse_interval;
use crate::model::{ListenAddress, parse_rate};

/// A value that a file or a flag gives as text, such as `100/s` for a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "Self: FromStr<Err = String>")]
pub struct Parsed<T>(pub T);

impl<T> TryFrom<String> for Parsed<T>
where
    Self: FromStr<Err = String>,
{
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Parsed<Rate> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_rate(text).map(Self)
    }
}

impl FromStr for Parsed<Action> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Action::from_name(text).map(Self).ok_or_else(|| {
            format!("{text:?} is no action: write pass, reissue, fallback, drop or once")
        })
    }
}

impl FromStr for Parsed<OnceBy> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        OnceBy::from_name(text)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is unknown: write duplicate or content"))
    }
}

impl FromStr for Parsed<GuardMode> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        GuardMode::from_name(text)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no mode: write off, on or auto"))
    }
}

impl FromStr for Parsed<Duration> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_interval(text).map(Self)
    }
}

/// The time for which cookies are withheld; zero for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withhold(pub Duration);

impl FromStr for Parsed<Withhold> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = match text {
            "off" => Duration::ZERO,
            time => parse_interval(time).map_err(|error| format!("{error}; or off"))?,
        };
        Ok(Self(Withhold(time)))
    }
}

impl FromStr for Parsed<ListenAddress> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ListenAddress::from_str(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Bounded<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> TryFrom<i64> for Bounded<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is not from {MIN} to {MAX}"))
        }
    }
}

impl<const MIN: i64, const MAX: i64> Bounded<MIN, MAX> {
    /// The number, in a type that holds `MIN` and `MAX`.
    pub(super) fn get<T: TryFrom<i64> + Default>(self) -> T {
        T::try_from(self.0).unwrap_or_default()
    }
}

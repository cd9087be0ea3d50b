//! Values of settings: parsed from the text of an option, displayed, and checked against limits.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::choices::HeadSolver;
use super::optimizers::OptimizerKind;
use super::strategies::Strategy;
use crate::Error;
use crate::data::{GroupBy, Preset};
use crate::nn::NormMode;
use crate::train::optimizer::schedule::Schedule;

/// The type of a setting.
pub(super) trait Value: Sized {
    /// Parses the given texts, at least one. A list takes all texts; for other types the last text counts.
    fn parse(texts: &[OsString]) -> Result<Self, String>;

    /// The value as in `config.json` or in an option; none where the value is absent, empty or off.
    fn shown(&self) -> Option<String>;

    /// The numbers in the value.
    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}

/// The last text.
fn last(texts: &[OsString]) -> Result<&str, String> {
    let text = texts.last().map_or(OsStr::new(""), OsString::as_os_str);
    text.to_str().ok_or_else(|| "it is not UTF-8".into())
}

impl Value for bool {
    fn parse(_: &[OsString]) -> Result<Self, String> {
        Ok(true)
    }

    fn shown(&self) -> Option<String> {
        self.then(|| "on".into())
    }
}

macro_rules! number {
    ($($ty:ty: $what:literal),*) => {
        $(impl Value for $ty {
            fn parse(texts: &[OsString]) -> Result<Self, String> {
                last(texts)?.trim().parse().map_err(|_| $what.into())
            }

            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn numbers(&self) -> Vec<f64> {
                // Through its decimal text: f32 0.9 becomes f64 0.9.
                vec![self.to_string().parse().unwrap_or(f64::NAN)]
            }
        })*
    };
}
number!(usize: "a whole number is needed", u64: "a whole number is needed", f32: "a number is needed",
    f64: "a number is needed");

/// Types that `config.json` stores by name.
macro_rules! named {
    ($($ty:ty),*) => {
        $(impl Value for $ty {
            fn parse(texts: &[OsString]) -> Result<Self, String> {
                serde_json::from_value(last(texts)?.into()).map_err(|e| e.to_string())
            }

            fn shown(&self) -> Option<String> {
                serde_json::to_value(self).ok()?.as_str().map(String::from)
            }
        })*
    };
}
named!(Strategy, NormMode, OptimizerKind, HeadSolver, Schedule, Preset);

impl Value for GroupBy {
    fn parse(texts: &[OsString]) -> Result<Self, String> {
        last(texts)?.parse().map_err(|e| match e {
            Error::Setting { reason, .. } => reason,
            other => other.to_string(),
        })
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for String {
    fn parse(texts: &[OsString]) -> Result<Self, String> {
        last(texts).map(String::from)
    }

    fn shown(&self) -> Option<String> {
        Some(self.clone()).filter(|text| !text.is_empty())
    }
}

impl Value for PathBuf {
    fn parse(texts: &[OsString]) -> Result<Self, String> {
        Ok(texts.last().map(PathBuf::from).unwrap_or_default())
    }

    fn shown(&self) -> Option<String> {
        self.display().to_string().shown()
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(texts: &[OsString]) -> Result<Self, String> {
        T::parse(texts).map(Some)
    }

    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(T::shown)
    }

    fn numbers(&self) -> Vec<f64> {
        self.as_ref().map(T::numbers).unwrap_or_default()
    }
}

impl<T: Value> Value for Vec<T> {
    fn parse(texts: &[OsString]) -> Result<Self, String> {
        texts.iter().map(|text| T::parse(std::slice::from_ref(text))).collect()
    }

    fn shown(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.iter().filter_map(T::shown).collect::<Vec<_>>().join(","))
    }

    fn numbers(&self) -> Vec<f64> {
        self.iter().flat_map(T::numbers).collect()
    }
}

/// Exactly `N` numbers, separated by commas.
pub(super) fn numbers<const N: usize>(texts: &[OsString]) -> Result<[f64; N], String> {
    let numbers: Option<Vec<f64>> = last(texts)?.split(',').map(|n| n.trim().parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("{N} numbers with commas between them are needed"))
}

impl Value for (f64, f64) {
    fn parse(texts: &[OsString]) -> Result<Self, String> {
        numbers::<2>(texts).map(Into::into)
    }

    fn shown(&self) -> Option<String> {
        Some(format!("{},{}", self.0, self.1))
    }

    fn numbers(&self) -> Vec<f64> {
        vec![self.0, self.1]
    }
}

/// Learning rates, or the two ends of their range.
type Rates = (Vec<f64>, Option<(f64, f64)>);

/// Learning rates: one or several, separated by commas, or the two ends of a range.
pub(super) fn rates(texts: &[OsString]) -> Result<Rates, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| format!("'{text}' is no number"));
    let text = last(texts)?;
    match text.split_once("..") {
        Some((low, high)) => Ok((Vec::new(), Some((number(low)?, number(high)?)))),
        None => Ok((text.split(',').map(number).collect::<Result<_, _>>()?, None)),
    }
}

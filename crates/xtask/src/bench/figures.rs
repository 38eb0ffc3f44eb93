// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ratios of alternating runs: their median and quartiles; and what a target asks of them.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The middle of some figures, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// A quarter of the figures is lower.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter of the figures is higher.
    pub(crate) high: f64,
    /// How many there are.
    pub(crate) runs: usize,
}

impl Spread {
    /// Of figures, of which there is one at least.
    pub(crate) fn of(mut figures: Vec<f64>) -> Result<Self> {
        ensure!(
            !figures.is_empty() && figures.iter().all(|figure| figure.is_finite()),
            "no figures: {figures:?}"
        );
        figures.sort_by(f64::total_cmp);
        Ok(Self {
            low: quantile(&figures, 0.25),
            median: quantile(&figures, 0.5),
            high: quantile(&figures, 0.75),
            runs: figures.len(),
        })
    }

    /// For a cell of a table.
    pub(crate) fn text(&self) -> String {
        format!("{:.2} ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

/// The value below which this part of the sorted figures lies, interpolated.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = part * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * at.fract()
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    /// Whether a figure is as it must be.
    pub(crate) fn met_by(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }

    /// For a cell of a table.
    pub(crate) fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most}"),
            Self::AtLeast(least) => format!("≥ {least}"),
        }
    }
}

/// One thing that must be seen.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What is compared with what.
    pub(crate) what: String,
    pub(crate) bound: Bound,
    /// `None`: not measured.
    pub(crate) figure: Option<f64>,
    /// A wish, which fails nothing.
    pub(crate) wish: bool,
}

impl Target {
    pub(crate) fn new(what: String, bound: Bound, figure: Option<f64>) -> Self {
        Self {
            what,
            bound,
            figure,
            wish: false,
        }
    }

    /// Whether it is met; `None` if it was not measured.
    pub(crate) fn met(&self) -> Option<bool> {
        self.figure.map(|figure| self.bound.met_by(figure))
    }

    /// The same in words.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "NOT met",
            None => "not measured",
        }
    }

    /// The figure in words.
    pub(crate) fn shown(&self) -> String {
        self.figure
            .map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_interpolated() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
        let spread = Spread::of(vec![2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 2.0, 2.0));
        assert!(Spread::of(Vec::new()).is_err());
        assert!(Spread::of(vec![f64::NAN]).is_err());
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let target = |figure| Target::new("x".into(), Bound::AtMost(0.9), figure);
        assert_eq!(target(None).met(), None);
        assert_eq!(target(Some(0.9)).met(), Some(true));
        assert_eq!(target(Some(0.91)).verdict(), "NOT met");
        assert!(Bound::AtLeast(1.6).met_by(1.7) && !Bound::AtLeast(1.6).met_by(1.5));
    }
}

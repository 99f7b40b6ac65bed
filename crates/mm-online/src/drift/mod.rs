//! Detectors of change in a stream of numbers: a model's errors, its loss, or a feature.
//!
//! | detector | stream | finds | memory |
//! | --- | --- | --- | --- |
//! | [`Adwin`] | bounded numbers | a change of the mean, up or down | O(log *n*) |
//! | [`PageHinkley`] | numbers | a mean that moves away, up or down | O(1) |
//! | [`Ddm`] | errors as 0 and 1 | an error rate that rises, abruptly | O(1) |
//! | [`Eddm`] | errors as 0 and 1 | errors that come closer together, gradually | O(1) |
//! | [`HddmA`] | numbers in [0, 1] | a mean that rises, abruptly | O(1) |
//! | [`HddmW`] | numbers in [0, 1] | a mean that rises, gradually | O(1) |
//! | [`Kswin`] | numbers | a distribution that changes in any way | O(window) |
//!
//! Each sees one number at a time and answers with a [`Change`]. A number that is not finite, or
//! larger in magnitude than 1e100, is passed over. After a drift a detector starts anew with the
//! next number, but for ADWIN, which keeps what it holds for the new regime.

mod adwin;
mod ddm;
mod eddm;
mod hddm;
mod kswin;
mod page_hinkley;

use std::fmt;

use mm_core::ParamError;
use serde::{Deserialize, Serialize};

pub use self::{
    adwin::{Adwin, AdwinParams},
    ddm::{Ddm, DdmParams},
    eddm::{Eddm, EddmParams},
    hddm::{HddmA, HddmAParams, HddmW, HddmWParams},
    kswin::{Kswin, KswinParams},
    page_hinkley::{PageHinkley, PageHinkleyParams},
};

/// A detector's answer to one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing to be seen.
    #[default]
    None,
    /// It may be changing. ADWIN, Page–Hinkley, and KSWIN never warn.
    Warning,
    /// It has changed.
    Drift,
}

/// Something that watches a stream of numbers for change.
pub trait Detector: fmt::Debug + Send + Sync {
    /// Takes one number. O(1) amortised unless the detector says otherwise.
    fn update(&mut self, x: f64) -> Change;

    /// Forgets everything seen.
    fn reset(&mut self);
}

/// Which changes of a mean count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// A mean that rises, as that of a loss does when a model gets worse.
    Up,
    /// A mean that falls.
    Down,
}

/// The params of any detector, as a plan names them: `{"kind": "adwin", "delta": 0.002}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named for the params that it holds")]
pub enum DetectorParams {
    Adwin(AdwinParams),
    PageHinkley(PageHinkleyParams),
    Ddm(DdmParams),
    Eddm(EddmParams),
    HddmA(HddmAParams),
    HddmW(HddmWParams),
    Kswin(KswinParams),
}

impl Default for DetectorParams {
    fn default() -> Self {
        Self::Adwin(AdwinParams::default())
    }
}

impl DetectorParams {
    /// Checks the params and makes the detector.
    pub fn build(self) -> Result<AnyDetector, ParamError> {
        Ok(match self {
            Self::Adwin(params) => AnyDetector::Adwin(params.build()?),
            Self::PageHinkley(params) => AnyDetector::PageHinkley(params.build()?),
            Self::Ddm(params) => AnyDetector::Ddm(params.build()?),
            Self::Eddm(params) => AnyDetector::Eddm(params.build()?),
            Self::HddmA(params) => AnyDetector::HddmA(params.build()?),
            Self::HddmW(params) => AnyDetector::HddmW(params.build()?),
            Self::Kswin(params) => AnyDetector::Kswin(params.build()?),
        })
    }
}

/// A detector of any kind whose state can be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named for the detector that it holds")]
pub enum AnyDetector {
    Adwin(Adwin),
    PageHinkley(PageHinkley),
    Ddm(Ddm),
    Eddm(Eddm),
    HddmA(HddmA),
    HddmW(HddmW),
    Kswin(Kswin),
}

impl AnyDetector {
    /// Whether a state read from outside is one that [`update`](Detector::update) can go on from:
    /// ask before the first update.
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Adwin(detector) => detector.is_valid(),
            Self::Kswin(detector) => detector.is_valid(),
            _ => true, // The others hold numbers only, any of which will do.
        }
    }

    fn inner(&mut self) -> &mut dyn Detector {
        match self {
            Self::Adwin(detector) => detector,
            Self::PageHinkley(detector) => detector,
            Self::Ddm(detector) => detector,
            Self::Eddm(detector) => detector,
            Self::HddmA(detector) => detector,
            Self::HddmW(detector) => detector,
            Self::Kswin(detector) => detector,
        }
    }
}

impl Detector for AnyDetector {
    fn update(&mut self, x: f64) -> Change {
        self.inner().update(x)
    }

    fn reset(&mut self) {
        self.inner().reset();
    }
}

/// Whether a detector takes `x`: squares of larger numbers would overflow.
fn is_usable(x: f64) -> bool {
    x.abs() <= 1e100
}

/// Checks a probability that must lie strictly between 0 and 1.
fn check_confidence(name: &str, x: f64) -> Result<(), ParamError> {
    ParamError::ensure(0.0 < x && x < 1.0, name, x, "a number between 0 and 1, exclusive")
}

/// A running mean, as River computes it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Mean {
    n: f64,
    mean: f64,
}

impl Mean {
    fn update(&mut self, x: f64) {
        self.n += 1.0;
        self.mean += (x - self.mean) / self.n;
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::river::detected;

    /// Rows at which a detector sees drift, and how many warnings it gives.
    fn run(detector: &mut dyn Detector, stream: &[f64]) -> (Vec<usize>, usize) {
        let (mut drifts, mut warnings) = (Vec::new(), 0);
        for (i, &x) in stream.iter().enumerate() {
            match detector.update(x) {
                Change::None => {}
                Change::Warning => warnings += 1,
                Change::Drift => drifts.push(i),
            }
        }
        (drifts, warnings)
    }

    #[test]
    fn drifts_are_those_of_river() {
        let page_hinkley = |threshold| PageHinkleyParams { threshold, ..Default::default() };
        let cases: [(&str, DetectorParams); 6] = [
            ("page_hinkley_levels", DetectorParams::PageHinkley(page_hinkley(50.0))),
            ("page_hinkley_bits", DetectorParams::PageHinkley(page_hinkley(10.0))),
            ("ddm_bits", DetectorParams::Ddm(DdmParams::default())),
            ("eddm_bits", DetectorParams::Eddm(EddmParams::default())),
            ("hddm_a_bits", DetectorParams::HddmA(HddmAParams::default())),
            ("hddm_w_bits", DetectorParams::HddmW(HddmWParams::default())),
        ];
        for (name, params) in cases {
            let (stream, river) = detected(name);
            let (drifts, warnings) = run(&mut params.build().expect("valid"), &stream);
            assert_eq!(drifts, river.drifts, "{name}");
            assert_eq!(warnings, river.warnings, "{name}");
        }
    }

    /// The defaults of every detector.
    fn all() -> Vec<DetectorParams> {
        ["adwin", "page_hinkley", "ddm", "eddm", "hddm_a", "hddm_w", "kswin"]
            .map(|kind| serde_json::from_str(&format!("{{\"kind\": {kind:?}}}")).expect("a kind"))
            .into()
    }

    #[test]
    fn every_detector_finds_a_rate_that_triples_and_ignores_what_is_no_number() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut bits = |rate: f64, n: usize| -> Vec<f64> {
            (0..n).map(|_| f64::from(rng.random::<f64>() < rate)).collect()
        };
        let stream = [bits(0.2, 2000), bits(0.6, 1000)].concat();
        for params in all() {
            let mut detector = params.build().expect("valid");
            let (drifts, _) = run(&mut detector, &stream);
            assert!(drifts.iter().any(|&i| 2000 <= i), "{params:?}");
            let before = detector.clone();
            let odd = [f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300, -1e300];
            assert_eq!(run(&mut detector, &odd), (vec![], 0), "{params:?}");
            assert_eq!(detector, before, "{params:?}");
        }
    }

    #[test]
    fn a_stored_detector_goes_on_as_one_that_never_was() {
        let (stream, _) = detected("adwin_bits");
        for params in all() {
            let mut detector = params.build().expect("valid");
            drop(run(&mut detector, &stream[..2900]));
            let bytes = postcard::to_stdvec(&detector).expect("writes");
            let mut opened: AnyDetector = postcard::from_bytes(&bytes).expect("reads");
            assert!(opened.is_valid());
            assert_eq!(run(&mut opened, &stream[2900..]), run(&mut detector, &stream[2900..]));
            assert_eq!(opened, detector);
        }
    }
}

//! From raw scores to predictions.

/// What turns the raw scores of a row into its predictions.
///
/// Computed in the precision of the engine that trained the forest, so that predictions equal its
/// own.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Link {
    /// The raw score.
    Identity,
    /// `1 / (1 + exp(-scale * raw))`: the probability of the positive class.
    Sigmoid {
        /// LightGBM's parameter `sigmoid`; 1 elsewhere.
        scale: f64,
    },
    /// `exp(raw) / Σ exp(raw)` over the classes.
    Softmax,
    /// A sigmoid for each class, then divided by their sum.
    OneVsAll {
        /// As in [`Link::Sigmoid`].
        scale: f64,
    },
    /// `exp(raw)`: Poisson, gamma, Tweedie.
    Exp,
}

//! What a configuration costs, what it may cost, and the choice of a cheaper one.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Scored, Tried};
use crate::{error::ParamError, metric::Direction};

/// What a configuration costs, as far as it is known: the slowest fit of its folds, and the mean over the
/// folds of what else there is.
///
/// As the `limits` of a [`TunePlan`](super::TunePlan): what it may cost. One that costs more is not
/// chosen, and the sampler learns that it was no good.
///
/// | field | domain of a limit | what it is |
/// | --- | --- | --- |
/// | `fit_seconds` | > 0 | seconds of a fit, which a limit ends when they are up |
/// | `predict_micros` | > 0 | microseconds that a row takes to predict, among all those of a fold |
/// | `trees` | > 0 | trees of a model, where it has any |
/// | `model_bytes` | > 0 | bytes of a stored model; looked at where the plan asks for it, and on rungs |
///
/// Times depend on the machine and on what else it does, so a search with limits on them does not
/// repeat another exactly.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Cost {
    /// Seconds of a fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit_seconds: Option<f64>,
    /// Microseconds that a row takes to predict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predict_micros: Option<f64>,
    /// Trees of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trees: Option<f64>,
    /// Bytes of a stored model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<f64>,
}

impl Cost {
    /// One of them.
    pub fn get(&self, kind: CostKind) -> Option<f64> {
        match kind {
            CostKind::FitSeconds => self.fit_seconds,
            CostKind::PredictMicros => self.predict_micros,
            CostKind::Trees => self.trees,
            CostKind::ModelBytes => self.model_bytes,
        }
    }

    /// Those that are known, or set.
    pub fn iter(&self) -> impl Iterator<Item = (CostKind, f64)> {
        CostKind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// Each kind's cost as `of` has it.
    pub(super) fn of_each(of: impl Fn(CostKind) -> Option<f64>) -> Self {
        let [fit_seconds, predict_micros, trees, model_bytes] = CostKind::ALL.map(of);
        Self { fit_seconds, predict_micros, trees, model_bytes }
    }

    /// The costs of a part of the rounds; those of the fit stay.
    pub(super) fn in_proportion(self, part: f64) -> Self {
        let scaled = |kind| self.get(kind).map(|cost| cost * part);
        Self { fit_seconds: self.fit_seconds, ..Self::of_each(scaled) }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn check_limits(&self) -> Result<(), ParamError> {
        for (kind, limit) in self.iter() {
            let ok = 0.0 < limit && limit.is_finite();
            ParamError::ensure(ok, format!("limits.{}", kind.name()), limit, "a number above 0")?;
        }
        let seconds = self.fit_seconds.unwrap_or(1.0);
        let ok = Duration::try_from_secs_f64(seconds).is_ok();
        ParamError::ensure(ok, "limits.fit_seconds", seconds, "seconds that can be counted")
    }
}

/// Something that a configuration costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostKind {
    /// Seconds of a fit.
    FitSeconds,
    /// Microseconds that a row takes to predict.
    PredictMicros,
    /// Trees of a model.
    Trees,
    /// Bytes of a stored model.
    ModelBytes,
}

impl CostKind {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::FitSeconds, Self::PredictMicros, Self::Trees, Self::ModelBytes];

    /// As plans and trials spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FitSeconds => "fit_seconds",
            Self::PredictMicros => "predict_micros",
            Self::Trees => "trees",
            Self::ModelBytes => "model_bytes",
        }
    }

    /// What it is counted in.
    fn unit(self) -> &'static str {
        match self {
            Self::FitSeconds => "s a fit",
            Self::PredictMicros => "µs a row",
            Self::Trees => "trees",
            Self::ModelBytes => "bytes",
        }
    }
}

/// Trades a little of the score for less cost: of the configurations that are nearly as good as the
/// best, the cheapest is chosen. The search then says what was traded: [`Trade`].
///
/// | field | default | domain | effect |
/// | --- | --- | --- | --- |
/// | `cost` | | see [`CostKind`] | what is to be low |
/// | `tolerance` | one standard error | ≥ 0 | how much worse than the best is nearly as good: this share of the best's score |
/// | `objective` | `false` | | the cost is a second objective of the search, so that what is cheap is looked for, too |
///
/// The standard error is that of the best's mean over the folds (Breiman, Friedman, Olshen & Stone
/// 1984, "Classification and regression trees", chapter 3). Folds share most of their training rows, so
/// it is a rule of thumb and no test.
///
/// Without `objective` the sampler looks for what is good, and what is cheap is a by-product. With it a
/// part of the trials goes to what is cheap and poor; a configuration whose cost is unknown counts as
/// infinitely dear. It is not for `rungs`, whose trials are promoted by their score, nor for the sampler
/// `cma`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Thrift {
    /// What is to be low.
    pub cost: CostKind,
    /// How much worse than the best is nearly as good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// Whether the search looks for what is cheap, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub objective: bool,
}

impl Thrift {
    /// The cheapest within one standard error of the best.
    pub fn of(cost: CostKind) -> Self {
        Self { cost, tolerance: None, objective: false }
    }

    /// The cheapest within this share of the best's score.
    #[must_use]
    pub fn within(self, tolerance: f64) -> Self {
        Self { tolerance: Some(tolerance), ..self }
    }

    /// The same, but the search looks for what is cheap, too.
    #[must_use]
    pub fn as_objective(self) -> Self {
        Self { objective: true, ..self }
    }

    /// What there is to choose from: of all that was tried, that than which nothing else is both as good
    /// and as cheap. None if nothing was tried. What costs an unknown amount is dearer than all else.
    pub fn trade(self, direction: Direction, tried: &[Tried]) -> Option<Trade> {
        let (cost, loss) = (|t: &Tried| self.of_scored(&t.scored), |t: &Tried| t.loss(direction));
        let mut front: Vec<&Tried> = tried.iter().collect();
        front.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then_with(|| cost(a).total_cmp(&cost(b))));
        let mut least = None;
        front.retain(|t| {
            let is_cheaper = least.is_none_or(|least| cost(t) < least);
            if is_cheaper {
                least = Some(cost(t));
            }
            is_cheaper
        });
        let mut front = front.into_iter().cloned();
        let best = front.next()?;
        let Scored { score, error, .. } = best.scored;
        let slack = self.tolerance.map_or(error, |share| share * score.abs());
        Some(Trade { cost: self.cost, slack, best, cheaper: front.collect() })
    }

    /// What a configuration costs; infinitely much where that is unknown.
    pub fn of_scored(self, scored: &Scored) -> f64 {
        scored.cost.get(self.cost).unwrap_or(f64::INFINITY)
    }

    pub(super) fn check(self) -> Result<(), ParamError> {
        let share = self.tolerance.unwrap_or(0.0);
        let ok = 0.0 <= share && share.is_finite();
        ParamError::ensure(ok, "thrift.tolerance", share, "a finite number ≥ 0")
    }
}

/// What a search with [`Thrift`] chose from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trade {
    /// What was to be low.
    pub cost: CostKind,
    /// How much worse than the best was nearly as good.
    pub slack: f64,
    /// The best configuration; of equals the cheapest.
    pub best: Tried,
    /// The cheaper ones than which no other is both as good and as cheap, the best first and the cheapest
    /// last.
    pub cheaper: Vec<Tried>,
}

impl Trade {
    /// The cheapest that is nearly as good as the best.
    pub fn chosen(&self) -> &Tried {
        let best = self.best.scored.score;
        let is_near = |t: &&Tried| (t.scored.score - best).abs() <= self.slack;
        self.cheaper.iter().take_while(is_near).last().unwrap_or(&self.best)
    }
}

/// For example `0.905 at 80 trees, the cheapest within 0.0104 of the best, 0.912 at 900 trees (trial 3)`.
impl fmt::Display for Trade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |tried: &Tried| {
            let Scored { score, cost, .. } = tried.scored;
            let cost =
                cost.get(self.cost).map_or_else(|| "unknown".to_owned(), |x| short(x).to_string());
            format!("{} at {cost} {}", short(score), self.cost.unit())
        };
        let (chosen, best) = (self.chosen(), &self.best);
        write!(f, "{}, ", at(chosen))?;
        if chosen.trial == best.trial {
            return write!(f, "the best: nothing within {} of it is cheaper", short(self.slack));
        }
        let slack = short(self.slack);
        write!(f, "the cheapest within {slack} of the best, {} (trial {})", at(best), best.trial)
    }
}

/// Five significant digits.
pub(super) fn short(x: f64) -> f64 {
    format!("{x:.4e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        super::{Config, TunePlan},
        *,
    };

    fn tried(trial: u64, score: f64, error: f64, trees: Option<f64>) -> Tried {
        let cost = Cost { trees, ..Cost::default() };
        let config = Config { kind: "linear".to_owned(), params: json!({}) };
        Tried::new(trial, config, Scored { score, error, cost })
    }

    fn chosen(thrift: Thrift, direction: Direction, all: &[Tried]) -> Option<u64> {
        Some(thrift.trade(direction, all)?.chosen().trial)
    }

    #[test]
    fn the_cheapest_that_is_nearly_as_good_is_chosen() {
        let all = [
            tried(0, 0.30, 0.01, Some(900.0)),
            tried(1, 0.305, 0.02, Some(300.0)),
            tried(2, 0.32, 0.0, Some(10.0)),
        ];
        let choose = |thrift: Thrift| chosen(thrift, Direction::Minimize, &all);
        let thrift = Thrift::of(CostKind::Trees);
        assert_eq!(choose(thrift), Some(1), "within one standard error of the best");
        assert_eq!(choose(thrift.within(0.0)), Some(0));
        assert_eq!(choose(thrift.within(0.1)), Some(2));
        assert_eq!(choose(Thrift::of(CostKind::ModelBytes)), Some(0), "unknown costs do not win");
        assert_eq!(chosen(thrift, Direction::Maximize, &all), Some(2), "where more is better");
        assert_eq!(chosen(thrift, Direction::Minimize, &[]), None);
        let endless = [tried(0, f64::INFINITY, f64::NAN, None)];
        assert_eq!(chosen(thrift, Direction::Minimize, &endless), Some(0));
    }

    #[test]
    fn a_trade_says_what_was_chosen_and_what_was_better() {
        let all = [tried(3, 0.912, 0.0104, Some(900.0)), tried(7, 0.905, 0.02, Some(80.0))];
        let trade = |tolerance| {
            let thrift = Thrift { tolerance, ..Thrift::of(CostKind::Trees) };
            thrift.trade(Direction::Maximize, &all).expect("two").to_string()
        };
        let text = "0.905 at 80 trees, the cheapest within 0.0104 of the best, 0.912 at 900 trees (trial 3)";
        assert_eq!(trade(None), text);
        let text = "0.912 at 900 trees, the best: nothing within 0 of it is cheaper";
        assert_eq!(trade(Some(0.0)), text);
    }

    #[test]
    fn a_plan_spells_limits_and_thrift() {
        let read = |text: &str| toml::from_str::<TunePlan>(text);
        let text = "limits = { trees = 80 }\nthrift = { cost = \"trees\", objective = true }";
        let plan = read(text).expect("sound");
        let thrift = Thrift::of(CostKind::Trees).as_objective();
        assert_eq!((plan.limits.trees, plan.thrift), (Some(80.0), Some(thrift)));
        assert_eq!(plan.second_objective(), Some(CostKind::Trees));
        let again = serde_json::to_value(&plan).expect("writes");
        assert_eq!(again["limits"], json!({"trees": 80.0}), "what is not set is left out");
        assert_eq!(again["thrift"], json!({"cost": "trees", "objective": true}));
        assert_eq!(serde_json::from_value::<TunePlan>(again).expect("reads"), plan);
        let error = read("limits = { tree = 80 }").expect_err("misspelt").to_string();
        assert!(error.contains("`tree`"), "{error}");
    }

    #[test]
    fn limits_and_tolerances_are_numbers_above_0() {
        let limited = |edit: fn(&mut Cost)| {
            let mut plan = TunePlan::trials(1);
            edit(&mut plan.limits);
            plan.check().map_err(|e| e.name)
        };
        assert_eq!(limited(|it| it.trees = Some(1.0)), Ok(()));
        assert_eq!(limited(|it| it.trees = Some(0.0)), Err("limits.trees".to_owned()));
        let seconds = || Err("limits.fit_seconds".to_owned());
        assert_eq!(limited(|it| it.fit_seconds = Some(f64::NAN)), seconds());
        assert_eq!(limited(|it| it.fit_seconds = Some(1e300)), seconds());
        let thrift = Some(Thrift::of(CostKind::Trees).within(-0.1));
        let plan = TunePlan::trials(1).with(|plan| plan.thrift = thrift);
        assert_eq!(plan.check().map_err(|e| e.name), Err("thrift.tolerance".to_owned()));
    }

    proptest! {
        #[test]
        fn nothing_on_the_front_is_beaten_and_nothing_off_it_is_not(
            points in prop::collection::vec((0_u8..8, prop::option::of(0_u8..8)), 1..20),
            maximize: bool,
            tolerance in 0.0..2.0,
        ) {
            let direction = if maximize { Direction::Maximize } else { Direction::Minimize };
            let all: Vec<Tried> = (0..)
                .zip(&points)
                .map(|(i, &(score, trees))| tried(i, score.into(), 0.0, trees.map(f64::from)))
                .collect();
            let thrift = Thrift::of(CostKind::Trees).within(tolerance);
            let trade = thrift.trade(direction, &all).expect("not empty");
            let point = |t: &Tried| (t.loss(direction), thrift.of_scored(&t.scored));
            let front = trade.cheaper.iter().map(point);
            let front: Vec<(f64, f64)> =
                std::iter::once(point(&trade.best)).chain(front).collect();
            prop_assert!(front.is_sorted_by(|a, b| a.0 < b.0 && b.1 < a.1), "{front:?}");
            for (loss, cost) in all.iter().map(point) {
                prop_assert!(front.iter().any(|&(l, c)| l <= loss && c <= cost));
                prop_assert!(!front.iter().any(|&(l, c)| loss <= l && cost <= c && (loss, cost) != (l, c)));
            }
            // No other that is near enough is cheaper.
            let (best, chosen) = (point(&trade.best), point(trade.chosen()));
            prop_assert!((chosen.0 - best.0).abs() <= trade.slack);
            let is_near = |p: &(f64, f64)| (p.0 - best.0).abs() <= trade.slack;
            prop_assert!(all.iter().map(point).filter(is_near).all(|p| chosen.1 <= p.1));
        }
    }
}

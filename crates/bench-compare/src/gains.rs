//! What ensembles of LightGBM and XGBoost buy on one data set.
//!
//! Each engine is cross-fitted on the training rows and fitted to all of them; every ensemble is
//! made of these fits. The test rows are looked at once, for the losses that are printed.

use std::{fs, sync::Arc};

use mm::{
    core::{
        BoxLearner, Combiner, CrossFit, Dataset, Error, FitContext, Frame, Matrix, Member, Metric,
        Model, OutOfFold, Params as _, Source, SplitPlan, Splitter as _, TimeSeriesSplit,
        cross_fit, parallel::with_threads,
    },
    ensemble::{
        AverageParams, EnsembleModel, GreedyParams, LinearParams, NnlsParams, Stack, WeightsParams,
    },
    trees::{LightGbmParams, XgBoostParams},
};
use serde_json::{Value, json};

use crate::{Result, roles};

/// A learner with the models of its folds and of all training rows.
struct Fitted {
    name: &'static str,
    out_of_fold: OutOfFold,
    whole: Arc<dyn Model>,
    bag: Arc<dyn Model>,
}

/// `test` is a file with the numbers of the test rows, or `last` for the last fifth in order of
/// time.
pub(crate) fn gains(csv: &str, target: &str, test: &str, ignored: &[&str]) -> Result<Value> {
    let (data, _) = Source::open(csv)?.dataset(&roles(target, ignored))?;
    let (train, test) = split(&data, test)?;
    let metric = Metric::default_for(data.task());
    let plan = if train.frame().times().is_some() {
        SplitPlan::TimeSeries(TimeSeriesSplit::new(5))
    } else {
        SplitPlan::default_for(&train)
    };
    // One thread: threads of an engine that wait for each other starve on a shared machine.
    let ctx = FitContext::seeded(0);
    let folds = plan.split(&train, 0)?;
    let mut fitted = Vec::new();
    for (name, learner) in learners()? {
        let CrossFit { models, out_of_fold, .. } = cross_fit(&learner, &train, &folds, &ctx)?;
        let whole = Arc::from(learner.fit_boxed(&train, &ctx)?);
        let models = models.into_iter().enumerate();
        let bag = EnsembleModel::blend(models.map(|(i, m)| (i.to_string(), Arc::from(m), 1.0)))?;
        fitted.push(Fitted { name, out_of_fold, whole, bag: Arc::new(bag) });
    }
    let loss = |p: &Matrix| metric.score(test.truth(), p);
    let seen = train.take(fitted[0].out_of_fold.rows());
    let singles = fitted.iter().map(|member| {
        let own = loss(&member.whole.predict(test.frame())?)?;
        let bag = loss(&member.bag.predict(test.frame())?)?;
        let known = metric.score(seen.truth(), member.out_of_fold.predictions())?;
        Ok(json!({ "name": member.name, "test": own, "bag": bag, "out_of_fold": known }))
    });
    let singles = singles.collect::<Result<Vec<_>>>()?;
    let members: Vec<Member<'_>> =
        fitted.iter().map(|m| Member::new(m.name, m.out_of_fold.predictions())).collect();
    let combiners: [(&str, Box<dyn Combiner>); 5] = [
        ("mean", Box::new(AverageParams::default())),
        ("greedy", Box::new(GreedyParams::default())),
        ("weights", Box::new(WeightsParams::default())),
        ("nnls", Box::new(NnlsParams::default())),
        ("stack", Box::new(Stack::linear(LinearParams::default())?)),
    ];
    let mut ensembles = serde_json::Map::new();
    for (name, combiner) in combiners {
        let combination = combiner.combine(&members, &seen, metric, &ctx)?;
        let used: Vec<usize> = (0..fitted.len()).filter(|&i| combination.uses(i)).collect();
        let parts = |bags: bool| -> Result<Vec<Matrix>> {
            let model = |m: &Fitted| if bags { Arc::clone(&m.bag) } else { Arc::clone(&m.whole) };
            Ok(fitted
                .iter()
                .map(|m| model(m).predict(test.frame()))
                .collect::<mm::core::Result<_>>()?)
        };
        let mut losses = Vec::new();
        for bags in [false, true] {
            let parts = parts(bags)?;
            losses
                .push(loss(&combination.apply(&parts.iter().collect::<Vec<_>>(), test.frame())?)?);
        }
        let whole = used.iter().map(|&i| Arc::clone(&fitted[i].whole)).collect();
        let model = combination.into_model(whole)?;
        let weights = model.downcast_ref::<EnsembleModel>().and_then(EnsembleModel::weights);
        let used: Vec<&str> = used.iter().map(|&i| fitted[i].name).collect();
        let entry = json!({ "full": losses[0], "bags": losses[1], "of": used, "weights": weights });
        ensembles.insert(name.to_owned(), entry);
    }
    Ok(json!({ "metric": metric.to_string(), "singles": singles, "ensembles": ensembles,
               "overhead": overhead(&fitted, &test)? }))
}

/// Processor time of an ensemble's prediction over that of its members, on one thread: the least of
/// several turns.
fn overhead(fitted: &[Fitted], test: &Dataset) -> Result<f64> {
    let members = fitted.iter().map(|m| (m.name, Arc::clone(&m.whole), 1.0));
    let ensemble = EnsembleModel::blend(members)?;
    let times = with_threads(std::num::NonZeroUsize::MIN, || -> mm::core::Result<(u64, u64)> {
        let (mut alone, mut together) = (u64::MAX, u64::MAX);
        for _ in 0..15 {
            let started = on_processor()?;
            for member in fitted {
                member.whole.predict(test.frame())?;
            }
            let turned = on_processor()?;
            ensemble.predict(test.frame())?;
            alone = alone.min(turned - started);
            together = together.min(on_processor()? - turned);
        }
        Ok((alone, together))
    });
    let (alone, together) = times??;
    Ok(together as f64 / alone as f64)
}

/// Nanoseconds that this thread has run.
fn on_processor() -> mm::core::Result<u64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.ok_or_else(|| Error::data(path, "nanoseconds first", text))
}

fn learners() -> Result<[(&'static str, BoxLearner); 2]> {
    let lightgbm = LightGbmParams::default().with(|p| (p.rounds, p.learning_rate) = (200, 0.1));
    let xgboost = XgBoostParams::default().with(|p| (p.rounds, p.learning_rate) = (200, 0.1));
    Ok([("lightgbm", Box::new(lightgbm.build()?)), ("xgboost", Box::new(xgboost.build()?))])
}

fn split(data: &Dataset, test: &str) -> Result<(Dataset, Dataset)> {
    let n = data.n_rows();
    if test == "last" {
        // The files are in order of time.
        let frame: Frame = data.frame().clone().with_times((0..n as i64).collect())?;
        let data = data.with_frame(frame)?;
        let cut = n * 4 / 5;
        let rows = |from: usize, to: usize| data.take(&(from..to).collect::<Vec<_>>());
        return Ok((rows(0, cut), rows(cut, n)));
    }
    let text = fs::read_to_string(test)?;
    let test: Vec<usize> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let mut is_test = vec![false; n];
    for &row in &test {
        is_test[row] = true;
    }
    let train: Vec<usize> = (0..n).filter(|&row| !is_test[row]).collect();
    Ok((data.take(&train), data.take(&test)))
}

//! What a net of this workspace reaches on a data set, and what weight an ensemble gives it.
//!
//! ```text
//! nets ft|tabm DATA.csv TARGET TEST SEED PARAMS
//! nets ensemble DATA.csv TARGET TEST SEED PARAMS
//! ```
//!
//! `TEST` is a file with the numbers of the test rows. Of the others, each eighth says when to stop,
//! and the one after it chooses weights. `ft` fits an FT-Transformer with `PARAMS`, in JSON, and prints
//! its loss on the test rows: `python/train_net.py` does the same with PyTorch; `tabm` fits TabM.
//! `ensemble`, whose `PARAMS` are an object of both nets' by name, fits them beside LightGBM, XGBoost,
//! and CatBoost, all stopped early by the same rows, and prints what the greedy selection makes of them.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error, fs};

use mm::{
    core::{
        BoxLearner, Dataset, EarlyStopping, FitContext, Learner, Matrix, Member, Metric, Model,
        Params as _, Roles, Source,
    },
    ensemble::GreedyParams,
    transformer::{FitReport, FtTransformerParams, TabmParams},
    trees::{CatBoostParams, LightGbmParams, XgBoostParams},
};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The rows of a data set by their use.
struct Parts {
    train: Dataset,
    stop: Dataset,
    choose: Dataset,
    test: Dataset,
}

/// The nets of an ensemble; what is not given has its defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nets {
    ft_transformer: FtTransformerParams,
    tabm: TabmParams,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, csv, target, test, seed, params] = &arguments[..] else {
        return Err("expected ft|tabm|ensemble DATA.csv TARGET TEST SEED PARAMS".into());
    };
    let (data, _) = Source::open(csv)?.dataset(&Roles::with_target(target))?;
    let (parts, seed) = (parts(&data, test)?, seed.parse()?);
    let line = match what.as_str() {
        "ft" => {
            let learner = serde_json::from_str::<FtTransformerParams>(params)?.build()?;
            let model = learner.fit(&parts.train, &context(&parts, seed))?;
            single(&model, model.report(), &parts.test)?
        }
        "tabm" => {
            let learner = serde_json::from_str::<TabmParams>(params)?.build()?;
            let model = learner.fit(&parts.train, &context(&parts, seed))?;
            single(&model, model.report(), &parts.test)?
        }
        "ensemble" => ensemble(serde_json::from_str(params)?, &parts, seed)?,
        other => return Err(format!("expected ft, tabm, or ensemble, got {other}").into()),
    };
    println!("{line}");
    Ok(())
}

fn parts(data: &Dataset, test: &str) -> Result<Parts> {
    let mut is_test = vec![false; data.n_rows()];
    for line in fs::read_to_string(test)?.lines() {
        is_test[line.trim().parse::<usize>()?] = true;
    }
    let rest: Vec<usize> = (0..data.n_rows()).filter(|&row| !is_test[row]).collect();
    let every = |keep: &dyn Fn(usize) -> bool| -> Dataset {
        let places = rest.iter().enumerate().filter(|(place, _)| keep(place % 8));
        data.take(&places.map(|(_, &row)| row).collect::<Vec<_>>())
    };
    let test: Vec<usize> = (0..data.n_rows()).filter(|&row| is_test[row]).collect();
    Ok(Parts {
        train: every(&|place| place > 1),
        stop: every(&|place| place == 0),
        choose: every(&|place| place == 1),
        test: data.take(&test),
    })
}

fn single(model: &impl Model, report: &FitReport, test: &Dataset) -> Result<Value> {
    let mut line = scores(test, &model.predict(test.frame())?)?;
    line["epochs"] = json!(report.epochs);
    line["best_epoch"] = json!(report.best_epoch);
    Ok(line)
}

fn ensemble(nets: Nets, parts: &Parts, seed: u64) -> Result<Value> {
    let stopping = || Some(EarlyStopping::after(50));
    let learners: [(&str, BoxLearner); 5] = [
        ("ft_transformer", Box::new(nets.ft_transformer.build()?)),
        ("tabm", Box::new(nets.tabm.build()?)),
        ("lightgbm", {
            let params = LightGbmParams::default();
            Box::new(params.with(|p| (p.rounds, p.early_stopping) = (1000, stopping())).build()?)
        }),
        ("xgboost", {
            let params = XgBoostParams::default();
            let edit = |p: &mut XgBoostParams| {
                (p.rounds, p.learning_rate, p.early_stopping) = (1000, 0.1, stopping());
            };
            Box::new(params.with(edit).build()?)
        }),
        ("catboost", {
            let params = CatBoostParams::default();
            Box::new(params.with(|p| (p.rounds, p.early_stopping) = (1000, stopping())).build()?)
        }),
    ];
    let (mut chosen_by, mut tested, mut singles) = (Vec::new(), Vec::new(), serde_json::Map::new());
    for (name, learner) in &learners {
        let model = learner.fit_boxed(&parts.train, &context(parts, seed))?;
        chosen_by.push(model.predict(parts.choose.frame())?);
        tested.push(model.predict(parts.test.frame())?);
        let of = |data, predicted: Option<&Matrix>| predicted.map(|p| scores(data, p)).transpose();
        let both = json!([of(&parts.choose, chosen_by.last())?, of(&parts.test, tested.last())?]);
        singles.insert((*name).to_owned(), both);
    }
    let members: Vec<Member<'_>> =
        learners.iter().zip(&chosen_by).map(|((name, _), p)| Member::new(name, p)).collect();
    let metric = Metric::default_for(parts.choose.task());
    let weights = GreedyParams::default().weights(
        &members,
        &parts.choose,
        metric,
        &FitContext::seeded(seed),
    )?;
    Ok(json!({ "singles": singles, "weights": weights }))
}

fn context(parts: &Parts, seed: u64) -> FitContext<'_> {
    FitContext::seeded(seed).with_validation(&parts.stop)
}

fn scores(data: &Dataset, predicted: &Matrix) -> Result<Value> {
    let metrics = match data.task().n_classes() {
        0 => vec![Metric::Rmse],
        _ => vec![Metric::LogLoss, Metric::Accuracy],
    };
    let score =
        |metric: &Metric| Ok((metric.to_string(), json!(metric.score(data.truth(), predicted)?)));
    metrics.iter().map(score).collect::<Result<serde_json::Map<_, _>>>().map(Value::Object)
}

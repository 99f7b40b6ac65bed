//! What does the whole journey look like? Read a CSV, train LightGBM, XGBoost, and CatBoost, combine
//! them in several ways, compare all on the future, publish the best, open it again, and predict.
//!
//!     cargo run --example quickstart
//!     cargo run --example quickstart -- my.csv --target churned --time signup_date
//!
//! Without arguments: flights out of New York in 2013 (`data/flights`), will they arrive at least 15
//! minutes late? The folds go forward in time, as the flights do.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to whoever runs it"
)]

use std::{env, error::Error, path::PathBuf, process::ExitCode};

use mm::{
    core::{
        Candidate, EnsemblePlan, Event, Metric, Model as _, Orchestrator, Params as _, Plan,
        RegistryPlan, Roles, Signal, Source, Task,
        registry::{CHAMPION, LocalRegistry, Registry as _},
    },
    trees::{CatBoostParams, LightGbmParams, XgBoostParams},
};
use serde_json::json;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprint!("error: {e}");
            let mut link = e.source();
            while let Some(cause) = link {
                eprint!(": {cause}");
                link = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(env::args().skip(1))?;

    let (data, report) = Source::open(&options.file)?.dataset(&options.roles)?;
    println!("{report}");
    println!("{data:?}\n");

    let rounds = options.rounds;
    // Cautious settings: thousands of tail numbers invite either engine to learn them by heart.
    let lightgbm = LightGbmParams::default().with(|p| {
        (p.rounds, p.learning_rate, p.tree.leaves) = (rounds, 0.04, 15);
        (p.categorical.smooth, p.categorical.l2) = (50.0, 50.0);
    });
    let xgboost = XgBoostParams::default().with(|p| {
        (p.rounds, p.learning_rate, p.sampling.columns_per_node) = (rounds, 0.05, 0.3);
        (p.tree.min_hessian_in_leaf, p.penalty.l2) = (40.0, 20.0);
    });
    // In the order of time a flight knows those before it alone.
    let catboost = CatBoostParams::default().with(|p| {
        (p.rounds, p.categorical.in_time) = (rounds, options.roles.time.is_some());
    });
    let registry = env::temp_dir().join("mm-quickstart-registry");
    let boosters = [
        Candidate::new("lightgbm", &lightgbm),
        Candidate::new("xgboost", &xgboost),
        Candidate::new("catboost", &catboost),
    ];
    let candidates = boosters.into_iter().chain(net());
    let plan = Plan::new(candidates).with(|plan| {
        plan.name = "quickstart".to_owned();
        plan.seed = 42;
        plan.ensembles = ensembles(data.task());
        plan.registry = Some(RegistryPlan::new(&registry).with_alias("champion"));
        match data.task() {
            Task::Regression => plan.also = vec![Metric::Mae, Metric::R2],
            Task::Binary(_) => {
                plan.metric = Some(Metric::ROC_AUC);
                plan.also = vec![Metric::LogLoss];
            }
            _ => plan.also = vec![Metric::Accuracy],
        }
    });

    let catalog = mm::catalog();
    let progress = |event: &Event<'_>| {
        if let Event::Fold { candidate, fold, score, fit_seconds } = event {
            println!("{candidate:>10}, fold {fold}: {score:.4} after {fit_seconds:.2} s");
        }
        Signal::Continue
    };
    let outcome = Orchestrator::new(&catalog).with_watcher(&progress).run_on(&plan, &data)?;
    println!("\n{}", outcome.leaderboard);

    if let Some(e) = outcome.publish_error {
        return Err(e.into());
    }
    let published = outcome.published.ok_or("no candidate succeeded")?;
    println!("published version {} in {}", published.number, registry.display());
    let opened = LocalRegistry::open(&registry)?;
    let (champion, version) = opened.open("quickstart", &CHAMPION.into(), &catalog)?;
    let last = data.frame().slice(data.n_rows() - 3, 3);
    let predicted = champion.predict(&last)?;
    println!("the champion (version {}) of the last three rows:", version.number);
    for row in predicted.rows() {
        // Of several classes, the likeliest.
        let likeliest = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        println!("  {:?}: {:.4}", champion.signature().outputs[likeliest], row[likeliest]);
    }
    Ok(())
}

/// A small net, where the build has nets: it errs elsewhere than trees do.
fn net() -> Option<Candidate> {
    #[cfg(feature = "transformer")]
    let net = Some(Candidate::new(
        "tabm",
        &mm::transformer::TabmParams::default().with(|p| {
            (p.members, p.width, p.embedding_width, p.training.epochs) = (8, 64, 8, 6);
        }),
    ));
    #[cfg(not(feature = "transformer"))]
    let net = None;
    net
}

/// Combined in several ways, from the same fits.
fn ensembles(task: &Task) -> Vec<EnsemblePlan> {
    let fixed = json!({ "weights": { "catboost": 0.8, "lightgbm": 0.1, "xgboost": 0.1 } });
    let mut blended = EnsemblePlan::new("average").named("blended 0.8/0.1/0.1").with_params(fixed);
    blended.members = ["catboost", "lightgbm", "xgboost"].map(str::to_owned).to_vec();
    let mut ensembles = vec![
        EnsemblePlan::new("average"),
        blended,
        EnsemblePlan::new("greedy").named("weighted, greedy"),
        EnsemblePlan::new("stack").named("stacked"),
    ];
    if !matches!(task, Task::Regression) {
        ensembles.push(EnsemblePlan::new("vote").named("voting, hard"));
    }
    ensembles
}

struct Options {
    file: PathBuf,
    roles: Roles,
    rounds: usize,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut file, mut target, mut time, mut rounds) = (None, None, None, 150);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--target" => target = Some(value()?),
                "--time" => time = Some(value()?),
                "--rounds" => rounds = value()?.parse()?,
                _ if argument.starts_with("--") => {
                    return Err(format!(
                        "unknown option {argument}; there are --target, --time, --rounds"
                    )
                    .into());
                }
                _ => file = Some(PathBuf::from(argument)),
            }
        }
        let flights =
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights/flights.csv"));
        let roles = match target {
            Some(target) => Roles::with_target(target).with(|roles| roles.time = time),
            None => Roles::with_target("late15").with(|roles| {
                roles.time = Some("scheduled".to_owned());
                roles.ignore = vec!["arr_delay".to_owned()]; // Known too late.
            }),
        };
        Ok(Self { file: file.unwrap_or_else(flights), roles, rounds })
    }
}

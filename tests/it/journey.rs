//! From a plan over both engines to a served champion, on the shipped flights.

use std::{fs, path::PathBuf};

use mm::{
    core::{
        Candidate, EnsemblePlan, Metric, Orchestrator, Outcome, Params as _, Plan, RegistryPlan,
        Status,
        registry::{CHAMPION, LocalRegistry, Registry as _},
    },
    trees::{LightGbmParams, XgBoostParams},
};

use crate::flights;

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn plan() -> Plan {
    let lightgbm = LightGbmParams::default().with(|p| (p.rounds, p.learning_rate) = (40, 0.05));
    let xgboost = XgBoostParams::default().with(|p| {
        (p.rounds, p.learning_rate) = (40, 0.05);
        p.tree.min_hessian_in_leaf = 10.0;
    });
    Plan::new([Candidate::new("lightgbm", &lightgbm), Candidate::new("xgboost", &xgboost)]).with(
        |p| {
            p.name = "flights".to_owned();
            p.seed = 42;
            p.metric = Some(Metric::ROC_AUC);
            p.also = vec![Metric::LogLoss];
            p.ensembles = vec![EnsemblePlan::new("average")];
            p.budget.threads = Some(2);
        },
    )
}

fn run(plan: &Plan, data: &mm::core::Dataset) -> Outcome {
    let catalog = mm::catalog();
    let outcome = Orchestrator::new(&catalog).run_on(plan, data);
    outcome.unwrap_or_else(|e| panic!("the run ends normally: {}", e.chain()))
}

#[test]
fn both_engines_and_their_average_are_compared_published_and_served() {
    let (data, folder) = (flights(5), scratch("journey"));
    let plan = plan().with(|p| p.registry = Some(RegistryPlan::new(&folder).with_alias(CHAMPION)));
    let outcome = run(&plan, &data);
    let board = &outcome.leaderboard;
    for name in ["lightgbm", "xgboost", "average"] {
        let entry = board.entry(name).expect("listed");
        assert_eq!(entry.status, Status::Done);
        let score = entry.score.as_ref().expect("scored");
        assert_eq!(score.folds.len(), outcome.folds.len());
        assert!(0.5 < score.mean && score.mean < 0.9, "{name}: {}", score.mean);
        assert!(entry.bytes.is_some() && 0.0 < entry.fit_seconds);
    }
    assert!(
        board.prior.as_ref().is_some_and(|prior| prior.mean == 0.5),
        "a constant ranks nothing"
    );
    let forward = |fold: &mm::core::Fold| fold.train.last() < fold.test.first();
    assert!(outcome.folds.iter().all(forward), "data with timestamps are parted forward in time");

    // The average's predictions are the mean of its members'.
    let x = data.frame();
    let predict = |name: &str| outcome.model(name).expect("fitted").predict(x).expect("predicts");
    let (a, b, mean) = (predict("lightgbm"), predict("xgboost"), predict("average"));
    let expected = a.values().iter().zip(b.values()).map(|(a, b)| 0.5 * a + 0.5 * b);
    assert!(mean.values().iter().copied().eq(expected));

    let version = outcome.published.as_ref().expect("published");
    let registry = LocalRegistry::open(&folder).expect("opens");
    let (champion, opened) =
        registry.open("flights", &CHAMPION.into(), &mm::catalog()).expect("opens");
    assert_eq!(opened.number, version.number);
    let (name, best) = outcome.best().expect("there is one");
    assert_eq!(opened.tags["candidate"], name);
    assert_eq!(champion.predict(x).expect("predicts"), best.predict(x).expect("predicts"));
    assert_eq!(opened.lineage.data.as_deref(), Some(data.fingerprint().as_str()));
    let text = opened.lineage.plan.as_deref().expect("the plan is kept");
    let again: Plan = text.parse().expect("the kept plan is a plan");
    let outcome = run(&again, &data);
    let (_, best) = outcome.best().expect("there is one");
    let same = best.predict(x).expect("predicts") == champion.predict(x).expect("predicts");
    assert!(same, "the kept plan makes the kept model again");
    let history = registry.alias_history("flights", CHAMPION).expect("reads");
    assert_eq!(history.iter().map(|entry| entry.to).collect::<Vec<_>>(), [Some(1), Some(2)]);
    registry.rollback("flights", CHAMPION, "test", "try").expect("rolls back");
    let now = registry.alias("flights", CHAMPION).expect("reads").and_then(|entry| entry.to);
    assert_eq!(now, Some(1));
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn one_thread_and_two_give_the_same_run() {
    let data = flights(12);
    let essence = |threads| {
        let outcome = run(&plan().with(|p| p.budget.threads = Some(threads)), &data);
        let model = |(name, m): &(String, std::sync::Arc<dyn mm::core::Model>)| {
            (name.clone(), m.to_envelope().expect("seals").into_bytes())
        };
        (outcome.out_of_fold.clone(), outcome.models.iter().map(model).collect::<Vec<_>>())
    };
    let (one, two) = (essence(1), essence(2));
    assert!(one.0 == two.0, "the same predictions out of fold");
    assert!(one.1 == two.1, "the same models, to the byte");
}

#[test]
fn early_stopping_watches_the_latest_training_rows() {
    let lightgbm = serde_json::json!({
        "rounds": 400, "learning_rate": 0.2,
        "early_stopping": { "rounds": 5, "metric": "roc_auc" },
    });
    let text = "[[candidates]]\nkind = \"lightgbm\"\n[[candidates]]\nkind = \"xgboost\"";
    let mut plan: Plan = text.parse().expect("a plan");
    plan.candidates[0].params = lightgbm.clone();
    plan.candidates[1].params = lightgbm;
    plan.validation = Some(0.2);
    let outcome = run(&plan, &flights(5));
    for name in ["lightgbm", "xgboost"] {
        let status = &outcome.leaderboard.entry(name).expect("listed").status;
        assert_eq!(*status, Status::Done);
    }
    let model = &**outcome.model("lightgbm").expect("fitted");
    let trees = model.downcast_ref::<mm::trees::LightGbmModel>().expect("its type").n_trees();
    assert!((1..100).contains(&trees), "{trees} trees of 400");
}

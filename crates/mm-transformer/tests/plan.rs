//! Nets as candidates of a plan: named by kind, fitted on folds, called off and gone on with.

use std::{env, fs, process};

use mm_core::{
    Cancel, Candidate, Catalog, Dataset, Error, Event, Frame, Metric, Orchestrator, Params as _,
    Plan, Signal, Status,
};
use mm_transformer::{FtTransformerParams, TabmParams, TrainingParams};

fn brief(training: &mut TrainingParams) {
    (training.epochs, training.batch_size, training.learning_rate) = (12, 32, 0.01);
}

/// Whether two numbers have the same sign.
fn same_sign() -> Dataset {
    let x: Vec<f32> = (0..480).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let labels: Vec<&str> =
        x.chunks(2).map(|x| if 0.0 < x[0] * x[1] { "same" } else { "other" }).collect();
    Dataset::classification(Frame::new(x, 2).expect("valid"), &labels).expect("valid")
}

#[test]
fn a_plan_compares_nets_on_the_same_folds() {
    let data = same_sign();
    let ft = FtTransformerParams::default().with(|p| {
        (p.width, p.heads, p.blocks) = (16, 2, 1);
        brief(&mut p.training);
    });
    let tabm = TabmParams::default().with(|p| {
        (p.members, p.width) = (4, 32);
        brief(&mut p.training);
    });
    let plan = Plan::new([Candidate::new("ft_transformer", &ft), Candidate::new("tabm", &tabm)]);
    let plan = plan.with(|p| {
        p.metric = Some(Metric::ROC_AUC);
        p.budget.threads = Some(2);
    });
    let catalog = mm_transformer::register(Catalog::default());
    let outcome = Orchestrator::new(&catalog).run_on(&plan, &data);
    let outcome = outcome.unwrap_or_else(|e| panic!("runs: {}", e.chain()));
    for name in ["ft_transformer", "tabm"] {
        let entry = outcome.leaderboard.entry(name).expect("listed");
        assert_eq!(entry.status, Status::Done, "{name}");
        let score = entry.score.as_ref().expect("scored").mean;
        assert!(0.8 < score, "{name}: a linear model has 0.5, this one {score}");
    }
}

#[test]
fn a_plan_that_was_called_off_in_an_epoch_goes_on_to_the_same_model() {
    let data = same_sign();
    let tabm = TabmParams::default().with(|p| {
        (p.members, p.width) = (4, 32);
        brief(&mut p.training);
    });
    let whole = Plan::new([Candidate::new("tabm", &tabm)]).with(|p| p.budget.threads = Some(1));
    let folder = env::temp_dir().join(format!("mm-net-plan-{}", process::id()));
    let plan = whole.clone().with(|p| p.checkpoint = Some(folder.clone()));
    let n_snapshots = || {
        let paths =
            fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("one").path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "snapshot")).count()
    };
    let catalog = mm_transformer::register(Catalog::default());
    let cancel = Cancel::default();
    let calls_off = |event: &Event<'_>| {
        if matches!(event, Event::Step { fold: Some(1), step, .. } if step.iteration == 5) {
            cancel.cancel();
        }
        Signal::Continue
    };
    let orchestrator = Orchestrator::new(&catalog);
    let stopped = orchestrator.with_watcher(&calls_off).with_cancel(&cancel).run_on(&plan, &data);
    assert!(matches!(stopped.expect_err("is called off").root(), Error::Cancelled));
    assert_eq!(n_snapshots(), 1, "the state of the fit that was under way");

    let [resumed, whole] = [plan, whole].map(|plan| {
        let outcome = Orchestrator::new(&catalog).run_on(&plan, &data).expect("runs");
        let model = outcome.model("tabm").expect("was fitted").to_envelope().expect("seals");
        let scores = outcome.leaderboard.entry("tabm").expect("listed").score.clone();
        (model.into_bytes(), scores)
    });
    assert_eq!(n_snapshots(), 0, "what is done is cleared");
    fs::remove_dir_all(&folder).expect("removes");
    assert_eq!(resumed, whole);
}

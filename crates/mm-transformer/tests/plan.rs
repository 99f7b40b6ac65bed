//! Nets as candidates of a plan: named by kind, fitted on folds, blended, opened again.

use mm_core::{
    Candidate, Catalog, Dataset, Frame, Metric, Orchestrator, Params as _, Plan, Status,
};
use mm_transformer::{FtTransformerParams, TabmParams, TrainingParams};

fn brief(training: &mut TrainingParams) {
    (training.epochs, training.batch_size, training.learning_rate) = (12, 32, 0.01);
}

#[test]
fn a_plan_compares_nets_on_the_same_folds() {
    let x: Vec<f32> = (0..480).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let labels: Vec<&str> =
        x.chunks(2).map(|x| if 0.0 < x[0] * x[1] { "same" } else { "other" }).collect();
    let data = Dataset::classification(Frame::new(x, 2).expect("valid"), &labels).expect("valid");
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

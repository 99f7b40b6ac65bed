//! A device whose memory does not do, and numbers that overflow.

use burn::tensor::{Tensor, activation::relu};
use mm_core::{FitContext, Learner as _, Model as _, ParamError, Params, Result, Tag};
use serde::{Deserialize, Serialize};

use super::{same_sign, small_ft, small_sequence, small_tabm};
use crate::{
    NetLearner, Scaling, TabmParams, TrainingParams,
    net::{Architecture, Net},
    nn::pass::Pass,
    prepare::{Batch, Inputs},
    tabm::TabmNet,
    tokens::Tokens,
    weights::{Init, Role, Scope},
};

/// TabM on a device that has memory for so many rows at once, and says otherwise what Burn says; its
/// scores may overflow once a bias of theirs has left ±0.3.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct FragileParams {
    inner: TabmParams,
    most_rows: usize,
    overflows: bool,
}

#[derive(Debug)]
struct FragileNet {
    inner: TabmNet,
    most_rows: usize,
    /// (1), if it overflows.
    bias: Option<Tensor<1>>,
}

impl Params for FragileParams {
    type Learner = NetLearner<Self>;

    fn build(self) -> Result<NetLearner<Self>, ParamError> {
        Ok(NetLearner::from_checked(self))
    }
}

impl Net for FragileNet {
    fn tokens(&self) -> Option<&Tokens> {
        self.inner.tokens()
    }

    fn begin(&self, batch: &Batch) -> Vec<Tensor<3>> {
        assert!(batch.rows <= self.most_rows, "can't allocate buffer: out of memory");
        self.inner.begin(batch)
    }

    fn n_stages(&self) -> usize {
        self.inner.n_stages()
    }

    fn stage(&self, i: usize, x: Vec<Tensor<3>>, batch: &Batch, pass: &Pass) -> Vec<Tensor<3>> {
        self.inner.stage(i, x, batch, pass)
    }

    fn end(&self, x: Vec<Tensor<3>>) -> Tensor<3> {
        let scores = self.inner.end(x);
        let Some(bias) = &self.bias else { return scores };
        let beyond = relu(bias.clone().abs() - 0.3) * 1e38 * 1e38;
        scores + (bias.clone() + beyond).unsqueeze()
    }
}

impl Architecture for FragileParams {
    type Net = FragileNet;

    const NAME: &'static str = "fragile";
    const TAG: Tag = Tag::new("mm.fragile", 1);

    fn net(&self, scope: &Scope<'_>, inputs: &Inputs) -> Result<FragileNet> {
        let inner = self.inner.net(scope, inputs)?;
        let bias = || scope.param("more", [1], Role::Free, Init::Zeros);
        let bias = self.overflows.then(bias).transpose()?;
        Ok(FragileNet { inner, most_rows: self.most_rows, bias })
    }

    fn blocks(&self) -> usize {
        self.inner.blocks
    }

    fn bins(&self) -> Option<usize> {
        self.inner.bins()
    }

    fn scaling(&self) -> Scaling {
        self.inner.scaling()
    }

    fn training(&self) -> &TrainingParams {
        self.inner.training()
    }

    fn numbers_a_row(&self, inputs: &Inputs) -> usize {
        self.inner.numbers_a_row(inputs)
    }
}

fn fragile(most_rows: usize, micro_batch: usize) -> NetLearner<FragileParams> {
    let inner = small_tabm(|p| {
        (p.training.epochs, p.training.batch_size) = (3, 50);
        (p.training.micro_batch, p.training.hide) = (Some(micro_batch), 0.1);
    });
    let inner = inner.params().clone();
    FragileParams { inner, most_rows, overflows: false }.build().expect("valid")
}

#[test]
fn pieces_are_halved_until_they_fit_and_the_fit_is_the_same() {
    let data = same_sign(100);
    let ctx = FitContext::seeded(5);
    let ctx = ctx.with_threads(2).with_validation(&data);
    let fit = |most_rows, micro_batch| {
        let model = fragile(most_rows, micro_batch).fit(&data, &ctx).expect("fits");
        let predicted = model.predict(data.frame()).expect("predicts").into_values();
        (predicted, model.report().clone())
    };
    // 50, 25, 12, 6.
    let halved = fit(7, 50);
    assert_eq!(
        halved,
        fit(1000, 6),
        "the fit of pieces that were small from the start, to the bit"
    );
    for (a, b) in halved.0.iter().zip(&fit(1000, 50).0) {
        // Sums of gradients in f32 in another order, over six steps.
        assert!((a - b).abs() < 1e-4, "{a} against {b}, of whole batches");
    }
}

#[test]
fn a_device_without_memory_for_a_row_is_an_error() {
    let error = fragile(0, 50).fit(&same_sign(100), &FitContext::seeded(5)).expect_err("no memory");
    assert!(error.chain().contains("out of memory"), "{}", error.chain());
}

#[test]
fn a_limit_on_memory_makes_smaller_pieces_and_the_same_fit_whatever_the_threads() {
    let data = same_sign(100);
    let learner = |memory: Option<usize>| {
        small_tabm(|p| {
            (p.training.batch_size, p.training.micro_batch) = (50, Some(50));
            p.training.memory = memory;
        })
    };
    let free = learner(None).memory(&data, 1).expect("an estimate");
    let tight = free - 60_000; // Half of what lies between the layers for 50 rows, and more.
    let fit = |learner: &crate::Tabm, threads| {
        let ctx = FitContext::seeded(5).with_threads(threads);
        learner.fit(&data, &ctx).expect("fits").predict(data.frame()).expect("predicts")
    };
    let limited = learner(Some(tight));
    for threads in 1..4 {
        assert!(limited.memory(&data, threads).expect("an estimate") <= tight);
        assert_eq!(fit(&limited, threads), fit(&limited, 1), "{threads} threads");
    }
    for (a, b) in fit(&limited, 1).values().iter().zip(fit(&learner(None), 1).values()) {
        assert!((a - b).abs() < 1e-4, "{a} against {b}, without a limit");
    }
    let error = learner(Some(1000)).fit(&data, &FitContext::seeded(5)).expect_err("too little");
    assert!(error.to_string().starts_with("training.memory: expected at least"), "{error}");
    assert!(error.to_string().ends_with("got 1000"), "{error}");
}

/// With a learning rate that rises until the net overflows, after epochs in which it does not.
#[test]
fn a_fit_that_diverges_gives_the_best_before_or_names_the_epoch() {
    let data = same_sign(200);
    let inner = small_tabm(|p| {
        (p.training.epochs, p.training.early_stopping) = (60, None);
        (p.training.learning_rate, p.training.warm_up) = (1.0, 0.99);
    });
    let inner = inner.params().clone();
    let learner = FragileParams { inner, most_rows: 1000, overflows: true };
    let learner = learner.build().expect("valid");
    let ctx = FitContext::seeded(3);
    let held_out = ctx.with_validation(&data);
    let model = learner.fit(&data, &held_out).expect("the best before");
    let report = model.report();
    let epoch = report.diverged_in.unwrap_or_else(|| panic!("diverges: {report:?}"));
    assert!(1 < epoch && report.epochs == epoch - 1, "{report:?}");
    assert!(1 <= report.best_epoch && report.best_epoch < epoch, "{report:?}");
    let score = report.scores[report.best_epoch - 1];
    assert!(report.scores.iter().all(|&other| score <= other), "{report:?}");
    let metric = mm_core::Metric::default_for(data.task());
    let predicted = model.predict(data.frame()).expect("predicts");
    let again = metric.score(data.truth(), &predicted).expect("scores");
    // A pass of one row and one of many round their sums in another order.
    assert!((again - score).abs() < 1e-6, "{again} against {score}");
    let error = learner.fit(&data, &ctx).expect_err("nobody could tell whether it is any good");
    let named = format!("loss in epoch {epoch}: expected a finite number");
    assert!(error.to_string().starts_with(&named), "{error}, expected epoch {epoch}");
}

#[test]
fn blocks_that_are_computed_once_more_give_the_same_fit_to_the_bit() {
    let data = same_sign(100);
    let ctx = FitContext::seeded(5);
    let ft = |recompute| {
        let learner = small_ft(|p| {
            (p.blocks, p.residual_dropout, p.training.hide) = (3, 0.1, 0.1);
            p.training.recompute = recompute;
        });
        learner.fit(&data, &ctx).expect("fits").to_safetensors().expect("writes")
    };
    assert_eq!(ft(true), ft(false));
    let tabm = |recompute| {
        let learner = small_tabm(|p| (p.blocks, p.training.recompute) = (3, recompute));
        learner.fit(&data, &ctx).expect("fits").to_safetensors().expect("writes")
    };
    assert_eq!(tabm(true), tabm(false));
    let frame = data.frame().clone().with_times((0..100).collect()).expect("length");
    let series = data.with_frame(frame).expect("length");
    let sequence = |recompute, instance_norm| {
        let learner = small_sequence(|p| {
            (p.blocks, p.instance_norm, p.training.recompute) = (2, instance_norm, recompute);
        });
        learner.fit(&series, &ctx).expect("fits").to_safetensors().expect("writes")
    };
    for instance_norm in [false, true] {
        assert_eq!(sequence(true, instance_norm), sequence(false, instance_norm));
    }
}

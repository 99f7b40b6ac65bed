//! That nets learn, and what changes a fit and what does not.

use std::sync::Mutex;

use mm_core::{
    Dataset, EarlyStopping, FitContext, Frame, Learner, Matrix, Metric, Model as _, Output, Signal,
    Step, Task,
};

use super::{same_sign, small_ft, small_tabm, square};
use crate::{
    Device, FtTransformerParams, Objective, Precision, Storage, TabmParams, TrainingParams,
};

fn score<L: Learner>(learner: &L, train: &Dataset, test: &Dataset, metric: Metric) -> f64 {
    let model = learner.fit(train, &FitContext::seeded(3)).expect("fits");
    metric.score(test.truth(), &model.predict(test.frame()).expect("predicts")).expect("scores")
}

fn longer(p: &mut TrainingParams) {
    (p.epochs, p.learning_rate) = (25, 0.005);
}

fn parts(data: &Dataset) -> (Dataset, Dataset) {
    let (first, last): (Vec<usize>, Vec<usize>) = (0..data.n_rows()).partition(|i| i % 4 != 0);
    (data.take(&first), data.take(&last))
}

#[test]
fn nets_learn_what_no_linear_model_can() {
    let (train, test) = parts(&same_sign(400));
    let ft = small_ft(|p| longer(&mut p.training));
    let right = score(&ft, &train, &test, Metric::Accuracy);
    assert!(0.9 < right, "a linear model has 0.5, the FT-Transformer {right}");
    let tabm = small_tabm(|p| longer(&mut p.training));
    let right = score(&tabm, &train, &test, Metric::Accuracy);
    assert!(0.9 < right, "a linear model has 0.5, TabM {right}");
}

#[test]
fn more_classes_are_learnt_with_smoothing_and_with_focus() {
    let (x, y) = square(400, |a, b| f64::from(u8::from(0.0 < a)) + f64::from(u8::from(0.0 < b)));
    let data = Dataset::new(x, Task::classes(["0", "1", "2"]).expect("three"), y).expect("valid");
    let (train, test) = parts(&data);
    for (smoothing, focus) in [(0.1, 0.0), (0.0, 1.0)] {
        let learner = small_tabm(|p| {
            longer(&mut p.training);
            (p.training.label_smoothing, p.training.focus) = (smoothing, focus);
        });
        let accuracy = score(&learner, &train, &test, Metric::Accuracy);
        assert!(0.9 < accuracy, "half the rows are of class 1; right are {accuracy}");
    }
}

#[test]
fn quantiles_cover_what_they_say() {
    // Uniform noise in ±1, whose quantiles are known.
    let (x, y) = square(800, |_, b| f64::from(b));
    let x: Vec<f32> = x.rows().map(|row| row[0]).collect();
    let data = Dataset::regression(Frame::new(x, 1).expect("valid"), y).expect("valid");
    let learner = small_ft(|p| {
        longer(&mut p.training);
        p.training.objective = Objective::Quantiles { levels: vec![0.1, 0.5, 0.9] };
    });
    let (train, test) = parts(&data);
    let ctx = FitContext::seeded(1);
    let model = learner.fit(&train, &ctx.with_validation(&test)).expect("fits");
    assert_eq!(model.signature().outputs, [0.1, 0.5, 0.9].map(Output::Quantile));
    let predicted = model.predict(test.frame()).expect("predicts");
    for row in predicted.rows() {
        for (q, expected) in row.iter().zip([-0.8, 0.0, 0.8]) {
            assert!((q - expected).abs() < 0.25, "{row:?}");
        }
        assert!(row[0] <= row[1] && row[1] <= row[2]);
    }
}

#[test]
fn pieces_of_another_size_change_a_fit_by_roundings_alone() {
    let data = same_sign(100);
    let fit = |micro_batch: usize| {
        let learner = small_ft(|p| {
            (p.training.batch_size, p.training.micro_batch) = (50, Some(micro_batch));
            p.training.hide = 0.1;
        });
        let model = learner.fit(&data, &FitContext::seeded(5)).expect("fits");
        model.predict(data.frame()).expect("predicts").into_values()
    };
    let whole = fit(50);
    for micro_batch in [1, 7, 25] {
        for (a, b) in fit(micro_batch).iter().zip(&whole) {
            // Sums of gradients in f32 in another order, over four steps.
            assert!((a - b).abs() < 1e-4, "{micro_batch} rows at once: {a} against {b}");
        }
    }
}

#[test]
fn a_fit_with_products_of_16_bits_learns_as_much_and_does_not_depend_on_threads() {
    let (train, test) = parts(&same_sign(400));
    let fit = |precision, threads| {
        let learner = small_ft(|p| {
            longer(&mut p.training);
            p.training.precision = precision;
        });
        let ctx = FitContext::seeded(3);
        let model = learner.fit(&train, &ctx.with_threads(threads)).expect("fits");
        model.predict(test.frame()).expect("predicts")
    };
    let right = |y: &Matrix| Metric::Accuracy.score(test.truth(), y).expect("scores");
    let (whole, half) = (fit(Precision::F32, 1), fit(Precision::Bf16, 1));
    assert_ne!(whole, half, "products are rounded");
    assert!(0.9 < right(&half), "a linear model has 0.5, this one {}", right(&half));
    assert_eq!(fit(Precision::Bf16, 3), half);
}

#[test]
fn several_devices_share_a_batch_and_give_the_fit_of_one() {
    let (train, test) = parts(&same_sign(200));
    let fit = |more: &[Device], threads| {
        let learner = small_ft(|p| {
            (p.training.more_devices, p.training.average) = (more.to_vec(), 0.9);
            (p.training.batch_size, p.training.micro_batch) = (50, Some(8));
        });
        let ctx = FitContext::seeded(5);
        let ctx = ctx.with_threads(threads).with_validation(&test);
        let model = learner.fit(&train, &ctx).expect("fits");
        (model.predict(test.frame()).expect("predicts"), model.report().clone())
    };
    let one = fit(&[], 1);
    for n in 1..4 {
        for threads in [1, 4] {
            assert_eq!(fit(&vec![Device::Cpu; n], threads), one, "{n} more, {threads} threads");
        }
    }
    let absent = small_ft(|p| p.training.more_devices = vec![Device::Cpu, Device::Cuda(77)]);
    let error = absent.fit(&train, &FitContext::seeded(5)).expect_err("is not there");
    assert!(error.to_string().starts_with("device: expected one of cpu"), "{error}");
    assert!(error.to_string().ends_with("got cuda:77"), "{error}");
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let data = same_sign(100);
    let fit = |threads: usize| {
        let edit = |p: &mut TrainingParams| {
            (p.batch_size, p.micro_batch) = (50, Some(7));
        };
        let ctx = FitContext::seeded(5).with_threads(threads);
        let ft = small_ft(|p| edit(&mut p.training)).fit(&data, &ctx).expect("fits");
        let tabm = small_tabm(|p| edit(&mut p.training)).fit(&data, &ctx).expect("fits");
        [ft.to_safetensors(), tabm.to_safetensors()].map(|weights| weights.expect("writes"))
    };
    let one = fit(1);
    for threads in [2, 4] {
        assert_eq!(fit(threads), one, "{threads} threads");
    }
}

#[test]
fn another_seed_gives_another_model() {
    let data = same_sign(60);
    let fit = |seed| {
        let model = small_tabm(|_| {}).fit(&data, &FitContext::seeded(seed)).expect("fits");
        model.predict(data.frame()).expect("predicts")
    };
    assert_ne!(fit(1), fit(2));
}

#[test]
fn two_fits_at_once_are_each_as_if_alone() {
    let data = same_sign(60);
    let fit = |seed| {
        let model = small_ft(|_| {}).fit(&data, &FitContext::seeded(seed)).expect("fits");
        model.predict(data.frame()).expect("predicts")
    };
    let alone = [fit(1), fit(2)];
    let both = std::thread::scope(|scope| {
        let threads = [1, 2].map(|seed| scope.spawn(move || fit(seed)));
        threads.map(|thread| thread.join().expect("fits"))
    });
    assert_eq!(both, alone);
}

#[test]
fn the_best_epoch_is_taken_and_patience_ends() {
    let (train, test) = parts(&same_sign(120));
    let learner = small_tabm(|p| {
        // So fast that it gets worse again.
        (p.training.epochs, p.training.learning_rate, p.training.cosine) = (200, 0.05, false);
        p.training.early_stopping = Some(EarlyStopping::after(5));
    });
    let heard = Mutex::new(Vec::new());
    let observer = |step: &Step<'_>| {
        heard.lock().expect("not poisoned").push((step.iteration, step.metrics[0].1));
        Signal::Continue
    };
    let ctx = FitContext::seeded(2);
    let ctx = ctx.with_validation(&test).with_observer(&observer);
    let model = learner.fit(&train, &ctx).expect("fits");
    let report = model.report();
    assert_eq!(report.epochs, report.best_epoch + 5, "{report:?}");
    let best = report.scores[report.best_epoch - 1];
    assert!(report.scores.iter().all(|&score| best <= score));
    let predicted = model.predict(test.frame()).expect("predicts");
    let metric = Metric::default_for(test.task());
    let score = metric.score(test.truth(), &predicted).expect("scores");
    // A pass of one row and one of many round their sums in another order.
    assert!((score - best).abs() < 1e-6, "{score} against {best}");
    let steps: Vec<(usize, f64)> = (1..).zip(report.scores.iter().copied()).collect();
    assert_eq!(*heard.lock().expect("not poisoned"), steps);
}

#[test]
fn an_observer_that_stops_gets_the_model_so_far() {
    let data = same_sign(60);
    let stop = |step: &Step<'_>| if step.iteration == 1 { Signal::Stop } else { Signal::Continue };
    let ctx = FitContext::seeded(0);
    let model = small_ft(|_| {}).fit(&data, &ctx.with_observer(&stop)).expect("fits");
    assert_eq!(model.report().epochs, 1);
}

#[test]
fn a_batch_larger_than_the_data_is_the_data() {
    let data = same_sign(20);
    let fit = |batch| {
        let learner = small_ft(|p| p.training.batch_size = batch);
        learner.fit(&data, &FitContext::seeded(0)).expect("fits").predict(data.frame())
    };
    assert_eq!(fit(1000).expect("predicts"), fit(20).expect("predicts"));
}

#[test]
fn a_fit_goes_on_from_a_model() {
    let data = same_sign(200);
    let learner = small_tabm(|p| longer(&mut p.training));
    let ctx = FitContext::seeded(0);
    let first = learner.fit(&data, &ctx).expect("fits");
    let loss = |report: &crate::FitReport| report.losses[0];
    let warm = learner.as_warm_start().expect("has it").fit_from(&first, &data, &ctx);
    let warm = warm.expect("goes on");
    let warm: &crate::TabmModel = warm.downcast_ref().expect("of the same kind");
    assert!(loss(warm.report()) < 0.5 * loss(first.report()), "it begins where the first ended");
    let (x, y) = square(20, |a, _| f64::from(a));
    let other = Dataset::regression(x, y).expect("valid");
    let refused = learner.as_warm_start().expect("has it").fit_from(&first, &other, &ctx);
    assert!(refused.expect_err("another task").to_string().contains("to continue from"));
}

#[test]
fn half_precision_halves_a_model_and_changes_little() {
    let data = same_sign(60);
    let ctx = FitContext::seeded(0);
    let full = small_ft(|_| {}).fit(&data, &ctx).expect("fits");
    let half = small_ft(|_| {}).with_storage(Storage::Bf16).fit(&data, &ctx).expect("fits");
    let bytes = |model: &crate::FtTransformerModel| model.to_safetensors().expect("writes").len();
    // What is left is the list of names and places.
    let list = bytes(&half) - 2 * half.n_weights();
    assert!(bytes(&full) - 4 * full.n_weights() < list + 1000 && list < 20_000, "{list}");
    assert!(bytes(&half) < bytes(&full));
    let [a, b] = [&full, &half].map(|model| model.predict(data.frame()).expect("predicts"));
    for (a, b) in a.values().iter().zip(b.values()) {
        // Weights are off by 2⁻⁹ of themselves at most, and a score is a few of them.
        assert!((a - b).abs() < 0.02, "{a} against {b}");
    }
    let opened = super::catalog().open(half.to_envelope().expect("seals").as_bytes());
    assert_eq!(opened.expect("opens").predict(data.frame()).expect("predicts"), b);
}

#[test]
fn attention_looks_at_the_columns_that_matter_and_shares_add_up() {
    let data = same_sign(60);
    let model = small_ft(|_| {}).fit(&data, &FitContext::seeded(0)).expect("fits");
    let shares = model.attention(data.frame()).expect("works").expect("has attention");
    assert_eq!((shares.n_rows(), shares.n_cols()), (60, 2));
    for row in shares.rows() {
        let total: f64 = row.iter().sum();
        assert!(row.iter().all(|&s| 0.0 <= s) && 0.0 < total && total < 1.0, "{row:?}");
    }
    let none = small_tabm(|_| {}).fit(&data, &FitContext::seeded(0)).expect("fits");
    assert!(none.attention(data.frame()).expect("works").is_none());
}

#[test]
fn params_read_from_json_refuse_what_they_do_not_know() {
    let params: FtTransformerParams = serde_json::from_str(
        r#"{"width":64,"numeric":{"periodic":{"frequencies":8,"sigma":0.1}}}"#,
    )
    .expect("reads");
    assert_eq!(params.width, 64);
    assert!(serde_json::from_str::<FtTransformerParams>(r#"{"depth":3}"#).is_err());
    assert!(serde_json::from_str::<TabmParams>(r#"{"training":{"epoch":3}}"#).is_err());
    let text = serde_json::to_string(&params).expect("writes");
    assert_eq!(serde_json::from_str::<FtTransformerParams>(&text).expect("reads"), params);
}

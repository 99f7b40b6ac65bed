use mm_core::{Catalog, Task};
use proptest::prelude::*;

use super::*;
use crate::{Frozen, probe::Probe};

/// A member that says the sigmoid of `bias + slope · x`, for ever unless `rate` is above 0.
fn member(slope: f64, bias: f64, rate: f64) -> Box<dyn OnlineModel> {
    Probe { weights: vec![slope, bias], rate, ..Probe::binary(1) }.boxed()
}

fn pair(params: BlendParams) -> Blend {
    let members = [("batch", member(0.0, 2.0, 0.0)), ("online", member(0.0, -2.0, 0.0))];
    Blend::new(members, params).expect("alike")
}

/// The rule with a single share, so that its arithmetic is plain.
fn share(share: f64) -> BlendParams {
    BlendParams {
        rule: BlendRule::FixedShare { shares: vec![share], rate: 1.0, half_life: 1000.0 },
    }
}

fn weights(blend: &Blend) -> Vec<f64> {
    blend.weights().map(|(_, weight)| weight).collect()
}

fn said(blend: &Blend, x: f32) -> f64 {
    let mut out = [0.0];
    blend.predict_row(&[x], &mut out).expect("a row");
    out[0]
}

#[test]
fn fixed_weights_are_scaled_and_stay() {
    let mut blend = pair(BlendParams::fixed([("online", 1.0), ("batch", 4.0)]));
    let p = 1.0 / (1.0 + (-2.0_f64).exp());
    let expected = 0.8 * p + 0.2 * (1.0 - p);
    assert!((said(&blend, 0.0) - expected).abs() < 1e-15); // Rounding.
    for _ in 0..50 {
        blend.learn_one(&Sample::new(&[0.0], 0.0)).expect("learns");
    }
    assert_eq!(weights(&blend), [0.8, 0.2]);
    assert_eq!(
        (blend.n_learnt(), blend.member("online").map(OnlineModel::n_learnt)),
        (50, Some(50))
    );
}

#[test]
fn learnt_weights_follow_bayes_and_share() {
    let mut blend = pair(share(0.005));
    let p = 1.0 / (1.0 + (-2.0_f64).exp());
    blend.learn_one(&Sample::new(&[0.0], 1.0)).expect("learns");
    let expected = 0.995 * p + 0.005 / 2.0; // Priors of ½ cancel: p / (p + (1 − p)) = p.
    assert!((weights(&blend)[0] - expected).abs() < 1e-15); // Rounding.
    for _ in 0..1000 {
        blend.learn_one(&Sample::new(&[0.0], 0.0)).expect("learns");
    }
    assert!(weights(&blend)[1] > 0.99, "{:?}", weights(&blend));
    for _ in 0..10 {
        blend.learn_one(&Sample::new(&[0.0], 1.0)).expect("learns");
    }
    assert!(weights(&blend)[0] > 0.99, "the share lets a member come back at once");
}

#[test]
fn the_share_that_suits_the_stream_is_learnt() {
    let after = |switch: fn(u32) -> bool| {
        let mut blend = pair(BlendParams::default());
        for i in 0..3000 {
            blend.learn_one(&Sample::new(&[0.0], f64::from(switch(i)))).expect("learns");
        }
        blend.votes.clone()
    };
    let calm = after(|_| true);
    assert!(calm[0] > calm[1] && calm[1] > calm[2], "nobody else is ever better: {calm:?}");
    let restless = after(|i| i / 10 % 2 == 0);
    assert!(restless[2] > 0.9, "the best changes every ten rows: {restless:?}");
}

#[test]
fn a_label_that_is_late_weighs_less_and_is_judged_by_what_was_said() {
    let judge = |delay: u64| {
        let mut blend = pair(share(0.005));
        let (mut out, mut note) = ([0.0], Vec::new());
        blend.infer_noting(&[0.0], &mut out, &mut note).expect("a row");
        assert_eq!(out[0], said(&blend, 0.0));
        let late = Late { note: &note, delay };
        blend.learn_late(&Sample::new(&[0.0], 1.0), late).expect("its own note");
        let w = weights(&blend)[0];
        (w - 0.0025) / 0.995 // Without the share.
    };
    let odds = |w: f64| (w / (1.0 - w)).ln();
    assert!((odds(judge(0)) - 2.0).abs() < 1e-9); // ln of p / (1 − p) with p = σ(2).
    assert!((odds(judge(3)) - 0.5).abs() < 1e-9);

    // The note says that the batch member was wrong, whatever it would say now.
    let mut blend = pair(BlendParams::default());
    let note = [0.1, 0.9, 0.0, 0.0];
    blend.learn_late(&Sample::new(&[0.0], 1.0), Late { note: &note, delay: 0 }).expect("fits");
    assert!(weights(&blend)[1] > 0.85);
    for strange in [&[][..], &[0.1, 0.9], &[0.1, 0.9, 1.0, 0.0], &[0.1, 0.9, 0.0, 0.5], &[0.0; 5]] {
        let late = Late { note: strange, delay: 0 };
        assert!(blend.learn_late(&Sample::new(&[0.0], 1.0), late).is_err(), "{strange:?}");
    }
    assert_eq!(blend.n_learnt(), 1);
}

#[test]
fn for_regression_the_closer_member_gains_by_the_scale_of_the_errors() {
    let member = |value: f64| -> Box<dyn OnlineModel> {
        let probe =
            Probe { weights: vec![0.0, value], rate: 0.0, ..Probe::new(1, Task::Regression) };
        probe.boxed()
    };
    let mut blend =
        Blend::new([("near", member(10.0)), ("far", member(13.0))], BlendParams::default())
            .expect("alike");
    blend.learn_one(&Sample::new(&[0.0], 10.5)).expect("learns");
    assert_eq!(weights(&blend), [0.5, 0.5], "no scale yet");
    for i in 0..40 {
        let y = 10.0 + f64::from(i % 3) - 1.0;
        blend.learn_one(&Sample::new(&[0.0], y)).expect("learns");
    }
    assert!(weights(&blend)[0] > 0.98, "{:?}", weights(&blend));
}

#[test]
fn a_row_that_one_member_refuses_is_learnt_by_the_others() {
    let batch: mm_core::BoxModel = Box::new(Probe::binary(1));
    let frozen: Box<dyn OnlineModel> = Box::new(Frozen::new(batch));
    let members = [("batch", frozen), ("online", member(0.0, 0.0, 0.1))];
    let mut blend = Blend::new(members, BlendParams::default()).expect("alike");
    // A probe refuses to learn a missing value, and predicts NaN, which is no probability.
    blend.learn_one(&Sample::new(&[f32::NAN], 1.0)).expect("the frozen member takes anything");
    assert_eq!(weights(&blend), [0.5, 0.5]);
    let learnt = ["batch", "online"].map(|name| blend.member(name).map(OnlineModel::n_learnt));
    assert_eq!(learnt, [Some(1), Some(0)]);
    let members = [("a", member(0.0, 0.0, 0.1)), ("b", member(1.0, 0.0, 0.1))];
    let mut blend = Blend::new(members, BlendParams::default()).expect("alike");
    assert!(blend.learn_one(&Sample::new(&[f32::NAN], 1.0)).is_err(), "all refuse");
    assert_eq!(blend.n_learnt(), 0);
}

#[test]
fn blends_that_make_no_sense_are_refused() {
    let none: [(&str, Box<dyn OnlineModel>); 0] = [];
    assert!(Blend::new(none, BlendParams::default()).is_err());
    let twice = [("a", member(0.0, 0.0, 0.0)), ("a", member(0.0, 0.0, 0.0))];
    let err = Blend::new(twice, BlendParams::default()).expect_err("twice");
    assert_eq!(err.to_string(), "members: expected distinct names, got `a` twice");
    let mixed = [("a", member(0.0, 0.0, 0.0)), ("b", Probe::binary(2).boxed())];
    assert!(Blend::new(mixed, BlendParams::default()).is_err());
    for bad in [
        BlendParams::fixed([("batch", 1.0)]),
        BlendParams::fixed([("batch", 1.0), ("other", 1.0)]),
        BlendParams::fixed([("batch", 0.0), ("online", 0.0)]),
        BlendParams::fixed([("batch", f64::NAN), ("online", 1.0)]),
        BlendParams {
            rule: BlendRule::FixedShare { shares: vec![1.0], rate: 1.0, half_life: 1.0 },
        },
        BlendParams {
            rule: BlendRule::FixedShare { shares: vec![0.1], rate: 0.0, half_life: 1.0 },
        },
        BlendParams { rule: BlendRule::FixedShare { shares: vec![], rate: 1.0, half_life: 1.0 } },
        BlendParams {
            rule: BlendRule::FixedShare { shares: vec![0.1], rate: 1.0, half_life: f64::NAN },
        },
    ] {
        let members = [("batch", member(0.0, 0.0, 0.0)), ("online", member(0.0, 0.0, 0.0))];
        assert!(Blend::new(members, bad.clone()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_member_can_be_replaced() {
    let mut blend = pair(BlendParams::default());
    blend.learn_one(&Sample::new(&[0.0], 1.0)).expect("learns");
    let new = blend.with_member("online", member(0.0, 5.0, 0.0)).expect("alike");
    assert_eq!(weights(&new), weights(&blend));
    assert!(said(&new, 0.0) > said(&blend, 0.0));
    assert!(blend.with_member("other", member(0.0, 5.0, 0.0)).is_err());
    assert!(blend.with_member("online", Probe::binary(3).boxed()).is_err());
}

/// Nests what can be nested: a calibrated blend of a blend and a frozen model.
fn nested() -> Calibrated {
    let inner = [("a", member(1.0, 0.1, 0.1)), ("b", member(-0.5, 0.0, 0.3))];
    let inner: Box<dyn OnlineModel> =
        Box::new(Blend::new(inner, BlendParams::default()).expect("alike"));
    let batch: mm_core::BoxModel = Box::new(Probe { weights: vec![2.0, 0.0], ..Probe::binary(1) });
    let members =
        [("inner", inner), ("batch", Box::new(Frozen::new(batch)) as Box<dyn OnlineModel>)];
    let outer = Box::new(Blend::new(members, BlendParams::default()).expect("alike"));
    Calibrated::new(outer, CalibrationParams::default()).expect("binary")
}

proptest! {
    /// A model that is written and read, or forked, goes on to the bit like the one that was not;
    /// a label at once equals a label with a note and no delay.
    #[test]
    fn nested_models_survive_being_written(
        rows in prop::collection::vec((-2.0_f32..2.0, 0_u8..2, 0_u8..4), 1..60),
    ) {
        let catalog = crate::register(Catalog::default()).with::<Probe>();
        let mut ours = nested();
        let mut theirs: Box<dyn OnlineModel> = ours.fork();
        for &(x, y, then) in &rows {
            let sample = Sample::new(std::slice::from_ref(&x), y.into());
            ours.learn_one(&sample).expect("learns");
            let (mut out, mut note) = ([0.0], Vec::new());
            theirs.infer_noting(&[x], &mut out, &mut note).expect("a row");
            let mut plain = [0.0];
            theirs.infer_row(&[x], &mut plain).expect("a row");
            prop_assert_eq!(out, plain);
            theirs.learn_late(&sample, Late { note: &note, delay: 0 }).expect("its own note");
            if then == 0 {
                let envelope = theirs.to_envelope().expect("seals");
                theirs = open_online(&*catalog.open(envelope.as_bytes()).expect("opens")).expect("online");
            }
            let bytes = |model: &dyn Model| model.to_envelope().expect("seals").into_bytes();
            prop_assert!(bytes(&ours) == bytes(&*theirs));
        }
    }
}

#[test]
fn platt_scaling_mends_an_overconfident_model() {
    // Says σ(4x) where σ(x) is right: the slope should come to ¼.
    let mut model =
        Calibrated::new(member(4.0, 0.0, 0.0), CalibrationParams { rate: 0.1 }).expect("binary");
    let uniform = |i: u64| {
        let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let (mut raw, mut calibrated) = (0.0, 0.0);
    for i in 0..20_000_u64 {
        let x = (4.0 * uniform(2 * i) - 2.0) as f32;
        let y = f64::from(uniform(2 * i + 1) < 1.0 / (1.0 + (-f64::from(x)).exp()));
        let mut out = [0.0];
        model.inner().infer_row(&[x], &mut out).expect("a row");
        raw += crate::progress::log_loss(&out, y);
        model.infer_row(&[x], &mut out).expect("a row");
        calibrated += crate::progress::log_loss(&out, y);
        model.learn_one(&Sample::new(&[x], y)).expect("learns");
    }
    let (slope, intercept) = model.line();
    assert!((slope - 0.25).abs() < 0.05 && intercept.abs() < 0.1, "{slope} {intercept}");
    assert!(calibrated < 0.8 * raw, "{calibrated} {raw}");
    let bad = CalibrationParams { rate: f64::NAN };
    assert!(Calibrated::new(member(1.0, 0.0, 0.0), bad).is_err());
    let regression = Probe::new(1, Task::Regression).boxed();
    assert!(Calibrated::new(regression, CalibrationParams::default()).is_err());
}

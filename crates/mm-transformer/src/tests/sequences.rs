//! What a sequence model sees and what it does not.

use mm_core::{
    Dataset, FitContext, Frame, Learner as _, Metric, Model as _, PurgedKFold, Splitter,
    TimeSeriesSplit,
};
use proptest::prelude::*;

use super::{catalog, small_sequence};
use crate::{Position, SequenceTransformerModel};

/// Two series of a number in [−1, 1]; the target is the number of two steps before.
fn echo(n: usize) -> Dataset {
    let value = |i: usize| (2.0 * (0.5 + 0.618_033_988_749_895 * i as f64).fract() - 1.0) as f32;
    let values: Vec<f32> = (0..n).map(value).collect();
    let before = |i: usize| if i < 4 { 0.0 } else { f64::from(value(i - 4)) };
    let frame = Frame::new(values, 1).expect("valid");
    let frame = frame.with_times((0..n).map(|i| (i / 2) as i64).collect()).expect("length");
    let frame = frame.with_entities((0..n).map(|i| (i % 2) as i64).collect()).expect("length");
    Dataset::regression(frame, (0..n).map(before).collect()).expect("valid")
}

fn r2(model: &SequenceTransformerModel, data: &Dataset) -> f64 {
    let predicted = model.predict(data.frame()).expect("predicts");
    Metric::R2.score(data.truth(), &predicted).expect("scores")
}

#[test]
fn it_learns_from_the_past_which_the_present_does_not_tell() {
    let data = echo(600);
    let train = data.take(&(0..450).collect::<Vec<_>>());
    let test = data.take(&(450..600).collect::<Vec<_>>());
    for position in [Position::Learned, Position::Rotary, Position::Sinusoidal, Position::Relative]
    {
        let learner = small_sequence(|p| {
            (p.training.epochs, p.training.learning_rate, p.position) = (30, 0.01, position);
            (p.attention_dropout, p.hidden_dropout, p.width) = (0.0, 0.0, 16);
        });
        let model = learner.fit(&train, &FitContext::seeded(1)).expect("fits");
        let score = r2(&model, &test);
        assert!(0.9 < score, "{position:?}: a model of the present has 0, this one {score}");
        let bytes = model.to_envelope().expect("seals");
        let opened = catalog().open(bytes.as_bytes()).expect("opens");
        let [a, b] = [opened.predict(test.frame()), model.predict(test.frame())];
        assert_eq!(a.expect("predicts"), b.expect("predicts"), "history is stored");
    }
}

#[test]
fn history_of_the_fit_stands_before_a_frame_that_follows_it() {
    let data = echo(200);
    let train = data.take(&(0..150).collect::<Vec<_>>());
    let model = small_sequence(|_| {}).fit(&train, &FitContext::seeded(1)).expect("fits");
    let whole = model.predict(data.frame()).expect("predicts");
    let rest = model.predict(&data.frame().slice(150, 50)).expect("predicts");
    assert_eq!(rest.values(), &whole.values()[150..]);
}

#[test]
fn patches_and_instance_norm_predict_and_survive_storage() {
    let data = echo(80);
    let learner = small_sequence(|p| (p.patch, p.instance_norm) = (2, true));
    let model = learner.fit(&data, &FitContext::seeded(1)).expect("fits");
    let opened = catalog().open(model.to_envelope().expect("seals").as_bytes()).expect("opens");
    let predicted = model.predict(data.frame()).expect("predicts");
    assert!(predicted.values().iter().all(|y| y.is_finite()));
    assert_eq!(opened.predict(data.frame()).expect("predicts"), predicted);
}

#[test]
fn data_without_timestamps_are_refused_and_a_row_alone_is_not() {
    let plain = Frame::new((0..40).map(|i| i as f32).collect(), 1).expect("valid");
    let data = Dataset::regression(plain, vec![0.5; 40]).expect("valid");
    let refused = small_sequence(|_| {}).fit(&data, &FitContext::seeded(0));
    assert!(refused.expect_err("no times").to_string().contains("timestamps"));
    let model = small_sequence(|_| {}).fit(&echo(40), &FitContext::seeded(0)).expect("fits");
    let mut out = [f64::NAN];
    model.predict_row(&[0.3], &mut out).expect("predicts");
    assert!(out[0].is_finite());
    // A series that the fit did not see has no history either.
    let unseen = Frame::new(vec![0.3], 1).expect("valid").with_times(vec![10]).expect("length");
    let unseen = unseen.with_entities(vec![99]).expect("length");
    assert_eq!(model.predict(&unseen).expect("predicts").values(), out);
}

/// In every fold of splits that keep time: what the test rows and all later rows hold does not move
/// the model of the fold, and what comes later does not move a test row's prediction.
#[test]
fn no_split_shows_the_future() {
    let data = echo(120);
    let n = data.n_rows();
    let known = data.frame().times().expect("has them").iter().map(|t| t + 1).collect();
    let data = data.with_label_times(known).expect("length");
    let splits: [Box<dyn Splitter>; 2] =
        [Box::new(TimeSeriesSplit::new(3)), Box::new(PurgedKFold::new(4))];
    for split in splits {
        for fold in split.split(&data, 0).expect("splits") {
            let model = small_sequence(|_| {}).fit(&data.take(&fold.train), &FitContext::seeded(0));
            let model = model.expect("fits");
            let test = data.take(&fold.test);
            let expected = model.predict(test.frame()).expect("predicts");
            let half = fold.test.len() / 2;
            let time = test.frame().times().expect("has them")[half];
            let earlier: Vec<usize> = (0..fold.test.len())
                .filter(|&i| test.frame().times().expect("has them")[i] <= time)
                .collect();
            let cut = model.predict(&test.frame().take(&earlier)).expect("predicts");
            assert_eq!(cut, expected.take(&earlier), "later rows of the fold");
        }
    }
    assert_eq!(n, 120);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// To the bit: changing any later row, or any row of another series, changes no prediction.
    #[test]
    fn a_prediction_depends_on_the_past_of_its_series_alone(row in 0_usize..60, noise in -5.0_f32..5.0) {
        let data = echo(60);
        let model = small_sequence(|_| {}).fit(&data.take(&[0, 1, 2, 3, 4, 5]), &FitContext::seeded(0));
        let model = model.expect("fits");
        let expected = model.predict(data.frame()).expect("predicts");
        let times = data.frame().times().expect("has them");
        let entities = data.frame().entities().expect("has them");
        let seen = |i: usize| entities[i] == entities[row] && times[i] <= times[row];
        let values = (0..60).map(|i| data.frame().row(i)[0] + if seen(i) { 0.0 } else { noise });
        let changed = Frame::new(values.collect(), 1).expect("valid");
        let changed = changed.with_times(times.to_vec()).expect("length");
        let changed = changed.with_entities(entities.to_vec()).expect("length");
        let predicted = model.predict(&changed).expect("predicts");
        prop_assert_eq!(predicted.row(row), expected.row(row));
    }
}

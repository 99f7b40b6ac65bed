//! A whole fit against PyTorch's, from the same weights on the same rows (`fixtures/training.py`).

use std::collections::BTreeMap;

use mm_core::{Column, Dataset, FitContext, Frame, Levels, Schema, Task, WarmStart as _};
use serde::Deserialize;

use super::small_ft;
use crate::{FtTransformerModel, Scaling, nn::oracle::Array};

#[derive(Deserialize)]
struct Fixture {
    weights: BTreeMap<String, Array>,
    /// Two numbers a row.
    x: Vec<[f32; 2]>,
    /// Two levels a row, by their codes.
    c: Vec<[u8; 2]>,
    y: Vec<f64>,
    row_weights: Vec<f64>,
    losses: Vec<f64>,
}

#[test]
fn a_fit_takes_the_steps_that_pytorch_takes() {
    let fixture = include_str!("../../tests/fixtures/training.json");
    let fixture: Fixture = serde_json::from_str(fixture).expect("the fixture");
    let task = Task::classes(["a", "b", "c"]).expect("three");
    let levels = |name: &str, all: &[&str]| {
        Column::categorical(name, Levels::new(all.iter().copied()).expect("distinct"))
    };
    let numbers = ["p", "q"].map(Column::numeric);
    let columns =
        numbers.into_iter().chain([levels("r", &["a", "b", "c"]), levels("s", &["a", "b"])]);
    let rows = fixture.x.iter().zip(&fixture.c);
    let cells = rows.flat_map(|(x, c)| x.iter().copied().chain(c.map(f32::from)));
    let schema = Schema::new(columns).expect("distinct");
    let frame = Frame::with_schema(cells.collect(), schema).expect("valid");
    let data = Dataset::new(frame, task, fixture.y);
    let data = data.and_then(|data| data.with_weights(fixture.row_weights)).expect("valid");
    let learner = small_ft(|p| {
        (p.attention_dropout, p.hidden_dropout, p.scaling) = (0.0, 0.0, Scaling::Standard);
        let p = &mut p.training;
        (p.epochs, p.batch_size, p.early_stopping) = (fixture.losses.len(), data.n_rows(), None);
        (p.learning_rate, p.warm_up, p.weight_decay, p.clip_norm) = (0.02, 0.1, 0.05, 0.5);
        // Several pieces, whose gradients are added up.
        p.micro_batch = Some(16);
    });
    let ctx = FitContext::seeded(1);
    let mut start = learner.fit_net(None, &data, &ctx).expect("fits");
    for spec in start.weights.specs().to_vec() {
        if let Some(array) = fixture.weights.get(&spec.name) {
            assert_eq!(array.shape, spec.shape, "{}", spec.name);
            start.weights.values[spec.range].copy_from_slice(&array.values);
        } else if spec.name.ends_with("scale") {
            start.weights.values[spec.range].fill(1.0);
        } else if spec.name.ends_with("shift") {
            start.weights.values[spec.range].fill(0.0);
        } else {
            assert_eq!(spec.name, "tokens.numeric.missing", "nothing is missing here");
        }
    }
    let model = learner.fit_from(&start, &data, &ctx).expect("goes on");
    let model = model.downcast_ref::<FtTransformerModel>().expect("a model of its kind");
    assert_eq!(model.report().losses.len(), fixture.losses.len());
    for (epoch, (loss, expected)) in model.report().losses.iter().zip(&fixture.losses).enumerate() {
        // Roundings of f32, which thirty steps do not blow up.
        assert!((loss - expected).abs() < 1e-5, "epoch {epoch}: {loss} against {expected}");
    }
}

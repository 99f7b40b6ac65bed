//! Tests of learners and models: what they owe their callers, and what they learn.

mod conform;
mod learn;
mod memory;
mod oracle;
mod resume;
mod sequences;

use mm_core::{Catalog, Dataset, Frame, Params as _};

use crate::{
    FtTransformer, FtTransformerParams, SequenceTransformer, SequenceTransformerParams, Tabm,
    TabmParams, TrainingParams, register,
};

fn catalog() -> Catalog {
    register(Catalog::default())
}

/// Hardly any epochs: what is tested is not how well it learns.
fn brief() -> TrainingParams {
    TrainingParams { epochs: 2, batch_size: 32, ..TrainingParams::default() }
}

fn small_ft(edit: impl FnOnce(&mut FtTransformerParams)) -> FtTransformer {
    let mut params = FtTransformerParams { training: brief(), ..FtTransformerParams::default() };
    (params.width, params.heads, params.blocks) = (8, 2, 2);
    edit(&mut params);
    params.build().expect("valid")
}

fn small_tabm(edit: impl FnOnce(&mut TabmParams)) -> Tabm {
    let mut params = TabmParams { training: brief(), ..TabmParams::default() };
    (params.members, params.width, params.embedding_width) = (4, 16, 4);
    edit(&mut params);
    params.build().expect("valid")
}

fn small_sequence(edit: impl FnOnce(&mut SequenceTransformerParams)) -> SequenceTransformer {
    let mut params =
        SequenceTransformerParams { training: brief(), ..SequenceTransformerParams::default() };
    (params.width, params.heads, params.blocks, params.window) = (8, 2, 1, 4);
    edit(&mut params);
    params.build().expect("valid")
}

/// Two numbers in [−1, 1], evenly spread, and a target of them.
fn square(n: usize, target: impl Fn(f32, f32) -> f64) -> (Frame, Vec<f64>) {
    // The additive recurrence of the golden ratio of the plane (Roberts 2018) fills the square.
    let at = |i: usize| {
        let spread = |a: f64| (2.0 * (0.5 + a * i as f64).fract() - 1.0) as f32;
        [spread(0.754_877_666_246_693), spread(0.569_840_290_998_053)]
    };
    let values: Vec<f32> = (0..n).flat_map(at).collect();
    let target = values.chunks(2).map(|x| target(x[0], x[1])).collect();
    (Frame::new(values, 2).expect("valid"), target)
}

/// Whether two numbers have the same sign: no linear model can tell.
fn same_sign(n: usize) -> Dataset {
    let (x, y) = square(n, |a, b| f64::from(u8::from(0.0 < a * b)));
    let task = mm_core::Task::classes(["other", "same"]).expect("two");
    Dataset::new(x, task, y).expect("valid")
}

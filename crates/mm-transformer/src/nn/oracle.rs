//! Layers against outputs that `tests/fixtures/layers.py` computed from formulas, and laws of masks.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use serde::Deserialize;

use crate::{
    device::cpu,
    nn::{
        attention::{Attention, AttentionConfig, Mask},
        block::{Block, BlockConfig},
        category::CategoryEmbedding,
        feed_forward::{FeedForward, Gate},
        norm::LayerNorm,
        numeric::{Numeric, NumericEmbedding},
        pass::Pass,
        position::{Position, sinusoidal},
    },
    prepare::Inputs,
    random::Key,
    weights::{Init, Role, Scope, Weights, initialise, read},
};

#[derive(Deserialize)]
struct Case {
    weights: BTreeMap<String, Array>,
    inputs: BTreeMap<String, Array>,
    output: Array,
}

/// An array of a fixture.
#[derive(Deserialize)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Array {
    fn tensor<const D: usize>(&self) -> Tensor<D> {
        let shape: [usize; D] = self.shape.clone().try_into().expect("the rank");
        Tensor::from_data(TensorData::new(self.values.clone(), shape), &cpu())
    }
}

fn case(name: &str) -> Case {
    let text = include_str!("../../tests/fixtures/layers.json");
    let mut cases: BTreeMap<String, Case> = serde_json::from_str(text).expect("the fixture");
    cases.remove(name).expect(name)
}

/// The layer that `build` makes, with the case's weights in place of those that it would start with.
fn layer<L>(case: &Case, build: impl Fn(&Scope<'_>) -> mm_core::Result<L>) -> L {
    let mut weights = initialise(Key::new(0), &cpu(), &build).expect("makes");
    let given = initialise(Key::new(0), &cpu(), |scope| {
        for (name, array) in &case.weights {
            let init = Init::Values(array.values.clone());
            match array.shape[..] {
                [a] => drop(scope.param(name, [a], Role::Free, init)?),
                [a, b] => drop(scope.param(name, [a, b], Role::Free, init)?),
                [a, b, c] => drop(scope.param(name, [a, b, c], Role::Free, init)?),
                _ => panic!("rank of `{name}`"),
            }
        }
        Ok(())
    });
    let given: Weights = given.expect("makes");
    assert_eq!(weights.adopt(&given), case.weights.len(), "every array is the layer's");
    let trained = weights.specs().iter().filter(|spec| spec.role != Role::Fixed).count();
    assert_eq!(trained, case.weights.len(), "the layer has no other array");
    weights.bind(&weights.tensors(&cpu()), build).expect("binds")
}

#[track_caller]
fn agrees<const D: usize>(case: &Case, output: Tensor<D>) {
    assert_eq!(output.dims().to_vec(), case.output.shape);
    for (x, expected) in read(output).expect("reads").iter().zip(&case.output.values) {
        // The bound; outputs reach some tens, of which f32 keeps 1e-6.
        assert!((x - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{x} against {expected}");
    }
}

const ATTENTION: AttentionConfig =
    AttentionConfig { width: 8, heads: 2, dropout: 0.5, position: Position::None, steps: 5 };

fn attends(name: &str, position: Position, mask: Option<&Mask>) {
    let case = case(name);
    let config = AttentionConfig { position, ..ATTENTION };
    let attention = layer(&case, |scope| Attention::new(scope, config));
    let x = case.inputs["x"].tensor();
    agrees(&case, attention.forward(x, mask, &Pass::plain()));
}

#[test]
fn layer_norm_agrees_with_the_formula() {
    let case = case("norm");
    let norm = layer(&case, |scope| LayerNorm::new(scope, 8));
    agrees(&case, norm.forward(case.inputs["x"].tensor()));
}

#[test]
fn attention_agrees_with_the_formula() {
    attends("attention", Position::None, None);
    attends("rotary", Position::Rotary, None);
    attends("relative", Position::Relative, None);
}

#[test]
fn masked_attention_agrees_with_the_formula_where_a_step_is_there() {
    let mut case = case("causal");
    let attention = layer(&case, |scope| Attention::new(scope, ATTENTION));
    let mask = Mask::new(&[5, 3], 5, true);
    let x = case.inputs["x"].tensor();
    let y = attention.forward(x, Some(&mask), &Pass::plain()).narrow(1, 2, 3);
    // Row 1 has its last three steps alone; what stands before them is nobody's business.
    let last = |values: &[f32]| values.chunks(40).flat_map(|row| row[16..].to_vec()).collect();
    case.output = Array { shape: vec![2, 3, 8], values: last(&case.output.values) };
    agrees(&case, y);
}

#[test]
fn feed_forward_layers_agree_with_the_formula() {
    for (name, kind) in [("reglu", Gate::Reglu), ("geglu", Gate::Geglu)] {
        let case = case(name);
        let layer = layer(&case, |scope| FeedForward::new(scope, 8, 6, kind, 0.5));
        agrees(&case, layer.forward(case.inputs["x"].tensor(), &Pass::plain()));
    }
}

const BLOCK: BlockConfig = BlockConfig {
    attention: ATTENTION,
    hidden: 6,
    gate: Gate::Reglu,
    hidden_dropout: 0.5,
    residual_dropout: 0.5,
};

#[test]
fn a_block_agrees_with_the_formula() {
    let mut case = case("block");
    let block = layer(&case, |scope| Block::new(scope, BLOCK, true));
    let x: Tensor<3> = case.inputs["x"].tensor();
    agrees(&case, block.forward(x.clone(), None, &Pass::plain()));
    let first = case.output.values.chunks(40).flat_map(|row| row[..8].to_vec()).collect();
    case.output = Array { shape: vec![2, 1, 8], values: first };
    agrees(&case, block.forward_first(x, &Pass::plain()));
}

#[test]
fn vectors_of_numbers_agree_with_the_formulas() {
    let edges = vec![vec![-1.0, 0.0, 0.5, 2.0], vec![-2.0, 1.0]];
    let inputs = Inputs { numbers: 2, slots: vec![], scores: 1, bins: 3, edges };
    for (name, kind) in [
        ("numbers_linear", NumericEmbedding::Linear),
        ("numbers_periodic", NumericEmbedding::Periodic { frequencies: 3, sigma: 1.0 }),
        ("numbers_piecewise", NumericEmbedding::PiecewiseLinear { bins: 3 }),
    ] {
        let case = case(name);
        let numeric = layer(&case, |scope| Numeric::new(scope, kind, &inputs, 4));
        let [numbers, missing] = ["numbers", "missing"].map(|name| case.inputs[name].tensor());
        agrees(&case, numeric.forward(numbers, missing));
    }
}

#[test]
fn sinusoids_agree_with_the_formula() {
    let case = case("sinusoidal");
    let values = TensorData::new(sinusoidal(5, 8), [5, 8]);
    agrees(&case, Tensor::<2>::from_data(values, &cpu()));
}

#[test]
fn levels_have_vectors_of_their_own_and_reserved_slots_start_silent() {
    let build = |scope: &Scope<'_>| CategoryEmbedding::new(scope, &[3, 4], 2);
    let weights = initialise(Key::new(1), &cpu(), build).expect("makes");
    let embedding = weights.bind(&weights.tensors(&cpu()), build).expect("binds");
    let (table, bias) = (weights.get("table").expect("there"), weights.get("bias").expect("there"));
    let slots = TensorData::new(vec![0_i64, 4, 2, 6], [4]);
    let out = read(embedding.forward(Tensor::from_data(slots, &cpu()))).expect("reads");
    assert_eq!(out[..4], *bias, "missing and unknown add nothing before they are trained");
    let sum = |slot: usize, i: usize| table[2 * slot + i % 2] + bias[i];
    assert_eq!(out[4..], [sum(2, 0), sum(2, 1), sum(6, 2), sum(6, 3)]);
    assert!(out[4..].iter().zip(bias).all(|(x, b)| x != b));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// To the bit: what stands at a padded or later place never changes an output.
    #[test]
    fn a_masked_place_never_changes_an_output(
        values in prop::collection::vec(-3.0_f32..3.0, 40), noise in prop::collection::vec(-1e3_f32..1e3, 40),
        length in 1_usize..=5, step in 0_usize..5,
    ) {
        for position in [Position::None, Position::Rotary, Position::Relative] {
            let config = AttentionConfig { position, ..ATTENTION };
            let block = BlockConfig { attention: config, ..BLOCK };
            let build = |scope: &Scope<'_>| Block::new(scope, block, true);
            let weights = initialise(Key::new(4), &cpu(), build).expect("makes");
            let block = weights.bind(&weights.tensors(&cpu()), build).expect("binds");
            let first = 5 - length;
            let step = step.max(first);
            let run = |values: &[f32]| {
                let x = Tensor::<3>::from_data(TensorData::new(values.to_vec(), [1, 5, 8]), &cpu());
                let y = block.forward(x, Some(&Mask::new(&[length], 5, true)), &Pass::plain());
                read(y.narrow(1, step, 1)).expect("reads")
            };
            let mut other = noise.clone();
            other[first * 8..(step + 1) * 8].copy_from_slice(&values[first * 8..(step + 1) * 8]);
            prop_assert_eq!(run(&values), run(&other));
        }
    }
}

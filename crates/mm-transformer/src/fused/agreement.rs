//! Each operation against the same made of Burn's operations: values, and gradients of every input.

use burn::tensor::{Device, Tensor, TensorData};
use mm_core::Result;

use crate::{
    device::cpu,
    fused::dense::Ending,
    nn::{
        attention::{AttentionConfig, Mask},
        block::{Block, BlockConfig},
        feed_forward::Gate,
        linear::Linear,
        members::{composed_heads, composed_views, fused_heads, fused_views},
        pass::Pass,
        position::Position,
    },
    random::Key,
    weights::{Init, Role, Scope, Weights, initialise, read},
};

fn numbers(key: Key, len: usize) -> Vec<f32> {
    (0..len as u64).map(|i| key.normal(i) as f32).collect()
}

/// Output, slopes of *x*, slopes of all weights, for a loss whose slopes are `slopes` where it looks.
fn run<L, const D: usize, const E: usize>(
    weights: &Weights,
    build: &impl Fn(&Scope<'_>) -> Result<L>,
    (x, shape): (&[f32], [usize; D]),
    slopes: &dyn Fn(usize) -> f32,
    forward: &dyn Fn(&L, Tensor<D>) -> Tensor<E>,
) -> [Vec<f32>; 3] {
    let leaf = |x: Tensor<1>| x.autodiff().require_grad();
    let leaves: Vec<_> = weights.tensors(&cpu()).into_iter().map(leaf).collect();
    let layer = weights.bind(&leaves, build).expect("binds");
    let x = Tensor::<D>::from_data(TensorData::new(x.to_vec(), shape), &cpu());
    let x = x.autodiff().require_grad();
    let y = forward(&layer, x.clone());
    let values = read(y.clone().inner()).expect("reads");
    let slopes = (0..values.len()).map(slopes).collect::<Vec<f32>>();
    let slopes = Tensor::<E>::from_data(TensorData::new(slopes, y.dims()), &x.device());
    // What nobody may look at can be anything, and so its product with 0.
    let mut grads = (y * slopes).sum().backward();
    let dx = read(x.grad(&grads).expect("x has slopes")).expect("reads");
    let mut dweights = vec![0.0; weights.values.len()];
    weights.add_gradient(&leaves, &mut grads, &mut dweights).expect("reads");
    [values, dx, dweights]
}

/// Both sum a few hundred terms in 24 bits, in other orders.
#[track_caller]
fn agree(what: &str, fused: &[f32], composed: &[f32], seen: impl Fn(usize) -> bool) {
    assert_eq!(fused.len(), composed.len());
    let size = composed.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    assert!(0.0 < size, "{what}: nothing to compare");
    for (i, (a, b)) in fused.iter().zip(composed).enumerate().filter(|&(i, _)| seen(i)) {
        assert!((a - b).abs() <= 4e-6 * size, "{what} {i}: {a} against {b}, size {size}");
    }
}

const WIDTH: usize = 12;
const TOKENS: usize = 7;
/// Enough for two chunks.
const ROWS: usize = 40;

const BLOCK: BlockConfig = BlockConfig {
    attention: AttentionConfig {
        width: WIDTH,
        heads: 3,
        dropout: 0.0,
        position: Position::None,
        steps: TOKENS,
    },
    hidden: 17,
    gate: Gate::Reglu,
    hidden_dropout: 0.0,
    residual_dropout: 0.0,
};

fn dropping() -> BlockConfig {
    let attention = AttentionConfig { dropout: 0.3, ..BLOCK.attention };
    BlockConfig { attention, hidden_dropout: 0.2, residual_dropout: 0.1, ..BLOCK }
}

/// Biases and norms away from 0 and 1, where they start.
fn started<L>(build: &impl Fn(&Scope<'_>) -> Result<L>) -> Weights {
    let mut weights = initialise(Key::new(3), &cpu(), build).expect("makes");
    let noise = numbers(Key::new(4), weights.values.len());
    weights.values.iter_mut().zip(noise).for_each(|(w, noise)| *w += 0.1 * noise);
    weights
}

#[track_caller]
fn block_agrees(what: &str, config: BlockConfig, normed: bool, asking: usize, mask: Option<&Mask>) {
    let build = |scope: &Scope<'_>| Block::new(scope, config, normed);
    let weights = started(&build);
    let x = numbers(Key::new(5), ROWS * TOKENS * WIDTH);
    let key = Key::new(6);
    let seen = |i: usize| {
        let (row, token) = (i / (asking * WIDTH), i / WIDTH % asking);
        mask.is_none_or(|mask| !mask.visible(row, token).is_empty())
    };
    let slopes = |i: usize| if seen(i) { key.normal(i as u64) as f32 } else { 0.0 };
    let [fused, composed] = [true, false].map(|is_fused| {
        run(&weights, &build, (&x, [ROWS, TOKENS, WIDTH]), &slopes, &|block: &Block, x| {
            let pass = Pass::training(Key::new(7), 5);
            if is_fused {
                block.fused(&x, asking, mask, &pass).expect("the processor's")
            } else {
                block.composed(x, asking, mask, &pass)
            }
        })
    });
    agree(&format!("{what}: output"), &fused[0], &composed[0], seen);
    agree(&format!("{what}: slope of x"), &fused[1], &composed[1], |_| true);
    for spec in weights.specs() {
        let range = spec.range.clone();
        // A constant added to all scores of a query changes no share: its slope is 0, and noise.
        if spec.name != "attention.key.bias" {
            let what = format!("{what}: slope of {}", spec.name);
            agree(&what, &fused[2][range.clone()], &composed[2][range], |_| true);
        }
    }
}

#[test]
fn a_block_agrees_with_single_operations() {
    block_agrees("plain", BLOCK, true, TOKENS, None);
    block_agrees("no norm", BLOCK, false, TOKENS, None);
    block_agrees("dropout", dropping(), true, TOKENS, None);
    block_agrees("GEGLU", BlockConfig { gate: Gate::Geglu, ..dropping() }, true, TOKENS, None);
}

#[test]
fn a_block_that_is_asked_for_the_first_vector_agrees() {
    block_agrees("first", BLOCK, true, 1, None);
    block_agrees("first, dropout", dropping(), false, 1, None);
}

#[test]
fn a_block_agrees_under_masks_and_positions() {
    let lengths: Vec<usize> = (0..ROWS).map(|row| 1 + row % TOKENS).collect();
    for causal in [false, true] {
        let mask = Mask::new(&lengths, TOKENS, causal);
        for position in [Position::None, Position::Rotary, Position::Relative] {
            let attention = AttentionConfig { position, ..dropping().attention };
            let config = BlockConfig { attention, ..dropping() };
            block_agrees(&format!("{position:?}, {causal}"), config, true, TOKENS, Some(&mask));
        }
    }
}

#[test]
fn dense_layers_agree_with_single_operations() {
    let (rows, vectors, from, to) = (30, 11, 9, 37);
    let build = |scope: &Scope<'_>| Linear::new(scope, from, to);
    let weights = started(&build);
    let x = numbers(Key::new(5), rows * vectors * from);
    let slopes = |i: usize| Key::new(6).normal(i as u64) as f32;
    for rate in [None, Some(0.0), Some(0.4)] {
        let [fused, composed] = [true, false].map(|is_fused| {
            run(&weights, &build, (&x, [rows, vectors, from]), &slopes, &|layer: &Linear, x| {
                let pass = Pass::training(Key::new(7), 5);
                match (is_fused, rate) {
                    (true, None) => layer.fused(&x, Ending::Nothing).expect("native"),
                    (true, Some(rate)) => {
                        layer.fused(&x, Ending::Relu(pass.drops(rate))).expect("native")
                    }
                    (false, None) => layer.composed(x, &pass),
                    (false, Some(rate)) => {
                        pass.dropout(burn::tensor::activation::relu(layer.composed(x, &pass)), rate)
                    }
                }
            })
        });
        for (what, (fused, composed)) in ["y", "dx", "dw"].iter().zip(fused.iter().zip(&composed)) {
            agree(&format!("{what} at {rate:?}"), fused, composed, |_| true);
        }
    }
}

#[test]
fn views_and_heads_agree_with_single_operations() {
    let (rows, members, width, scores) = (13, 5, 9, 3);
    let slopes = |i: usize| Key::new(6).normal(i as u64) as f32;
    let build =
        |scope: &Scope<'_>| scope.param("views", [members, width], Role::Free, Init::Normal(1.0));
    let (weights, x) = (started(&build), numbers(Key::new(5), rows * width));
    let [fused, composed] = [true, false].map(|is_fused| {
        run(&weights, &build, (&x, [rows, width]), &slopes, &|views: &Tensor<2>, x| {
            if is_fused {
                fused_views(&x, views).expect("native")
            } else {
                composed_views(x, views)
            }
        })
    });
    fused.iter().zip(&composed).for_each(|(a, b)| agree("views", a, b, |_| true));

    let build = |scope: &Scope<'_>| {
        scope.param("heads", [members, width, scores], Role::Free, Init::Normal(1.0))
    };
    let (weights, x) = (started(&build), numbers(Key::new(5), rows * members * width));
    let [fused, composed] = [true, false].map(|is_fused| {
        run(&weights, &build, (&x, [rows, members, width]), &slopes, &|heads: &Tensor<3>, x| {
            if is_fused {
                fused_heads(&x, heads).expect("native")
            } else {
                composed_heads(x, heads)
            }
        })
    });
    fused.iter().zip(&composed).for_each(|(a, b)| agree("heads", a, b, |_| true));
}

/// To the bit: what was kept and what is computed again are the same.
#[test]
fn a_tape_with_checkpointing_gives_the_same_gradient() {
    let config = dropping();
    let build = |scope: &Scope<'_>| Block::new(scope, config, true);
    let weights = started(&build);
    let x = numbers(Key::new(5), ROWS * TOKENS * WIDTH);
    let gradient = |device: &Device| {
        let leaf = |x: Tensor<1>| Tensor::<1>::from_data(x.into_data(), device).require_grad();
        let leaves: Vec<_> = weights.tensors(&cpu()).into_iter().map(leaf).collect();
        let block = weights.bind(&leaves, build).expect("binds");
        let shape = [ROWS, TOKENS, WIDTH];
        let x = Tensor::<3>::from_data(TensorData::new(x.clone(), shape), device);
        let y = block.fused(&x, TOKENS, None, &Pass::training(Key::new(7), 5)).expect("native");
        let mut grads = y.square().sum().backward();
        let mut gradient = vec![0.0; weights.values.len()];
        weights.add_gradient(&leaves, &mut grads, &mut gradient).expect("reads");
        gradient
    };
    let kept = gradient(&cpu().autodiff());
    assert!(kept.iter().any(|slope| *slope != 0.0));
    assert_eq!(gradient(&cpu().autodiff().gradient_checkpointing()), kept);
}

/// To the bit: neither on the rows beside it, nor on the tape.
#[test]
fn a_rows_output_depends_on_nothing_but_the_row() {
    let build = |scope: &Scope<'_>| Block::new(scope, BLOCK, true);
    let weights = started(&build);
    let block = weights.bind(&weights.tensors(&cpu()), build).expect("binds");
    let x = numbers(Key::new(5), ROWS * TOKENS * WIDTH);
    let output = |x: &[f32]| {
        let shape = [x.len() / (TOKENS * WIDTH), TOKENS, WIDTH];
        let x = Tensor::<3>::from_data(TensorData::new(x.to_vec(), shape), &cpu());
        read(block.fused(&x, TOKENS, None, &Pass::plain()).expect("native")).expect("reads")
    };
    let all = output(&x);
    for (x, y) in x.chunks(TOKENS * WIDTH).zip(all.chunks(TOKENS * WIDTH)) {
        assert_eq!(output(x), y);
    }
    let taped = run(&weights, &build, (&x, [ROWS, TOKENS, WIDTH]), &|_| 1.0, &|block, x| {
        block.fused(&x, TOKENS, None, &Pass::plain()).expect("native")
    });
    assert_eq!(taped[0], all);
}

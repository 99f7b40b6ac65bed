//! How Burn's tape takes an operation on arrays whose gradient is written by hand.
//!
//! On a tape with gradient checkpointing an operation keeps nothing but its inputs, and is computed
//! again when its gradient is wanted.

use std::{fmt::Debug, marker::PhantomData, sync::Arc};

use burn::{
    backend::{
        Autodiff, AutodiffBackend, BackendTensor, DispatchAutodiffContext, DispatchTensor,
        DispatchTensorKind, Flex, GradientCheckpointingStrategy, TensorMetadata,
        autodiff::{
            checkpoint::{
                base::Checkpointer,
                strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing},
            },
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        flex::FlexTensor,
        tensor::FloatTensor,
    },
    tensor::{Tensor, TensorData},
};

/// A function of `N` arrays.
pub(crate) trait Operation<const N: usize>: Debug + Send + Sync + 'static {
    /// What the gradient needs besides inputs and output.
    type Kept: Debug + Send + Sync + 'static;

    /// The output, and what is kept if it `keeps`.
    fn forward(&self, inputs: [&[f32]; N], keeps: bool) -> (Vec<f32>, Self::Kept);

    /// The slopes of the inputs from those of the output, each of its input's length.
    fn gradient(
        &self,
        inputs: [&[f32]; N],
        kept: &Self::Kept,
        output: &[f32],
        slopes: &[f32],
    ) -> [Vec<f32>; N];
}

/// A tensor on a tape.
type Tracked = FloatTensor<Autodiff<Flex>>;

/// A tensor for [`apply`].
pub(crate) fn input<const D: usize>(x: &Tensor<D>) -> DispatchTensor {
    x.clone().into_dispatch()
}

/// Whether `x` is the processor's, with a tape or without: only such tensors can be given to
/// [`apply`].
pub(crate) fn is_native<const D: usize>(x: &Tensor<D>) -> bool {
    let x = x.clone().into_dispatch();
    plain(&x).is_some() || tracked(&x).is_some()
}

fn plain(x: &DispatchTensor) -> Option<FlexTensor> {
    if let DispatchTensorKind::Flex(BackendTensor::Float(x)) = &x.kind {
        return Some(x.to_contiguous());
    }
    None
}

fn tracked(x: &DispatchTensor) -> Option<Tracked> {
    if let DispatchTensorKind::Autodiff(x) = &x.kind
        && let DispatchTensorKind::Flex(BackendTensor::Autodiff(x)) = &**x
    {
        return Some(x.clone());
    }
    None
}

/// Stands for an input that an operation does not read.
fn nothing() -> FlexTensor {
    FlexTensor::from_data(TensorData::new(vec![0.0_f32], [1]))
}

/// Applies `operation` to tensors of the processor, the first of which says whether there is a tape.
/// None if they are another device's.
pub(crate) fn apply<const N: usize, const D: usize, O: Operation<N>>(
    operation: O,
    inputs: &[Option<DispatchTensor>; N],
    shape: [usize; D],
) -> Option<Tensor<D>> {
    let first = inputs.first()?.as_ref()?;
    if plain(first).is_some() {
        let all = inputs.iter().map(|x| x.as_ref().map_or_else(|| Some(nothing()), plain));
        let all: Vec<FlexTensor> = all.collect::<Option<_>>()?;
        let all: [FlexTensor; N] = all.try_into().ok()?;
        let (out, _) = operation.forward(all.each_ref().map(values), false);
        return Some(Tensor::from_primitive::<Flex>(tensor(out, shape)));
    }
    let lifted = || Some(Autodiff::<Flex>::from_inner(nothing()));
    let all = inputs.iter().map(|x| x.as_ref().map_or_else(lifted, tracked));
    let all: Vec<Tracked> = all.collect::<Option<_>>()?;
    let all: [Tracked; N] = all.try_into().ok()?;
    let again = GradientCheckpointingStrategy::Balanced;
    Some(if first.autodiff == DispatchAutodiffContext::Enabled(again) {
        let out = record::<BalancedCheckpointing, _, _, _>(operation, all, shape, false);
        Tensor::from_primitive::<Autodiff<Flex, BalancedCheckpointing>>(out)
    } else {
        let out = record::<NoCheckpointing, _, _, _>(operation, all, shape, true);
        Tensor::from_primitive::<Autodiff<Flex>>(out)
    })
}

/// Applies `operation` on a tape; what it keeps is kept if it `keeps`.
fn record<C: CheckpointStrategy, const N: usize, const D: usize, O: Operation<N>>(
    operation: O,
    inputs: [Tracked; N],
    shape: [usize; D],
    keeps: bool,
) -> Tracked {
    let nodes = inputs.each_ref().map(Tracked::node);
    let inputs = inputs.map(|x| x.into_primitive().to_contiguous());
    match Record(PhantomData::<O>).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(tape) => {
            let (out, kept) = operation.forward(inputs.each_ref().map(values), keeps);
            let (out, kept) = (tensor(out, shape), keeps.then_some(kept));
            let done = Done { operation, inputs, kept, output: out.clone() };
            tape.finish(Arc::new(done), out)
        }
        OpsKind::UnTracked(tape) => {
            let (out, _) = operation.forward(inputs.each_ref().map(values), false);
            tape.finish(tensor(out, shape))
        }
    }
}

/// The numbers of a contiguous tensor.
fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().unwrap_or_default()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The kind of a step on the tape.
#[derive(Debug)]
struct Record<O>(PhantomData<O>);

/// A step on the tape.
#[derive(Debug)]
struct Done<O: Operation<N>, const N: usize> {
    operation: O,
    inputs: [FlexTensor; N],
    kept: Option<O::Kept>,
    output: FlexTensor,
}

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Record<O> {
    type State = Arc<Done<O, N>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Done { operation, inputs, kept, output } = &*ops.state;
        let slopes = grads.consume::<Flex>(&ops.node).to_contiguous();
        let arrays = inputs.each_ref().map(values);
        let again;
        let kept = if let Some(kept) = kept {
            kept
        } else {
            again = operation.forward(arrays, true).1;
            &again
        };
        let all = operation.gradient(arrays, kept, values(output), values(&slopes));
        for ((parent, input), slopes) in ops.parents.into_iter().zip(inputs).zip(all) {
            if let Some(node) = parent {
                let slopes = FlexTensor::from_data(TensorData::new(slopes, input.shape()));
                grads.register::<Flex>(node.id, slopes);
            }
        }
    }
}

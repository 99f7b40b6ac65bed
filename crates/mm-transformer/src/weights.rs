//! The weights of a net: one flat array on the host, whose parts have names and shapes.
//!
//! A net is a function of its configuration and its [`Weights`]. Its layers ask a [`Scope`] for
//! their parameters by name, and the scope either makes them ([`initialise`]) or looks them up
//! ([`Weights::bind`]); one code path says which parameters a net has. Because the array is flat,
//! the optimiser, averages of weights, gradient norms, and checkpoints are loops over slices.
//!
//! On disk weights are [safetensors](https://docs.rs/safetensors): names, shapes, and little-endian
//! numbers, readable by other tools.

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::Range};

use burn::tensor::{Device, Gradients, Tensor, TensorData, Transaction};
use mm_core::{Error, Result};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{device::cpu, random::Key};

/// What the optimiser does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Trained with weight decay: the matrices of linear maps.
    Decayed,
    /// Trained without weight decay: biases, norms, embeddings.
    Free,
    /// Not trained: constants that belong to the net.
    Fixed,
}

/// How a parameter starts.
#[derive(Debug, Clone)]
pub(crate) enum Init {
    Zeros,
    Ones,
    /// Uniform in [−bound, bound].
    Uniform(f64),
    /// Uniform in [−bound, bound], but 0 in the given ranges.
    UniformBut(f64, Vec<Range<usize>>),
    /// Normal with mean 0 and the given standard deviation.
    Normal(f64),
    /// Given numbers.
    Values(Vec<f32>),
}

impl Init {
    fn make(self, len: usize, key: Key) -> Vec<f32> {
        let draw = |f: &dyn Fn(u64) -> f64| (0..len as u64).map(|i| f(i) as f32).collect();
        match self {
            Self::Zeros => vec![0.0; len],
            Self::Ones => vec![1.0; len],
            Self::Uniform(bound) => draw(&|i| bound * (2.0 * key.uniform(i) - 1.0)),
            Self::UniformBut(bound, zeros) => {
                let mut values = Self::Uniform(bound).make(len, key);
                for range in zeros {
                    values[range].fill(0.0);
                }
                values
            }
            Self::Normal(deviation) => draw(&|i| deviation * key.normal(i)),
            Self::Values(values) => values,
        }
    }
}

/// Name, shape, and place of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) range: Range<usize>,
}

/// All parameters of a net.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct Weights {
    specs: Vec<Spec>,
    by_name: BTreeMap<String, usize>,
    pub(crate) values: Vec<f32>,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({} numbers in {} arrays)", self.values.len(), self.specs.len())
    }
}

/// The precision in which weights are stored; they are trained and used in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Storage {
    /// 32 bits: to the bit what was trained.
    #[default]
    F32,
    /// 16 bits with a mantissa of 8: half the size, three decimal digits less.
    Bf16,
}

impl Weights {
    pub(crate) fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The numbers of one parameter.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&[f32]> {
        self.by_name.get(name).map(|&at| &self.values[self.specs[at].range.clone()])
    }

    fn push(&mut self, name: String, shape: Vec<usize>, role: Role, values: &[f32]) {
        let first = self.values.len();
        self.values.extend(values);
        self.by_name.insert(name.clone(), self.specs.len());
        self.specs.push(Spec { name, shape, role, range: first..self.values.len() });
    }

    /// The numbers rounded to what `storage` can hold.
    pub(crate) fn rounded(mut self, storage: Storage) -> Self {
        if storage == Storage::Bf16 {
            for x in &mut self.values {
                *x = f32::from_bits(u32::from(to_bf16(*x)) << 16);
            }
        }
        self
    }

    /// Takes the numbers of `other` for every parameter that both have in the same shape, and says
    /// how many parameters were taken.
    pub(crate) fn adopt(&mut self, other: &Self) -> usize {
        let mut taken = 0;
        for spec in &self.specs {
            let Some(&at) = other.by_name.get(&spec.name) else { continue };
            let theirs = &other.specs[at];
            if theirs.shape == spec.shape {
                let values = &other.values[theirs.range.clone()];
                self.values[spec.range.clone()].copy_from_slice(values);
                taken += 1;
            }
        }
        taken
    }

    /// The parameters as tensors on `device`, one a parameter.
    pub(crate) fn tensors(&self, device: &Device) -> Vec<Tensor<1>> {
        let tensor = |spec: &Spec| {
            let values = self.values[spec.range.clone()].to_vec();
            Tensor::from_data(TensorData::new(values, [spec.range.len()]), device)
        };
        self.specs.iter().map(tensor).collect()
    }

    /// Builds a net over tensors that [`tensors`](Weights::tensors) made.
    pub(crate) fn bind<N>(
        &self,
        tensors: &[Tensor<1>],
        build: impl FnOnce(&Scope<'_>) -> Result<N>,
    ) -> Result<N> {
        let source = Source::Bound { weights: self, tensors };
        build(&Scope { source: &source, path: String::new() })
    }

    /// The parameters as the leaves of a tape; those that are trained have slopes.
    pub(crate) fn leaves(&self, tensors: &[Tensor<1>]) -> Vec<Tensor<1>> {
        let leaf = |(spec, tensor): (&Spec, &Tensor<1>)| {
            let leaf = tensor.clone().autodiff();
            if spec.role == Role::Fixed { leaf } else { leaf.require_grad() }
        };
        self.specs.iter().zip(tensors).map(leaf).collect()
    }

    /// Adds the slopes that a tape has for its leaves to `gradient`, in the layout of `values`.
    pub(crate) fn add_gradient(
        &self,
        leaves: &[Tensor<1>],
        grads: &mut Gradients,
        gradient: &mut [f32],
    ) -> Result<()> {
        let (mut ranges, mut slopes) = (Vec::new(), Transaction::default());
        for (spec, leaf) in self.specs.iter().zip(leaves) {
            if let Some(of_leaf) = leaf.grad_remove(grads) {
                ranges.push(spec.range.clone());
                slopes = slopes.register(of_leaf);
            }
        }
        // All at once: a device is waited for once.
        for (range, slopes) in ranges.into_iter().zip(slopes.try_execute().map_err(engine)?) {
            let sums = gradient[range].iter_mut().zip(slopes.iter::<f32>());
            sums.for_each(|(sum, slope)| *sum += slope);
        }
        Ok(())
    }

    /// The weights as a safetensors file.
    pub(crate) fn to_bytes(&self, storage: Storage) -> Result<Vec<u8>> {
        let bytes = |spec: &Spec| -> Vec<u8> {
            let values = &self.values[spec.range.clone()];
            match storage {
                Storage::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                Storage::Bf16 => values.iter().flat_map(|&x| to_bf16(x).to_le_bytes()).collect(),
            }
        };
        let dtype = match storage {
            Storage::F32 => Dtype::F32,
            Storage::Bf16 => Dtype::BF16,
        };
        let blocks: Vec<Vec<u8>> = self.specs.iter().map(bytes).collect();
        let fail = |e| Error::data("weights", "arrays that safetensors can hold", e);
        let views = self.specs.iter().zip(&blocks).map(|(spec, block)| {
            let view = TensorView::new(dtype, spec.shape.clone(), block).map_err(fail)?;
            Ok((spec.name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        safetensors::serialize(views, None).map_err(fail)
    }

    /// Reads a safetensors file. What the parameters are for is not in it: all are
    /// [`Role::Free`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = |got: String| Error::corrupt("weights", "a safetensors file", got);
        let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
        let mut weights = Self::default();
        for (name, view) in file.iter() {
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => {
                    let (words, _) = view.data().as_chunks::<4>();
                    words.iter().map(|&four| f32::from_le_bytes(four)).collect()
                }
                Dtype::BF16 => {
                    let (words, _) = view.data().as_chunks::<2>();
                    let widen = |&two| f32::from_bits(u32::from(u16::from_le_bytes(two)) << 16);
                    words.iter().map(widen).collect()
                }
                other => return Err(damaged(format!("numbers of type {other:?}"))),
            };
            if let Some(odd) = values.iter().find(|x| !x.is_finite()) {
                return Err(Error::corrupt(format_args!("weights `{name}`"), "finite", odd));
            }
            weights.push(name.to_owned(), view.shape().to_vec(), Role::Free, &values);
        }
        Ok(weights)
    }
}

/// Rounds to the nearest 16-bit float, ties to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The numbers of a tensor, on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(engine)
}

/// An error of Burn as ours.
pub(crate) fn engine(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Engine { engine: "burn", source: Box::new(error) }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope(`{}`)", self.path)
    }
}

/// Makes the weights of a net as `build` asks for them.
pub(crate) fn initialise<N>(
    key: Key,
    device: &Device,
    build: impl FnOnce(&Scope<'_>) -> Result<N>,
) -> Result<Weights> {
    let made = RefCell::new(Weights::default());
    build(&Scope { source: &Source::Fresh { key, device, made: &made }, path: String::new() })?;
    Ok(made.into_inner())
}

/// Where layers get their parameters: a prefix of names.
pub struct Scope<'a> {
    source: &'a Source<'a>,
    path: String,
}

enum Source<'a> {
    Fresh { key: Key, device: &'a Device, made: &'a RefCell<Weights> },
    Bound { weights: &'a Weights, tensors: &'a [Tensor<1>] },
}

impl Scope<'_> {
    /// The scope of the part called `name`.
    pub(crate) fn part(&self, name: impl fmt::Display) -> Self {
        Self { source: self.source, path: self.full(name) }
    }

    fn full(&self, name: impl fmt::Display) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// Where the parameters are.
    pub(crate) fn device(&self) -> Device {
        match self.source {
            Source::Fresh { device, .. } => (*device).clone(),
            Source::Bound { tensors, .. } => tensors.first().map_or_else(cpu, Tensor::device),
        }
    }

    /// The parameter called `name`.
    pub(crate) fn param<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        role: Role,
        init: Init,
    ) -> Result<Tensor<D>> {
        let name = self.full(name);
        match self.source {
            Source::Fresh { key, device, made } => {
                let values = init.make(shape.iter().product(), key.named(&name));
                made.borrow_mut().push(name, shape.to_vec(), role, &values);
                Ok(Tensor::from_data(TensorData::new(values, shape), *device))
            }
            Source::Bound { weights, tensors } => {
                let found =
                    weights.by_name.get(&name).map(|&at| (&weights.specs[at], &tensors[at]));
                match found {
                    Some((spec, tensor)) if spec.shape == shape => {
                        Ok(tensor.clone().reshape(shape))
                    }
                    found => Err(Error::corrupt(
                        format_args!("weights `{name}`"),
                        format_args!("shape {shape:?}"),
                        found.map_or("none".to_owned(), |(spec, _)| format!("{:?}", spec.shape)),
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Weights {
        initialise(Key::new(5), &cpu(), |scope| {
            scope.part("a").param("w", [3, 2], Role::Decayed, Init::Normal(1.0))?;
            scope.param("b", [4], Role::Free, Init::Uniform(0.5))
        })
        .expect("makes")
    }

    #[test]
    fn weights_survive_their_file_to_the_bit() {
        let weights = sample();
        let bytes = weights.to_bytes(Storage::F32).expect("writes");
        let opened = Weights::from_bytes(&bytes).expect("reads");
        for spec in weights.specs() {
            assert_eq!(opened.get(&spec.name), weights.get(&spec.name), "{}", spec.name);
        }
        assert_eq!(opened.to_bytes(Storage::F32).expect("writes"), bytes);
        for cut in 0..bytes.len() {
            assert!(Weights::from_bytes(&bytes[..cut]).is_err(), "cut to {cut} bytes");
        }
    }

    #[test]
    fn half_precision_keeps_eight_bits_of_mantissa_and_is_stable() {
        let weights = sample();
        let rounded = weights.clone().rounded(Storage::Bf16);
        for (x, r) in weights.values.iter().zip(&rounded.values) {
            assert!((x - r).abs() <= x.abs() / 256.0, "{x} became {r}");
        }
        let opened = Weights::from_bytes(&rounded.to_bytes(Storage::Bf16).expect("writes"));
        let opened = opened.expect("reads");
        assert_eq!(opened.get("a.w"), rounded.get("a.w"));
    }

    #[test]
    fn a_parameter_of_another_shape_or_none_is_refused_by_name() {
        let weights = sample();
        let tensors = weights.tensors(&cpu());
        let ask = |name: &str, shape: [usize; 2]| {
            weights.bind(&tensors, |scope| scope.param(name, shape, Role::Free, Init::Zeros))
        };
        assert!(ask("a.w", [3, 2]).is_ok());
        let turned = ask("a.w", [2, 3]).expect_err("turned").to_string();
        assert_eq!(turned, "weights `a.w` is damaged: expected shape [2, 3], got [3, 2]");
        assert!(ask("c", [1, 1]).expect_err("none").to_string().ends_with("got none"));
    }

    #[test]
    fn initial_numbers_depend_on_the_name_and_not_on_the_order() {
        let weights = sample();
        let turned = initialise(Key::new(5), &cpu(), |scope| {
            scope.param("b", [4], Role::Free, Init::Uniform(0.5))?;
            scope.part("a").param("w", [3, 2], Role::Decayed, Init::Normal(1.0))
        });
        let turned = turned.expect("makes");
        assert_eq!(turned.get("a.w"), weights.get("a.w"));
        assert_eq!(turned.get("b"), weights.get("b"));
    }
}

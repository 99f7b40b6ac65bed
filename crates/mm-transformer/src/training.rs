//! The hyper-parameters of the training loop, which all nets share.

use mm_core::{ClassWeight, EarlyStopping, Metric, ParamError};
use serde::{Deserialize, Serialize};

use crate::{device::Device, loss::Objective};

/// How a net is trained; plain data, checked with the params that hold it.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `epochs` | 30 | 1 to 100 000 | passes over the data at most |
/// | `batch_size` | 256 | 1 to 10⁶ | rows of a step; all rows if there are fewer |
/// | `micro_batch` | none | 1 to 10⁶ | rows of a step that are on a device at once; none: 32 on the processor, elsewhere the batch, or the device's part of it |
/// | `memory` | none | ≥ 1 | bytes that a fit may take beyond its data; smaller pieces and fewer at once keep it |
/// | `recompute` | false | | whether what lies within a block is computed once more for its slopes rather than kept: less memory, for one more pass forward; the same fit to the bit |
/// | `learning_rate` | 0.0005 | (0, 1] | at its peak |
/// | `warm_up` | 0.05 | [0, 1) | part of all steps in which the rate rises from 0 |
/// | `cosine` | true | | whether the rate falls to 0 after the rise |
/// | `weight_decay` | 1e-5 | [0, 1] | of matrices of linear maps; biases, norms, and embeddings have none |
/// | `clip_norm` | 1.0 | > 0 | longest gradient; a longer one is shortened |
/// | `average` | 0.0 | [0, 1) | part of the running mean of the weights that stays a step; 0: no mean |
/// | `label_smoothing` | 0.0 | [0, 1) | classes only: see the task's loss |
/// | `focus` | 0.0 | [0, 10] | classes only: exponent of the focal loss; not together with smoothing |
/// | `class_weight` | none | | of each class, on top of row weights |
/// | `objective` | mean | | regression only: the mean, or quantiles |
/// | `hide` | 0.0 | [0, 1) | part of the cells that are hidden in each step: numbers as missing, levels as unknown |
/// | `early_stopping` | 16 epochs | | when to stop before `epochs`; needs validation data |
/// | `precision` | `f32` | | of the factors of matrix products while the net is trained |
/// | `device` | `cpu` | | where to train; predictions are made on the processor |
/// | `more_devices` | none | at most 63 | devices that share each batch with `device`, each a part of its rows |
///
/// Without validation data all `epochs` are run and the last weights are taken, with it the best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainingParams {
    /// Passes over the data at most.
    pub epochs: usize,
    /// Rows of a step.
    pub batch_size: usize,
    /// Rows of a step that are on a device at once.
    pub micro_batch: Option<usize>,
    /// Bytes that a fit may take beyond its data.
    pub memory: Option<usize>,
    /// Whether what lies within a block is computed once more for its slopes rather than kept.
    pub recompute: bool,
    /// The learning rate at its peak.
    pub learning_rate: f64,
    /// Part of all steps in which the rate rises.
    pub warm_up: f64,
    /// Whether the rate falls after the rise.
    pub cosine: bool,
    /// Decay of the matrices of linear maps.
    pub weight_decay: f64,
    /// Longest gradient.
    pub clip_norm: f64,
    /// Part of the running mean of the weights that stays a step.
    pub average: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
    /// Exponent of the focal loss.
    pub focus: f64,
    /// Factors by class.
    pub class_weight: ClassWeight,
    /// What a regression predicts.
    pub objective: Objective,
    /// Part of the cells that are hidden in each step.
    pub hide: f64,
    /// When to stop early.
    pub early_stopping: Option<EarlyStopping>,
    /// Precision of the factors of matrix products.
    pub precision: Precision,
    /// Where to train.
    pub device: Device,
    /// Devices that share each batch with `device`.
    pub more_devices: Vec<Device>,
}

impl Default for TrainingParams {
    fn default() -> Self {
        Self {
            epochs: 30,
            batch_size: 256,
            micro_batch: None,
            memory: None,
            recompute: false,
            learning_rate: 5e-4,
            warm_up: 0.05,
            cosine: true,
            weight_decay: 1e-5,
            clip_norm: 1.0,
            average: 0.0,
            label_smoothing: 0.0,
            focus: 0.0,
            class_weight: ClassWeight::None,
            objective: Objective::Mean,
            hide: 0.0,
            early_stopping: Some(EarlyStopping::after(16)),
            precision: Precision::F32,
            device: Device::Cpu,
            more_devices: Vec::new(),
        }
    }
}

/// The precision of the factors of matrix products in blocks and layers while a net is trained.
///
/// Weights and their steps, sums, norms, shares of attention, scores, and losses are of 32 bits in any
/// case, and so are predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32 and a mantissa of 8 (Kalamkar et al. 2019, "A study of BFLOAT16
    /// for deep learning training"), for devices that multiply them faster. The processor does not: there
    /// it is the same rounding at several times the cost.
    Bf16,
}

/// Rows that the processor works on at once: few enough for what lies between the layers to stay in
/// its caches. The same whatever the number of threads, so that sums are too.
const CPU_MICRO_BATCH: usize = 32;

impl TrainingParams {
    /// Checks the fields; `name` is that of the parameter that holds them.
    pub(crate) fn check(&self, name: &str) -> Result<(), ParamError> {
        let field = |field: &str| format!("{name}.{field}");
        let count = |of: &str, x: usize, most: usize| {
            let ok = 1 <= x && x <= most;
            ParamError::ensure(ok, field(of), x, format!("a number from 1 to {most}"))
        };
        count("epochs", self.epochs, 100_000)?;
        count("batch_size", self.batch_size, 1_000_000)?;
        self.micro_batch.map_or(Ok(()), |x| count("micro_batch", x, 1_000_000))?;
        let x = self.memory;
        x.map_or(Ok(()), |x| ParamError::ensure(1 <= x, field("memory"), x, "at least 1"))?;
        let x = self.learning_rate;
        ParamError::ensure(0.0 < x && x <= 1.0, field("learning_rate"), x, "above 0, at most 1")?;
        let parts = [
            ("warm_up", self.warm_up),
            ("average", self.average),
            ("label_smoothing", self.label_smoothing),
            ("hide", self.hide),
        ];
        for (of, x) in parts {
            ParamError::ensure(0.0 <= x && x < 1.0, field(of), x, "at least 0 and below 1")?;
        }
        let x = self.weight_decay;
        ParamError::ensure(0.0 <= x && x <= 1.0, field("weight_decay"), x, "from 0 to 1")?;
        let x = self.clip_norm;
        let ok = 0.0 < x && x.is_finite();
        ParamError::ensure(ok, field("clip_norm"), x, "a finite number above 0")?;
        let x = self.focus;
        ParamError::ensure(0.0 <= x && x <= 10.0, field("focus"), x, "from 0 to 10")?;
        let ok = x == 0.0 || self.label_smoothing == 0.0;
        ParamError::ensure(ok, field("focus"), x, "0 where `label_smoothing` is not 0")?;
        self.class_weight.check(&field("class_weight"))?;
        self.objective.check(&field("objective"))?;
        let n = self.more_devices.len();
        ParamError::ensure(n <= 63, field("more_devices"), n, "at most 63 devices")?;
        let stopping = self.early_stopping.as_ref();
        stopping.map_or(Ok(()), |stopping| stopping.check(&field("early_stopping")))
    }

    /// Where to train: one device or more.
    pub(crate) fn devices(&self) -> impl Iterator<Item = Device> {
        std::iter::once(self.device).chain(self.more_devices.iter().copied())
    }

    /// Rows that are on a device at once.
    pub(crate) fn rows_at_once(&self, batch: usize) -> usize {
        let rows = self.micro_batch.unwrap_or(if self.devices().any(|d| d == Device::Cpu) {
            CPU_MICRO_BATCH
        } else {
            batch.div_ceil(self.devices().count())
        });
        rows.min(batch)
    }

    /// What early stopping watches, if it was said.
    pub(crate) fn metric(&self) -> Option<Metric> {
        self.early_stopping.as_ref().and_then(|stopping| stopping.metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(name: &str, edit: impl FnOnce(&mut TrainingParams)) {
        let mut params = TrainingParams::default();
        edit(&mut params);
        assert_eq!(params.check("training").expect_err(name).name, format!("training.{name}"));
    }

    #[test]
    fn every_edge_of_a_domain_is_checked() {
        TrainingParams::default().check("training").expect("the defaults are sound");
        refuses("epochs", |p| p.epochs = 0);
        refuses("batch_size", |p| p.batch_size = 0);
        refuses("micro_batch", |p| p.micro_batch = Some(0));
        refuses("memory", |p| p.memory = Some(0));
        refuses("more_devices", |p| p.more_devices = vec![Device::Cpu; 64]);
        for rate in [0.0, 1.1, f64::NAN] {
            refuses("learning_rate", |p| p.learning_rate = rate);
        }
        refuses("warm_up", |p| p.warm_up = 1.0);
        refuses("weight_decay", |p| p.weight_decay = -1.0);
        refuses("clip_norm", |p| p.clip_norm = 0.0);
        refuses("average", |p| p.average = 1.0);
        refuses("label_smoothing", |p| p.label_smoothing = f64::NAN);
        refuses("focus", |p| p.focus = 11.0);
        refuses("focus", |p| (p.focus, p.label_smoothing) = (1.0, 0.1));
        refuses("hide", |p| p.hide = 1.0);
        refuses("objective.levels", |p| p.objective = Objective::Quantiles { levels: vec![] });
        refuses("early_stopping.rounds", |p| p.early_stopping = Some(EarlyStopping::after(0)));
    }
}

//! Where tensors live and are computed.

use std::{fmt, str::FromStr};

use burn::tensor::{Device as BurnDevice, FloatDType};
use mm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::training::Precision;

/// A device to train on. Written `cpu`, `cuda:0`, `wgpu:1`.
///
/// Which ones this build knows depends on the features `cuda` and `wgpu`; which ones the machine
/// has is found when a fit begins, by enumeration: a device that is not there is an error that
/// names those that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device by index.
    Cuda(usize),
    /// A device of the machine's graphics interface (Vulkan, Metal, Direct3D) by index.
    Wgpu(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, index) = text.split_once(':').unwrap_or((text, "0"));
        match (kind, index.parse()) {
            ("cpu", _) if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Ok(index)) => Ok(Self::Cuda(index)),
            ("wgpu", Ok(index)) => Ok(Self::Wgpu(index)),
            _ => Err(Error::data("device", "`cpu`, `cuda:0`, or `wgpu:0`", text)),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl Device {
    /// The devices that this build can use on this machine.
    pub fn list() -> Vec<Self> {
        let listed = |found: usize, of: fn(usize) -> Self| (0..found).map(of);
        let mut all = vec![Self::Cpu];
        all.extend(listed(cuda().len(), Self::Cuda));
        all.extend(listed(wgpu().len(), Self::Wgpu));
        all
    }

    /// The device, if the machine has it. Never built on trust: Burn makes devices that do not
    /// exist and panics at their first use.
    pub(crate) fn open(self) -> Result<BurnDevice> {
        let found = match self {
            Self::Cpu => Some(cpu()),
            Self::Cuda(index) => cuda().into_iter().nth(index),
            Self::Wgpu(index) => wgpu().into_iter().nth(index),
        };
        found.ok_or_else(|| {
            let names: Vec<String> = Self::list().iter().map(Self::to_string).collect();
            Error::data("device", format_args!("one of {}", names.join(", ")), self)
        })
    }

    /// The device, if it can multiply in `precision`.
    pub(crate) fn open_for(self, precision: Precision) -> Result<BurnDevice> {
        let device = self.open()?;
        if precision == Precision::Bf16 && !device.supports_dtype(FloatDType::BF16) {
            let place = format_args!("training.precision on {self}");
            return Err(Error::data(place, "f32: the device has no bf16", "bf16"));
        }
        Ok(device)
    }
}

/// The processor's device.
pub(crate) fn cpu() -> BurnDevice {
    BurnDevice::flex()
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<BurnDevice> {
    BurnDevice::enumerate(burn::tensor::DeviceType::Cuda).into_vec()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<BurnDevice> {
    Vec::new()
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Vec<BurnDevice> {
    BurnDevice::enumerate(burn::tensor::DeviceType::Wgpu).into_vec()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Vec<BurnDevice> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_survives_its_text() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Wgpu(12)] {
            assert_eq!(device.to_string().parse::<Device>().expect("reads"), device);
        }
        assert_eq!("cuda".parse::<Device>().expect("reads"), Device::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "cuda:0:0"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_names_those_that_are() {
        let error = Device::Cuda(4096).open().expect_err("no machine has so many");
        assert!(error.to_string().starts_with("device: expected one of cpu"), "{error}");
        assert!(error.to_string().ends_with("got cuda:4096"), "{error}");
        assert!(Device::Cpu.open().is_ok());
        assert!(Device::list().contains(&Device::Cpu));
    }
}

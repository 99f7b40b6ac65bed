//! Nets trained on every device that this build and this machine have besides the processor.
//!
//! With neither of the features `cuda` and `wgpu`, or on a machine without such a device, nothing is
//! compared, and the output says so.

use mm_core::{BoxLearner, Dataset, FitContext, Frame, Matrix, Params as _};
use mm_transformer::{Device, FtTransformerParams, Precision, TabmParams, TrainingParams};

fn data() -> Dataset {
    let x: Vec<f32> = (0..480).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let y = x.chunks(2).map(|x| f64::from(x[0] * x[1])).collect();
    Dataset::regression(Frame::new(x, 2).expect("valid"), y).expect("valid")
}

/// What both nets predict that were trained on `device`.
fn predictions(device: Device, precision: Precision) -> [Matrix; 2] {
    let data = data();
    let mut training = TrainingParams::default();
    (training.epochs, training.batch_size, training.device) = (3, 64, device);
    training.precision = precision;
    let mut ft = FtTransformerParams::default();
    (ft.width, ft.heads, ft.blocks, ft.training) = (32, 4, 2, training.clone());
    let mut tabm = TabmParams::default();
    (tabm.members, tabm.width, tabm.training) = (4, 32, training);
    let ctx = FitContext::seeded(1);
    let ft: BoxLearner = Box::new(ft.build().expect("valid"));
    let tabm: BoxLearner = Box::new(tabm.build().expect("valid"));
    [ft, tabm].map(|learner| {
        let model = learner.fit_boxed(&data, &ctx);
        let model = model.unwrap_or_else(|e| panic!("{device}: {}", e.chain()));
        model.predict(data.frame()).expect("predicts")
    })
}

#[test]
fn every_device_gives_the_processors_fit_but_for_roundings() {
    let others: Vec<Device> = Device::list().into_iter().filter(|d| *d != Device::Cpu).collect();
    if others.is_empty() {
        eprintln!("not run: this build and machine have no device besides the processor");
        return;
    }
    // Steps of AdamW have the length of the rate whatever the gradient's, so roundings of gradients
    // near 0 become steps: twelve of 0.002 at most. With products of bf16 gradients differ by a
    // hundredth besides.
    for (precision, tolerance) in [(Precision::F32, 0.01), (Precision::Bf16, 0.05)] {
        let expected = predictions(Device::Cpu, precision);
        for &device in &others {
            for (found, expected) in predictions(device, precision).iter().zip(&expected) {
                for (y, e) in found.values().iter().zip(expected.values()) {
                    assert!((y - e).abs() < tolerance, "{device}, {precision:?}: {y}, not {e}");
                }
            }
        }
    }
}

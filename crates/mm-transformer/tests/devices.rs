//! Nets trained on every device that this build and this machine have besides the processor.
//!
//! With neither of the features `cuda` and `wgpu`, or on a machine without such a device, nothing is
//! compared, and the output says so.

#![expect(clippy::print_stderr, reason = "what was not run is said")]

use mm_core::{
    BoxLearner, Column, Dataset, FitContext, Frame, Learner as _, Levels, Matrix, Model as _,
    Params as _, Schema,
};
use mm_transformer::{
    Device, FtTransformerParams, Precision, SequenceTransformerParams, TabmParams, TrainingParams,
};

const ROWS: usize = 480;

/// Two numbers, one of them missing here and there, and a level a row; of two series in turns.
fn data() -> Dataset {
    let numbers = ["a", "b"].map(Column::numeric);
    let levels = Levels::new(["p", "q", "r"]).expect("distinct");
    let columns = numbers.into_iter().chain([Column::categorical("c", levels)]);
    let number = |i: usize| (i * 37 % 101) as f32 / 50.0 - 1.0;
    let row = |i: usize| {
        let second = if i.is_multiple_of(11) { f32::NAN } else { number(2 * i + 1) };
        [number(2 * i), second, (i % 3) as f32]
    };
    let target = (0..ROWS).map(|i| f64::from(number(2 * i) * number(2 * i + 1))).collect();
    let schema = Schema::new(columns).expect("distinct");
    let frame = Frame::with_schema((0..ROWS).flat_map(row).collect(), schema).expect("valid");
    let frame = frame.with_times((0..ROWS as i64).map(|i| i / 2).collect()).expect("length");
    let frame = frame.with_entities((0..ROWS as i64).map(|i| i % 2).collect()).expect("length");
    Dataset::regression(frame, target).expect("valid")
}

fn training(device: Device, edit: impl FnOnce(&mut TrainingParams)) -> TrainingParams {
    let mut training = TrainingParams::default();
    (training.epochs, training.batch_size, training.device) = (3, 64, device);
    edit(&mut training);
    training
}

/// What each kind of net predicts that was trained so.
fn predictions(training: &TrainingParams) -> [Matrix; 3] {
    let data = data();
    let mut ft = FtTransformerParams::default();
    (ft.width, ft.heads, ft.blocks, ft.training) = (32, 4, 2, training.clone());
    let mut tabm = TabmParams::default();
    (tabm.members, tabm.width, tabm.training) = (4, 32, training.clone());
    let mut sequence = SequenceTransformerParams::default();
    (sequence.width, sequence.heads, sequence.blocks, sequence.window) = (16, 2, 2, 6);
    sequence.training = training.clone();
    let learners: [BoxLearner; 3] = [
        Box::new(ft.build().expect("valid")),
        Box::new(tabm.build().expect("valid")),
        Box::new(sequence.build().expect("valid")),
    ];
    learners.map(|learner| {
        let model = learner.fit_boxed(&data, &FitContext::seeded(1));
        let model = model.unwrap_or_else(|e| panic!("{}: {}", training.device, e.chain()));
        model.predict(data.frame()).expect("predicts")
    })
}

/// The devices besides the processor.
fn others() -> Vec<Device> {
    let others: Vec<Device> = Device::list().into_iter().filter(|d| *d != Device::Cpu).collect();
    if others.is_empty() {
        eprintln!("not run: this build and machine have no device besides the processor");
    }
    others
}

/// Whether `device` can multiply numbers of 16 bits; it is refused before a fit begins if not.
fn has_bf16(device: Device) -> bool {
    let mut params = TabmParams::default();
    params.training = training(device, |p| (p.epochs, p.precision) = (1, Precision::Bf16));
    let learner = params.build().expect("valid");
    match learner.fit(&data(), &FitContext::seeded(1)) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("the device has no bf16"), "{error}");
            false
        }
    }
}

/// The greatest distance of predictions.
fn distance(a: &[Matrix; 3], b: &[Matrix; 3]) -> f64 {
    let values = |all: &[Matrix; 3]| -> Vec<f64> {
        all.iter().flat_map(|matrix| matrix.values().to_vec()).collect()
    };
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_device_gives_the_processors_fit_but_for_roundings() {
    // Steps of AdamW have the length of the rate whatever the gradient's, so roundings of gradients
    // near 0 become steps: twelve of 0.002 at most. With products of bf16 gradients differ by a
    // hundredth besides.
    for (precision, tolerance) in [(Precision::F32, 0.01), (Precision::Bf16, 0.05)] {
        let of = |device| training(device, |p| p.precision = precision);
        for device in others() {
            if precision == Precision::Bf16 && !has_bf16(device) {
                eprintln!("not run: {device} has no bf16");
                continue;
            }
            let (found, expected) = (predictions(&of(device)), predictions(&of(Device::Cpu)));
            let distance = distance(&found, &expected);
            eprintln!("{device}, {precision:?}: {distance:.2e} from the processor's");
            assert!(distance < tolerance, "{device}, {precision:?}: {distance}");
        }
    }
}

#[test]
fn a_device_gives_the_same_fit_each_time() {
    for device in others() {
        let [first, again] = [(); 2].map(|()| predictions(&training(device, |_| {})));
        assert_eq!(first, again, "{device}");
    }
}

#[test]
fn a_device_shares_a_batch_with_the_processor() {
    for device in others() {
        let both = training(Device::Cpu, |p| p.more_devices = vec![device]);
        let distance = distance(&predictions(&both), &predictions(&training(Device::Cpu, |_| {})));
        assert!(distance < 0.01, "{device}: {distance}");
    }
}

#[test]
fn blocks_that_are_computed_once_more_give_the_same_fit() {
    for device in others() {
        let again = training(device, |p| p.recompute = true);
        let distance = distance(&predictions(&again), &predictions(&training(device, |_| {})));
        assert!(distance < 0.01, "{device}: {distance}");
    }
}

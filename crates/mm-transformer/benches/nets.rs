//! What a training step and a prediction cost.
//!
//! ```text
//! cargo bench -p mm-transformer --bench nets                      all, one line of JSON each
//! … -- MODEL THREADS MICRO_BATCH REPEATS                          one: `ft`, `ft_plain`, `tabm`
//! … -- MODEL DEVICE ROWS PRECISION                                a step on another device
//! ```
//!
//! `ft` is the FT-Transformer with its defaults on 28 numeric columns (29 tokens, 3 blocks, width
//! 192), `ft_plain` the same without dropout; a step has 256 rows, or `ROWS`. Times are in milliseconds,
//! the best of the repeats: of the process's processor and by the clock, for 256 rows, and by the clock
//! for one row. Other devices are given 32 steps rather than four. `benches/nets.py` has the same nets in
//! PyTorch.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error, fs, time::Instant};

use mm_core::{BoxLearner, BoxModel, Dataset, FitContext, Frame, Model as _, Params as _};
use mm_transformer::{Device, FtTransformerParams, Precision, TabmParams, TrainingParams};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ROWS: usize = 256;
const COLUMNS: usize = 28;
/// Steps of a measured fit, beyond the first.
const STEPS: usize = 4;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [model, device, rows, precision] = words[..]
        && device.parse::<usize>().is_err()
    {
        return on_device(model, device.parse()?, rows.parse()?, precision);
    }
    if let [model, threads, micro_batch, repeats] = words[..] {
        return measure(model, threads.parse()?, micro_batch.parse()?, repeats.parse()?);
    }
    for model in ["ft", "ft_plain", "tabm"] {
        for threads in [1, 2] {
            measure(model, threads, 32, 3)?;
        }
    }
    Ok(())
}

fn learner(model: &str, brief: impl Fn(&mut TrainingParams)) -> Result<BoxLearner> {
    let ft = FtTransformerParams::default().with(|p| brief(&mut p.training));
    let plain = |p: &mut FtTransformerParams| {
        (p.attention_dropout, p.hidden_dropout) = (0.0, 0.0);
    };
    Ok(match model {
        "ft" => Box::new(ft.build()?),
        "ft_plain" => Box::new(ft.with(plain).build()?),
        _ => Box::new(TabmParams::default().with(|p| brief(&mut p.training)).build()?),
    })
}

fn measure(model: &str, threads: usize, micro_batch: usize, repeats: usize) -> Result<()> {
    let learner = learner(model, |p| {
        (p.epochs, p.batch_size, p.micro_batch) = (1, ROWS, Some(micro_batch));
    })?;
    let few = data(ROWS)?;
    let many = data(ROWS * (STEPS + 1))?;
    let ctx = FitContext::seeded(1).with_threads(threads);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let [mut step, mut forward] = [Cost::MOST; 2];
    let mut row = f64::MAX;
    let mut fitted = learner.fit_boxed(&few, &ctx)?;
    for _ in 0..repeats {
        let cost;
        (fitted, cost) = a_step(&learner, [&few, &many], STEPS, &ctx)?;
        step = step.least(cost);
        let (_, all) = timed(|| pool.install(|| fitted.predict(many.frame())))?;
        forward = forward.least(all.over(STEPS + 1));
    }
    for one in few.frame().rows().take(50 * repeats) {
        let start = Instant::now();
        fitted.predict_row(one, &mut [0.0])?;
        row = row.min(1000.0 * start.elapsed().as_secs_f64());
    }
    println!(
        "{{\"model\": \"{model}\", \"threads\": {threads}, \"micro_batch\": {micro_batch}, \
         \"step_cpu_ms\": {:.1}, \"step_ms\": {:.1}, \"forward_cpu_ms\": {:.1}, \
         \"forward_ms\": {:.1}, \"row_ms\": {row:.3}, \"peak_mb\": {:.0}}}",
        step.cpu,
        step.clock,
        forward.cpu,
        forward.clock,
        peak_mb()?
    );
    Ok(())
}

/// What a step costs, by fits to few rows and to so many steps more, and the model of the latter. What is not
/// steps is in both, and cancels.
fn a_step(
    learner: &BoxLearner,
    [few, many]: [&Dataset; 2],
    steps: usize,
    ctx: &FitContext<'_>,
) -> Result<(BoxModel, Cost)> {
    let (_, short) = timed(|| learner.fit_boxed(few, ctx))?;
    let (model, long) = timed(|| learner.fit_boxed(many, ctx))?;
    Ok((model, long.minus(short).over(steps)))
}

/// A step on a device besides the processor.
fn on_device(model: &str, device: Device, rows: usize, precision: &str) -> Result<()> {
    const STEPS: usize = 32;
    let few = data(rows * STEPS)?;
    let many = data(rows * STEPS * 2)?;
    let precision: Precision = serde_json::from_value(precision.into())?;
    let learner = learner(model, |p| {
        (p.epochs, p.batch_size, p.device, p.precision) = (1, rows, device, precision);
    })?;
    let ctx = FitContext::seeded(1);
    // Kernels are compiled and chosen in the first.
    let (_, first) = timed(|| learner.fit_boxed(&few, &ctx))?;
    let mut step = Cost::MOST;
    for _ in 0..3 {
        step = step.least(a_step(&learner, [&few, &many], STEPS, &ctx)?.1);
    }
    println!(
        "{{\"model\": \"{model}\", \"device\": \"{device}\", \"rows\": {rows}, \
         \"precision\": \"{precision:?}\", \"step_cpu_ms\": {:.2}, \"step_ms\": {:.2}, \
         \"first_fit_ms\": {:.0}}}",
        step.cpu, step.clock, first.clock
    );
    Ok(())
}

/// Milliseconds of the processor, and by the clock.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    clock: f64,
}

impl Cost {
    const MOST: Self = Self { cpu: f64::MAX, clock: f64::MAX };

    fn least(self, other: Self) -> Self {
        Self { cpu: self.cpu.min(other.cpu), clock: self.clock.min(other.clock) }
    }

    fn minus(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, clock: self.clock - other.clock }
    }

    fn over(self, n: usize) -> Self {
        Self { cpu: self.cpu / n as f64, clock: self.clock / n as f64 }
    }
}

/// A result, and what it cost.
fn timed<T>(work: impl FnOnce() -> mm_core::Result<T>) -> Result<(T, Cost)> {
    let (cpu, start) = (cpu_ms()?, Instant::now());
    let result = work()?;
    let clock = 1000.0 * start.elapsed().as_secs_f64();
    Ok((result, Cost { cpu: cpu_ms()? - cpu, clock }))
}

/// The processor's time for this process so far, on Linux: ticks of ten milliseconds.
fn cpu_ms() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) * 10.0)
}

/// The most memory that this process has held, on Linux.
fn peak_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb / 1024.0)
}

fn data(rows: usize) -> Result<Dataset> {
    let noise = |i: usize| (0.5 + 0.618_033_988_749_895 * i as f64).fract() as f32 - 0.5;
    let values: Vec<f32> = (0..rows * COLUMNS).map(noise).collect();
    let target = values.chunks(COLUMNS).map(|row| f64::from(row[0] * row[1] + row[2])).collect();
    Ok(Dataset::regression(Frame::new(values, COLUMNS)?, target)?)
}

//! How long combining takes, by itself.
//!
//! ```text
//! cargo bench -p mm-ensemble --bench ensembles                   all, on made-up predictions
//! … -- greedy FILE ROWS MEMBERS ROUNDS THREADS                   greedy selection by ROC-AUC, one line of JSON
//! ```
//!
//! FILE holds `f64`s: the labels, then each member's probabilities.
//! `crates/bench-compare/python/greedy.py` sets this beside the same selection in Python.

#![expect(clippy::print_stdout, reason = "a program whose output is its result")]

use std::{env, error::Error, fs, sync::Arc, time::Instant};

use mm_core::{
    Dataset, FitContext, Frame, Learner as _, Matrix, Member, Metric, Model, Params as _, Task,
};
use mm_ensemble::{EnsembleModel, GreedyParams, LinearParams, WeightsParams};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["greedy", file, rows, members, rounds, threads] = words[..] {
        let bytes = fs::read(file)?;
        let values: Vec<f64> =
            bytes.as_chunks::<8>().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect();
        let rows: usize = rows.parse()?;
        let parts = values[rows..].chunks_exact(rows).take(members.parse()?);
        let parts = parts.map(|part| Matrix::new(part.to_vec(), 1));
        let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?;
        let data = data(values[..rows].to_vec())?;
        let (seconds, weights) = greedy(&data, &parts, rounds.parse()?, threads.parse()?)?;
        println!("{{\"seconds\": {seconds}, \"weights\": {weights:?}}}");
        return Ok(());
    }

    let (rows, members) = (100_000, 20);
    let y: Vec<f64> = (0..rows).map(|i| f64::from(u8::from(noise(i, 0) < 0.3))).collect();
    let part = |j: usize| {
        let p = (0..rows).map(|i| 0.3 + 0.2 * y[i] + 0.5 * (noise(i, j + 1) - 0.5));
        Matrix::new(p.collect(), 1)
    };
    let parts = (0..members).map(part).collect::<std::result::Result<Vec<_>, _>>()?;
    let data = data(y)?;
    for threads in [1, 2] {
        let (seconds, _) = greedy(&data, &parts, 50, threads)?;
        println!(
            "greedy, 20 members × 100k rows × 50 rounds, ROC-AUC, {threads} threads: {seconds:.3} s"
        );
    }
    reweigh()
}

fn greedy(
    data: &Dataset,
    parts: &[Matrix],
    rounds: usize,
    threads: usize,
) -> Result<(f64, Vec<f64>)> {
    let names: Vec<String> = (0..parts.len()).map(|i| i.to_string()).collect();
    let members: Vec<Member<'_>> =
        names.iter().zip(parts).map(|(name, part)| Member::new(name, part)).collect();
    let params = GreedyParams::default().with(|p| p.rounds = rounds);
    let ctx = FitContext::seeded(0).with_threads(threads);
    let started = Instant::now();
    let weights = params.weights(&members, data, Metric::ROC_AUC, &ctx)?;
    Ok((started.elapsed().as_secs_f64(), weights))
}

/// New weights for ten members from ten thousand recent rows.
fn reweigh() -> Result<()> {
    let rows = 10_000;
    let y: Vec<f64> = (0..rows).map(|i| f64::from(u8::from(noise(i, 0) < 0.3))).collect();
    let x = (0..rows * 20).map(|i| (noise(i, 1) + y[i / 20] * noise(i, 2)) as f32).collect();
    let data = data(y)?.with_frame(Frame::new(x, 20)?)?;
    let members = (0..10).map(|j| -> Result<(String, Arc<dyn Model>, f64)> {
        let learner = LinearParams::default().with(|p| p.penalty = 10_f64.powi(j)).build()?;
        Ok((j.to_string(), Arc::new(learner.fit(&data, &FitContext::seeded(0))?), 1.0))
    });
    let mut ensemble = EnsembleModel::blend(members.collect::<Result<Vec<_>>>()?)?;
    let started = Instant::now();
    let ctx = FitContext::seeded(0);
    ensemble.reweigh(&data, &GreedyParams::default(), Metric::LogLoss, &ctx)?;
    let greedy = started.elapsed().as_secs_f64();
    let started = Instant::now();
    ensemble.reweigh(&data, &WeightsParams::default(), Metric::LogLoss, &ctx)?;
    let optimal = started.elapsed().as_secs_f64();
    println!(
        "reweigh, 10 members × 10k rows, log loss: greedy {greedy:.4} s, optimal {optimal:.4} s"
    );
    Ok(())
}

fn data(y: Vec<f64>) -> Result<Dataset> {
    let frame = Frame::new(vec![0.0; y.len()], 1)?;
    Ok(Dataset::new(frame, Task::classes(["no", "yes"])?, y)?)
}

/// Values without pattern in [0, 1).
fn noise(i: usize, stream: usize) -> f64 {
    let mut x = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((stream as u64 + 1) << 40);
    for _ in 0..3 {
        x ^= x >> 31;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

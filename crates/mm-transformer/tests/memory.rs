//! What a fit takes, counted by the allocator, against what was estimated and what was allowed.
//!
//! A process of its own with one test, so that nothing else allocates.

use std::{thread, time::Duration};

use mm_core::{Dataset, FitContext, Frame, Learner, Model as _, Params as _};
use mm_transformer::{FtTransformerParams, TabmParams, TrainingParams};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

fn data(n: usize, p: usize) -> Dataset {
    let x: Vec<f32> = (0..n * p).map(|i| (i * 37 % 1009) as f32 / 500.0 - 1.0).collect();
    let y = x.chunks(p).map(|x| f64::from(x[0] * x[1])).collect();
    Dataset::regression(Frame::new(x, p).expect("valid"), y).expect("valid")
}

/// The most bytes that `work` had at once beyond what there was.
fn peak(work: impl FnOnce()) -> usize {
    // Threads of an earlier fit may still be giving back what they had.
    let mut last = 0;
    while last != ALLOCATED.current_usage() {
        last = ALLOCATED.current_usage();
        thread::sleep(Duration::from_millis(50));
    }
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    work();
    ALLOCATED.peak_usage() - before
}

fn brief(training: &mut TrainingParams) {
    (training.epochs, training.batch_size, training.average) = (2, 256, 0.9);
}

fn ft(edit: impl FnOnce(&mut FtTransformerParams)) -> mm_transformer::FtTransformer {
    let params = FtTransformerParams::default().with(|p| {
        (p.width, p.heads, p.blocks) = (64, 4, 2);
        brief(&mut p.training);
        edit(p);
    });
    params.build().expect("valid")
}

fn tabm(edit: impl FnOnce(&mut TabmParams)) -> mm_transformer::Tabm {
    let params = TabmParams::default().with(|p| {
        (p.members, p.width) = (16, 128);
        brief(&mut p.training);
        edit(p);
    });
    params.build().expect("valid")
}

#[track_caller]
fn check(name: &str, estimate: usize, measured: usize) {
    let said = format!("{name}: {estimate} bytes estimated, {measured} taken");
    assert!(measured <= estimate, "{said}");
    assert!(estimate <= 3 * measured, "{said}");
}

fn fit<L: Learner>(learner: &L, data: &Dataset, threads: usize) -> usize {
    let ctx = FitContext::seeded(1).with_threads(threads);
    let mut outputs = 0;
    let taken = peak(|| {
        let model = learner.fit(data, &ctx).expect("fits");
        outputs = model.signature().n_outputs();
    });
    assert_eq!(outputs, 1);
    taken
}

#[test]
fn a_fit_takes_what_was_estimated_and_no_more_than_was_allowed() {
    let data = data(512, 12);
    for threads in [1, 3] {
        let learner = ft(|_| {});
        let estimate = learner.memory(&data, threads).expect("an estimate");
        check(&format!("ft_transformer, {threads}"), estimate, fit(&learner, &data, threads));
        let learner = tabm(|_| {});
        let estimate = learner.memory(&data, threads).expect("an estimate");
        check(&format!("tabm, {threads}"), estimate, fit(&learner, &data, threads));
    }
    // A batch four times as large is not expected to take more, and does not.
    let batches = [128, 512].map(|rows| ft(|p| p.training.batch_size = rows));
    let [small, large] = batches.each_ref().map(|ft| ft.memory(&data, 2).expect("an estimate"));
    assert_eq!(small, large);
    for learner in &batches {
        check("ft_transformer", small, fit(learner, &data, 2));
    }

    // Of six blocks one is kept at a time.
    let deep = |recompute| {
        ft(|p| (p.blocks, p.training.micro_batch, p.training.recompute) = (6, Some(128), recompute))
    };
    let [all, one] = [false, true].map(|recompute| {
        let learner = deep(recompute);
        let taken = fit(&learner, &data, 1);
        check("six blocks", learner.memory(&data, 1).expect("an estimate"), taken);
        taken
    });
    // What there is besides is some ten arrays of the length of the weights.
    assert!(3 * one < 2 * all, "{one} bytes with a block at a time, {all} with all");

    // What is allowed is kept, by fewer pieces at once and by smaller ones.
    let free = ft(|_| {}).memory(&data, 3).expect("an estimate");
    for part in [2, 3] {
        let allowed = free * part / 4;
        let learner = ft(|p| p.training.memory = Some(allowed));
        let taken = fit(&learner, &data, 3);
        assert!(taken <= allowed, "{allowed} bytes allowed, {taken} taken");
    }
}

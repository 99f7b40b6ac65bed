//! Many fits under one budget of threads.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use crate::{
    data::Dataset,
    error::{Error, Result},
};

/// How many of the budget's threads one job should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Side by side with others: one thread, or an equal share when fewer jobs than threads are
    /// left.
    Share,
    /// Alone, with all threads.
    All,
}

impl Demand {
    /// From this many cells on (64 Mi, 256 MiB of `f32`) a fit runs alone: side by side fits use
    /// the processors better, but each holds its own copy of the data in the engine's form.
    const LARGE: usize = 1 << 26;

    pub(crate) fn of(data: &Dataset) -> Self {
        let cells = data.n_rows().saturating_mul(data.frame().n_cols());
        if cells < Self::LARGE { Self::Share } else { Self::All }
    }
}

/// Runs `work(job, threads)` for each job in order, as many at once as the budget allows, and
/// returns the results in the order of the jobs. With a budget of one thread everything runs on
/// the caller's. A panic in `work` reaches the caller once no job is running any more.
pub(crate) fn run<T: Send>(
    budget: NonZeroUsize,
    demands: &[Demand],
    work: impl Fn(usize, NonZeroUsize) -> T + Sync,
) -> Vec<T> {
    let budget = budget.get();
    if budget == 1 || demands.len() <= 1 {
        let threads = NonZeroUsize::new(budget).unwrap_or(NonZeroUsize::MIN);
        return (0..demands.len()).map(|job| work(job, threads)).collect();
    }
    let state = Mutex::new(State { next: 0, free: budget });
    let freed = Condvar::new();
    let claim = || {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let job = state.next;
            let demand = *demands.get(job)?;
            let share = match demand {
                Demand::All => budget,
                Demand::Share => (budget / (demands.len() - job)).clamp(1, state.free.max(1)),
            };
            if share <= state.free {
                state.next += 1;
                state.free -= share;
                return Some((job, share));
            }
            state = freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let worker = || {
        let mut done = Vec::new();
        while let Some((job, share)) = claim() {
            let threads = NonZeroUsize::new(share).unwrap_or(NonZeroUsize::MIN);
            let _held = Held { share, state: &state, freed: &freed };
            done.push((job, work(job, threads)));
        }
        done
    };
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..budget.min(demands.len())).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|handle| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    results.sort_unstable_by_key(|&(job, _)| job);
    results.into_iter().map(|(_, result)| result).collect()
}

struct State {
    next: usize,
    free: usize,
}

/// Threads that a job holds; given back also when the job panics, or others would wait for ever.
struct Held<'a> {
    share: usize,
    state: &'a Mutex<State>,
    freed: &'a Condvar,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).free += self.share;
        self.freed.notify_all();
    }
}

/// Runs a part of a composite so that a panic in it is an error of that part alone:
/// [`Error::Panicked`].
pub fn contain<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What `work` borrows is only read after a panic, or dropped.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Error::Panicked(text.unwrap_or_else(|| "without a message".to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the jobs ask for, all run once, in place, and within the budget.
        #[test]
        fn the_budget_is_kept(budget in 1_usize..6, large in prop::collection::vec(any::<bool>(), 0..20)) {
            let demands: Vec<Demand> =
                large.iter().map(|&l| if l { Demand::All } else { Demand::Share }).collect();
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let results = run(NonZeroUsize::new(budget).expect("≥ 1"), &demands, |job, threads| {
                let used = now.fetch_add(threads.get(), Ordering::SeqCst) + threads.get();
                most.fetch_max(used, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(threads.get(), Ordering::SeqCst);
                job
            });
            prop_assert_eq!(results, (0..demands.len()).collect::<Vec<_>>());
            prop_assert!(most.into_inner() <= budget);
        }
    }

    #[test]
    fn the_last_jobs_share_the_budget() {
        let four = NonZeroUsize::new(4).expect("4");
        let alone = run(four, &[Demand::Share], |_, threads| threads.get());
        assert_eq!(alone, [4]);
        let pair = run(four, &[Demand::Share; 2], |_, threads| threads.get());
        assert_eq!(pair[0], 2);
        let many = run(four, &[Demand::Share; 9], |_, threads| threads.get());
        assert_eq!(many[..5], [1; 5]);
    }

    #[test]
    fn a_job_that_panics_gives_its_threads_back() {
        let two = NonZeroUsize::new(2).expect("2");
        let work = |job: usize, _: NonZeroUsize| assert_ne!(job, 0, "the first job");
        let run = || run(two, &[Demand::All; 3], work);
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "it ends, and the caller hears");
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let err = contain(|| -> Result<()> { panic!("no {}", "luck") }).expect_err("panics");
        assert_eq!(err.to_string(), "panicked: no luck");
    }
}

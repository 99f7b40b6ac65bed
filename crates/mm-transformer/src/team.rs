//! Threads that work on the pieces of a batch side by side, each alone, on one device or several.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{ScopedJoinHandle, scope},
};

use mm_core::{Error, Result, contain};

use crate::weights::engine;

/// Threads of a fit. What runs inside a piece stays on its thread, since it finds itself in a pool
/// of one.
#[derive(Debug)]
pub(crate) struct Team {
    /// Thread *i* works for device *i* modulo the number of devices.
    pools: Vec<rayon::ThreadPool>,
    devices: usize,
}

/// What the threads of one [`Team::fold`] share.
struct Progress<T, S> {
    /// The piece that each device takes next.
    next: Vec<usize>,
    /// Pieces whose results are in `sum`: all before this one.
    folded: usize,
    /// Results that came before their turn.
    waiting: BTreeMap<usize, T>,
    sum: S,
    /// The first piece that failed.
    failed: Option<(usize, Error)>,
}

impl Team {
    /// So many threads, and one for each device at least.
    pub(crate) fn new(threads: usize, devices: usize) -> Result<Self> {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(engine);
        let pools = (0..threads.max(devices)).map(pool).collect::<Result<_>>()?;
        Ok(Self { pools, devices })
    }

    /// Adds `work` of every device and piece below `n` to `sum`, in order, whoever is done first; so
    /// the number of threads changes no bit of the sum. Device *d* of *m* has the pieces *d*, *d* + *m*,
    /// *d* + 2*m*, and so on. At most twice as many results as there are
    /// threads wait for their turn. Of several errors, that of the first piece is returned; a panic
    /// is an error: Burn panics where shapes, devices, or memory fail it.
    pub(crate) fn fold<T: Send, S: Send>(
        &self,
        n: usize,
        work: impl Fn(usize, usize) -> Result<T> + Sync,
        sum: S,
        add: impl Fn(&mut S, T) + Sync,
    ) -> Result<S> {
        let next = (0..self.devices).collect();
        let start = Progress { next, folded: 0, waiting: BTreeMap::new(), sum, failed: None };
        let (progress, moved) = (Mutex::new(start), Condvar::new());
        let most_ahead = 2 * self.pools.len();
        let take = |device: usize| {
            let mut progress = lock(&progress);
            loop {
                let i = progress.next[device];
                if n <= i || progress.failed.as_ref().is_some_and(|&(first, _)| first < i) {
                    return None;
                }
                if i < progress.folded + most_ahead {
                    progress.next[device] += self.devices;
                    return Some(i);
                }
                progress = moved.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let give = |i: usize, result: Result<T>| {
            let mut guard = lock(&progress);
            let progress = &mut *guard;
            match result {
                Ok(part) => {
                    progress.waiting.insert(i, part);
                    while let Some(part) = progress.waiting.remove(&progress.folded) {
                        add(&mut progress.sum, part);
                        progress.folded += 1;
                    }
                }
                Err(error) => {
                    if progress.failed.as_ref().is_none_or(|&(first, _)| i < first) {
                        progress.failed = Some((i, error));
                    }
                }
            }
            moved.notify_all();
        };
        let worker = |device: usize| {
            while let Some(i) = take(device) {
                give(i, contain(|| work(device, i)));
            }
        };
        let worker = &worker;
        scope(|scope| {
            let pools = self.pools.iter().take(n).enumerate();
            let workers: Vec<_> = pools
                .map(|(i, pool)| scope.spawn(move || pool.install(|| worker(i % self.devices))))
                .collect();
            let joined = workers.into_iter().map(ScopedJoinHandle::join);
            joined.for_each(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
        });
        let Progress { sum, failed, .. } =
            progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(sum), |(_, error)| Err(error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn team(threads: usize) -> Team {
        Team::new(threads, 1).expect("starts")
    }

    #[test]
    fn results_are_added_in_order_whoever_is_done_first() {
        for threads in 1..5 {
            let slow_first = |_, i: usize| {
                if i.is_multiple_of(3) {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                Ok(i)
            };
            let order =
                team(threads).fold(20, slow_first, Vec::new(), Vec::push).expect("no error");
            assert!(order.into_iter().eq(0..20), "{threads} threads");
        }
        let none = team(2).fold(0, |_, i| Ok(i), Vec::new(), Vec::push).expect("no error");
        assert!(none.is_empty());
    }

    #[test]
    fn each_device_has_its_own_pieces_and_the_order_is_that_of_the_pieces() {
        for (threads, devices) in [(1, 3), (3, 3), (4, 2), (5, 3)] {
            let team = Team::new(threads, devices).expect("starts");
            let work = |device, i| Ok((device, i));
            let order = team.fold(20, work, Vec::new(), Vec::push).expect("no error");
            assert!(order.into_iter().eq((0..20).map(|i| (i % devices, i))), "{devices} devices");
        }
    }

    #[test]
    fn of_several_errors_the_first_piece_is_named_and_a_panic_is_an_error() {
        let work = |_, i: usize| match i {
            5 => panic!("piece 5 has no memory"),
            _ if 5 < i => Err(Error::data("piece", "an earlier one", i)),
            _ => Ok(()),
        };
        for threads in 1..5 {
            let error = team(threads).fold(30, work, (), |(), ()| ()).expect_err("piece 5");
            assert_eq!(error.to_string(), "panicked: piece 5 has no memory");
        }
    }

    /// Piece 0 ends only once all pieces that may be begun before it are; were there no limit, or
    /// a smaller one, it would see another number of them.
    #[test]
    fn few_results_wait_for_a_slow_piece() {
        let begun = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let work = |_, i: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            if i == 0 {
                while begun.load(Ordering::SeqCst) < 4 {
                    std::thread::yield_now();
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                most.store(begun.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            Ok(())
        };
        team(2).fold(50, work, (), |(), ()| ()).expect("no error");
        assert_eq!(most.into_inner(), 4, "twice as many as threads");
    }
}

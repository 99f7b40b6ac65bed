//! The area under the ROC curve without a sort.
//!
//! The area is the share of pairs of a negative and a positive row in which the positive one has
//! the higher score, ties counting half (Bamber 1975). Scores fall into about *n* / 4 buckets of
//! equal width: pairs from different buckets are counted by bucket, and only pairs within one are
//! compared. With scores spread over the range that is O(*n*); a bucket that holds many is sorted,
//! so that the worst case is that of sorting. The result is exact: it is a count.

/// Room that calls share.
#[derive(Debug, Default)]
pub(crate) struct Room {
    counts: [Vec<u32>; 2], // By bucket, then the end of each bucket.
    sorted: [Vec<f64>; 2], // By class: the scores, bucket by bucket.
    places: Vec<u32>,
}

/// A bucket in which more pairs than this would be compared is sorted.
const PAIRS: usize = 64;

/// The area for the scores of the negative and of the positive rows; ½ if either is empty.
pub(crate) fn area(negative: &[f64], positive: &[f64], room: &mut Room) -> f64 {
    let pairs = negative.len() as f64 * positive.len() as f64;
    if pairs == 0.0 {
        return 0.5;
    }
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for &score in negative.iter().chain(positive) {
        low = low.min(score);
        high = high.max(score);
    }
    if low == high {
        return 0.5;
    }
    // Four scores a bucket: few enough to compare, and the buckets stay in the cache.
    let n_buckets = ((negative.len() + positive.len()) / 4).next_power_of_two().min(1 << 18);
    let scale = (n_buckets - 1) as f64 / (high - low);
    if !scale.is_finite() {
        return sorted_area(&mut negative.to_vec(), &mut positive.to_vec()) / pairs;
    }
    for (class, scores) in [negative, positive].into_iter().enumerate() {
        place(scores, low, scale, n_buckets, class, room);
    }
    let (mut below, mut area, mut starts) = (0, 0.0, [0, 0]);
    let Room { counts, sorted, .. } = room;
    for (negative_end, positive_end) in counts[0].iter().zip(&counts[1]) {
        let ends = [*negative_end as usize, *positive_end as usize];
        let (n, p) = (ends[0] - starts[0], ends[1] - starts[1]);
        if 0 < p {
            area += below as f64 * p as f64;
            if 0 < n {
                let (left, right) = sorted.split_at_mut(1);
                let negative = &mut left[0][starts[0]..ends[0]];
                let positive = &mut right[0][starts[1]..ends[1]];
                area += if n * p <= PAIRS {
                    compared_area(negative, positive)
                } else {
                    sorted_area(negative, positive)
                };
            }
        }
        below += n;
        starts = ends;
    }
    area / pairs
}

/// Puts the scores of a class into `room`, bucket by bucket.
fn place(scores: &[f64], low: f64, scale: f64, n_buckets: usize, class: usize, room: &mut Room) {
    let Room { counts, sorted, places } = room;
    let (counts, sorted) = (&mut counts[class], &mut sorted[class]);
    counts.clear();
    counts.resize(n_buckets, 0);
    places.clear();
    // Monotone in the score, so buckets never overlap, however the product rounds.
    places.extend(scores.iter().map(|score| ((score - low) * scale) as u32));
    for &place in &*places {
        counts[place as usize] += 1;
    }
    let mut start = 0;
    for count in counts.iter_mut() {
        (*count, start) = (start, start + *count);
    }
    sorted.clear();
    sorted.resize(scores.len(), 0.0);
    for (&place, &score) in places.iter().zip(scores) {
        let at = &mut counts[place as usize];
        sorted[*at as usize] = score;
        *at += 1;
    }
}

/// The number of pairs in order, ties counting half, by comparing all.
fn compared_area(negative: &[f64], positive: &[f64]) -> f64 {
    let mut twice = 0;
    for p in positive {
        for n in negative {
            twice += u32::from(n < p) + u32::from(n <= p);
        }
    }
    f64::from(twice) / 2.0
}

/// The same by sorting.
fn sorted_area(negative: &mut [f64], positive: &mut [f64]) -> f64 {
    negative.sort_unstable_by(f64::total_cmp);
    positive.sort_unstable_by(f64::total_cmp);
    let (mut below, mut through, mut twice) = (0, 0, 0.0);
    for p in positive {
        while below < negative.len() && negative[below] < *p {
            below += 1;
        }
        through = through.max(below);
        while through < negative.len() && negative[through] <= *p {
            through += 1;
        }
        twice += (below + through) as f64;
    }
    twice / 2.0
}

#[cfg(test)]
mod tests {
    use mm_core::{Matrix, Metric, Task, Truth};
    use proptest::prelude::*;

    use super::*;

    fn check(negative: &[f64], positive: &[f64]) -> (f64, f64) {
        let task = Task::classes(["no", "yes"]).expect("two");
        let scores: Vec<f64> = negative.iter().chain(positive).copied().collect();
        let target: Vec<f64> =
            (0..scores.len()).map(|i| f64::from(u8::from(negative.len() <= i))).collect();
        let scores = Matrix::new(scores, 1).expect("one column");
        let expected = Metric::ROC_AUC.score(Truth::new(&task, &target), &scores).expect("both");
        (area(negative, positive, &mut Room::default()), expected)
    }

    proptest! {
        /// Counting pairs by bucket gives what the metric gives, with ties and crowded buckets.
        #[test]
        fn the_area_is_that_of_the_metric(
            negative in prop::collection::vec((0_u8..40, 0..3_i32), 1..60),
            positive in prop::collection::vec((0_u8..40, 0..3_i32), 1..60),
        ) {
            // Scores of very different sizes crowd the lowest bucket.
            let scores = |all: &[(u8, i32)]| -> Vec<f64> {
                all.iter().map(|&(a, b)| f64::from(a) * 1e-3_f64.powi(b) - 7.0).collect()
            };
            let (got, expected) = check(&scores(&negative), &scores(&positive));
            // The count is exact; the metric's division rounds.
            prop_assert!((got - expected).abs() < 1e-14, "{got} {expected}");
        }
    }

    #[test]
    fn extremes_are_counted_too() {
        for (negative, positive) in [
            (vec![0.0], vec![0.0]),
            (vec![-0.0, 1.0], vec![0.0, 1.0]),
            (vec![f64::MIN, 0.0], vec![f64::MAX, 0.0]),
            (vec![1.0, 2.0], vec![3.0]),
            (vec![3.0], vec![1.0, 2.0]),
        ] {
            let (got, expected) = check(&negative, &positive);
            assert_eq!(got, expected);
        }
        assert_eq!(area(&[], &[1.0], &mut Room::default()), 0.5);
    }
}

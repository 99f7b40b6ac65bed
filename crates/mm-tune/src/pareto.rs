//! Several objectives at once: who is better than whom, and by how much.
//!
//! All losses are to be minimised; a point is the losses of one trial.

use mm_core::Direction;

use crate::trial::FrozenTrial;

/// The objectives' values, each so that less is better.
pub(crate) fn losses(trial: &FrozenTrial, directions: &[Direction]) -> Vec<f64> {
    let signed = |(&value, direction): (&f64, &Direction)| match direction {
        Direction::Minimize => value,
        Direction::Maximize => -value,
    };
    trial.values.iter().zip(directions).map(signed).collect()
}

/// Whether `a` is at least as good as `b` everywhere, and better somewhere.
pub(crate) fn dominates(a: &[f64], b: &[f64]) -> bool {
    let pairs = || a.iter().zip(b);
    pairs().all(|(a, b)| a <= b) && pairs().any(|(a, b)| a < b)
}

/// The points in fronts, the best first: nothing in a front is dominated by anything in it or in a
/// later one (Goldberg 1989; Deb, Pratap, Agarwal, Meyarivan 2002). Stops after the front with which
/// `enough` points are reached. O(n² · objectives) at worst.
pub(crate) fn fronts(points: &[Vec<f64>], enough: usize) -> Vec<Vec<usize>> {
    // In lexicographic order nothing is dominated by what comes after it.
    let mut left: Vec<usize> = (0..points.len()).collect();
    left.sort_by(|&a, &b| lexicographic(&points[a], &points[b]));
    let (mut fronts, mut n) = (Vec::new(), 0);
    while n < enough && !left.is_empty() {
        let mut front: Vec<usize> = Vec::new();
        left.retain(|&i| {
            let is_dominated = front.iter().any(|&other| dominates(&points[other], &points[i]));
            if !is_dominated {
                front.push(i);
            }
            is_dominated
        });
        n += front.len();
        front.sort_unstable();
        fronts.push(front);
    }
    fronts
}

fn lexicographic(a: &[f64], b: &[f64]) -> std::cmp::Ordering {
    let orders = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
    orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
}

/// The volume of what `points` dominate, up to `reference`, which none of them exceeds.
///
/// By exclusive volumes, point after point (While, Bradstreet, Barone 2012); a sweep for two
/// objectives. Exponential in the number of objectives at worst.
pub(crate) fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    if reference.iter().any(|r| r.is_infinite()) {
        return f64::INFINITY;
    }
    let front = fronts(points, 1).into_iter().next().unwrap_or_default();
    let mut front: Vec<&[f64]> = front.into_iter().map(|i| &*points[i]).collect();
    front.sort_by(|a, b| lexicographic(a, b));
    front.dedup();
    if reference.len() <= 2 {
        let mut ceiling = reference.get(1).copied().unwrap_or(1.0);
        return front
            .iter()
            .map(|point| {
                let y = point.get(1).copied().unwrap_or(0.0);
                let height = (ceiling - y).max(0.0);
                ceiling = ceiling.min(y);
                (reference[0] - point[0]) * height
            })
            .sum();
    }
    let exclusive = |(i, point): (usize, &&[f64])| {
        let limited = |other: &&[f64]| -> Vec<f64> {
            other.iter().zip(*point).map(|(a, b)| a.max(*b)).collect()
        };
        let limited: Vec<Vec<f64>> = front[i + 1..].iter().map(limited).collect();
        box_volume(point, reference) - hypervolume(&limited, reference)
    };
    front.iter().enumerate().map(exclusive).sum()
}

fn box_volume(point: &[f64], reference: &[f64]) -> f64 {
    point.iter().zip(reference).map(|(x, r)| r - x).product()
}

/// Of mutually non-dominated points, `k` that together dominate much: greedily the one that adds most,
/// at each step (Guerreiro, Fonseca, Paquete 2016), the first of equals. In the order chosen.
///
/// A point that was taken adds nothing when it is seen again, so equal points come last.
pub(crate) fn spread_subset(points: &[Vec<f64>], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| lexicographic(&points[a], &points[b]));
    let (mut unique, mut repeated) = (Vec::new(), Vec::new());
    for (place, &i) in order.iter().enumerate() {
        let is_new = place == 0 || points[order[place - 1]] != points[i];
        if is_new { unique.push(i) } else { repeated.push(i) }
    }
    if unique.len() <= k {
        repeated.sort_unstable();
        unique.extend(repeated.into_iter().take(k - unique.len()));
        return unique;
    }
    let reference = reference_point(points);
    if reference.iter().any(|r| r.is_infinite()) {
        unique.truncate(k);
        return unique;
    }
    // What each would add can only shrink as others are chosen, so an old number is a bound.
    let mut bounds: Vec<f64> = unique.iter().map(|&i| box_volume(&points[i], &reference)).collect();
    let (mut chosen, mut volume) = (Vec::new(), 0.0);
    let mut taken: Vec<Vec<f64>> = Vec::new();
    while chosen.len() < k {
        let mut by_bound: Vec<usize> = (0..unique.len()).collect();
        by_bound.sort_by(|&a, &b| bounds[b].total_cmp(&bounds[a]).then(a.cmp(&b)));
        let (mut best, mut most) = (by_bound[0], f64::NEG_INFINITY);
        for &candidate in &by_bound {
            if bounds[candidate] < most {
                break;
            }
            if !taken.is_empty() {
                taken.push(points[unique[candidate]].clone());
                bounds[candidate] = hypervolume(&taken, &reference) - volume;
                taken.pop();
            }
            if most < bounds[candidate] || most == bounds[candidate] && candidate < best {
                (best, most) = (candidate, bounds[candidate]);
            }
        }
        taken.push(points[unique[best]].clone());
        volume = hypervolume(&taken, &reference);
        chosen.push(unique.remove(best));
        bounds.remove(best);
    }
    chosen
}

/// A little worse than the worst in every objective: a tenth of its size away, as in Optuna 5.0.
fn reference_point(points: &[Vec<f64>]) -> Vec<f64> {
    let n = points.first().map_or(0, Vec::len);
    let worst = |j: usize| points.iter().map(|p| p[j]).fold(f64::NEG_INFINITY, f64::max);
    let beyond = |w: f64| if w == 0.0 { 1e-12 } else { (1.1 * w).max(0.9 * w) };
    (0..n).map(worst).map(beyond).collect()
}

/// How far the neighbours of each point of a front are, summed over the objectives in units of their
/// ranges; infinite at an end (Deb, Pratap, Agarwal, Meyarivan 2002).
pub(crate) fn crowding(points: &[Vec<f64>]) -> Vec<f64> {
    let mut distance = vec![0.0; points.len()];
    for j in 0..points.first().map_or(0, Vec::len) {
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| points[a][j].total_cmp(&points[b][j]));
        let at = |place: usize| points[order[place]][j];
        let last = order.len() - 1;
        if at(0) == at(last) {
            continue;
        }
        let finite = || (0..=last).map(at).filter(|x| x.is_finite());
        let (low, high) = (finite().next(), finite().next_back());
        let width = high.zip(low).map_or(0.0, |(high, low)| high - low);
        let width = if 0.0 < width { width } else { 1.0 };
        for place in 0..=last {
            let below = if place == 0 { f64::NEG_INFINITY } else { at(place - 1) };
            let above = if place == last { f64::INFINITY } else { at(place + 1) };
            if below != above {
                distance[order[place]] += (above - below) / width;
            }
        }
    }
    distance
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fronts_of_a_known_set() {
        let points = [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [2.0, 3.0], [5.0, 5.0], [2.0, 2.0]];
        let points: Vec<Vec<f64>> = points.iter().map(|p| p.to_vec()).collect();
        assert_eq!(fronts(&points, 6), [vec![0, 1, 2, 5], vec![3], vec![4]]);
        assert_eq!(fronts(&points, 3).len(), 1);
        // Between (1, 4) and (5, 5), three steps: by hand.
        assert_eq!(hypervolume(&points[..3], &[5.0, 5.0]), 4.0 + 6.0 + 1.0);
    }

    #[test]
    fn a_crowd_has_small_distances() {
        let points = [[0.0, 4.0], [1.0, 3.0], [1.5, 2.5], [4.0, 0.0]];
        let points: Vec<Vec<f64>> = points.iter().map(|p| p.to_vec()).collect();
        let inf = f64::INFINITY;
        assert_eq!(crowding(&points), [inf, 1.5 / 4.0 + 1.5 / 4.0, 3.0 / 4.0 + 3.0 / 4.0, inf]);
    }

    /// Points on a grid, so that volumes can be counted.
    fn cells(d: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let coordinate = (0_u8..5).prop_map(f64::from);
        prop::collection::vec(prop::collection::vec(coordinate, d), 1..9)
    }

    proptest! {
        /// Counted cell by cell.
        #[test]
        fn the_volume_is_that_of_the_dominated_cells(
            points in (1_usize..5).prop_flat_map(cells),
        ) {
            let d = points[0].len();
            let n_cells = 5_usize.pow(d as u32);
            let dominated = (0..n_cells).filter(|cell| {
                let corner: Vec<f64> = (0..d).map(|j| (cell / 5_usize.pow(j as u32) % 5) as f64).collect();
                points.iter().any(|p| p.iter().zip(&corner).all(|(x, c)| x <= c))
            });
            prop_assert_eq!(hypervolume(&points, &vec![5.0; d]), dominated.count() as f64);
        }

        /// Fronts part all points; nothing is dominated by its own front or a later one, and every
        /// point after the first front by one of the front before.
        #[test]
        fn fronts_are_ordered_by_domination(points in (2_usize..4).prop_flat_map(cells)) {
            let fronts = fronts(&points, points.len());
            let mut all: Vec<usize> = fronts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..points.len()).collect::<Vec<_>>());
            for (k, front) in fronts.iter().enumerate() {
                for &i in front {
                    let by = |j: &usize| dominates(&points[*j], &points[i]);
                    prop_assert!(!fronts[k..].concat().iter().any(by));
                    prop_assert!(k == 0 || fronts[k - 1].iter().any(by));
                }
            }
        }

        /// The lazy greedy choice is the plain one.
        #[test]
        fn each_choice_adds_most(points in (2_usize..4).prop_flat_map(cells), k in 1_usize..5) {
            let front = fronts(&points, 1).swap_remove(0);
            let points: Vec<Vec<f64>> = front.into_iter().map(|i| points[i].clone()).collect();
            prop_assert_eq!(spread_subset(&points, k).len(), k.min(points.len()));
            let mut unique = points.clone();
            unique.sort_by(|a, b| lexicographic(a, b));
            unique.dedup();
            // Where all are taken, there is no choice.
            let k = k.min(unique.len() - 1);
            let chosen = spread_subset(&points, k);
            let reference = reference_point(&points);
            let volume = |set: &[usize]| {
                let set: Vec<Vec<f64>> = set.iter().map(|&i| points[i].clone()).collect();
                hypervolume(&set, &reference)
            };
            for step in 0..k {
                let with = |i: usize| volume(&[&chosen[..step], &[i]].concat());
                let most = (0..points.len()).map(with).fold(0.0, f64::max);
                // 1e-9: volumes are sums of products of numbers below 6.
                prop_assert!(most - with(chosen[step]) < 1e-9);
            }
        }
    }
}

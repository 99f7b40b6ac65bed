//! Parameters from a sequence that fills the space more evenly than chance does.

mod joe_kuo;

use mm_core::{Result, split_mix};
use rand::RngExt;

use self::joe_kuo::JOE_KUO;
use super::{Ask, Sampler, random::uniform};
use crate::distribution::Distribution;

/// Draws trials from Sobol's sequence (Sobol 1967): any 2ᵏ trials in a row from a multiple of 2ᵏ on
/// have one value in each of 2ᵏ equal parts of every parameter.
///
/// A trial's point is its number, a parameter's axis is its place in the order in which the trial asks.
/// So nothing has to be known of the space beforehand, the first trial belongs to the sequence as all
/// others do, and workers that know nothing of each other draw different points of one sequence.
/// (Optuna 5.0 draws the first trial at random and counts points in an attribute of the study.)
///
/// The points are those of Joe and Kuo (2008), for 160 parameters; what a trial asks beyond is drawn at
/// random. O(1) a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QmcSampler {
    /// Whether digits are permuted at random (Owen 1995), as the study's seed says, which keeps the
    /// evenness and makes seeds differ; on by default. Without it trial 0 has the least value of every
    /// parameter.
    pub scramble: bool,
}

impl Default for QmcSampler {
    fn default() -> Self {
        Self { scramble: true }
    }
}

impl Sampler for QmcSampler {
    fn single(&self, ask: &Ask<'_>, name: &str, distribution: &Distribution) -> Result<f64> {
        let axis = ask.trial.params.len();
        let index = u32::try_from(ask.trial.number).ok();
        let Some(bits) = index.and_then(|index| sobol(index, axis)) else {
            return Ok(uniform(distribution, ask.rng(name).random()));
        };
        let bits = if self.scramble { owen(bits, ask.seed, axis as u64) } else { bits };
        Ok(uniform(distribution, to_unit(bits)))
    }
}

/// In [0, 1).
fn to_unit(bits: u32) -> f64 {
    f64::from(bits) / 4_294_967_296.0
}

/// Coordinate `axis` of point `index`, in units of 2⁻³²; `None` beyond the last axis.
///
/// The point is the sum without carry of the direction numbers at the bits of the index's Gray code
/// (Antonov, Saleev 1979), so that point *n* is the same whether or not the ones before were drawn.
pub(super) fn sobol(index: u32, axis: usize) -> Option<u32> {
    let gray = index ^ (index >> 1);
    let directions = directions(axis)?;
    let chosen = directions.iter().enumerate().filter(|(bit, _)| gray >> bit & 1 == 1);
    Some(chosen.fold(0, |sum, (_, direction)| sum ^ direction))
}

/// Scrambled points for use inside other samplers: `n` of them with `axes` coordinates, row by row.
pub(super) fn scrambled(n: u32, axes: usize, seed: u64) -> Vec<f64> {
    let mut points = vec![0.0; n as usize * axes];
    for axis in 0..axes {
        // Beyond the table an axis uses an earlier one's digits in a scramble of its own.
        let directions = directions(axis % (JOE_KUO.len() + 1)).unwrap_or([0; 32]);
        let mut sum = 0_u32;
        for index in 0..n {
            points[index as usize * axes + axis] = to_unit(owen(sum, seed, axis as u64));
            sum ^= directions[(index + 1).trailing_zeros().min(31) as usize];
        }
    }
    points
}

/// The direction numbers of an axis, for the bits of the index from the lowest.
fn directions(axis: usize) -> Option<[u32; 32]> {
    let mut directions = [0_u32; 32];
    if axis == 0 {
        for (bit, direction) in directions.iter_mut().enumerate() {
            *direction = 1 << (31 - bit);
        }
        return Some(directions);
    }
    let &(polynomial, initial) = JOE_KUO.get(axis - 1)?;
    let degree = initial.len();
    for bit in 0..32 {
        directions[bit] = if bit < degree {
            initial[bit] << (31 - bit)
        } else {
            let earlier = directions[bit - degree];
            let start = earlier ^ (earlier >> degree);
            // The inner coefficients, from that of degree − 1 down.
            let used = (1..degree).filter(|k| polynomial >> (degree - k) & 1 == 1);
            used.fold(start, |sum, k| sum ^ directions[bit - k])
        };
    }
    Some(directions)
}

/// Nested uniform scrambling: each binary digit is flipped or not as a hash of the digits before it
/// says.
fn owen(bits: u32, seed: u64, axis: u64) -> u32 {
    let key = split_mix(seed ^ split_mix(axis));
    let flip = |digit: u32| {
        // The digits above this one, with a mark of how many they are.
        let above = (1_u64 << digit) | u64::from(bits.checked_shr(32 - digit).unwrap_or(0));
        (split_mix(key ^ above) >> 63) as u32
    };
    (0..32).fold(bits, |out, digit| out ^ (flip(digit) << (31 - digit)))
}

#[cfg(test)]
mod tests {
    use mm_core::{Direction, FloatRange, Suggest};
    use proptest::prelude::*;

    use super::*;
    use crate::{Json, Study};

    /// `tests/fixtures/sobol.py`.
    #[test]
    fn points_equal_those_of_scipy() {
        let fixture = include_str!("../../../tests/fixtures/sobol.json");
        let fixture = Json::parse(fixture).expect("JSON");
        for (index, point) in fixture.as_array().expect("points").iter().enumerate() {
            for (axis, x) in point.as_array().expect("a point").iter().enumerate() {
                let got = sobol(index as u32, axis).map(|bits| to_unit(bits) * 64.0);
                assert_eq!(got, x.as_f64(), "point {index}, axis {axis}");
            }
        }
        assert_eq!(sobol(1, 160), None);
    }

    fn draws(sampler: QmcSampler, seed: u64, n: usize) -> Vec<[f64; 2]> {
        let study = Study::in_memory(Direction::Minimize).with_sampler(sampler).with_seed(seed);
        let draw = |_| {
            let mut trial = study.ask().expect("memory");
            // Names in another order than that of asking.
            let second = trial.float("b", FloatRange::new(0.0, 1.0)).expect("a range");
            let first = trial.float("a", FloatRange::new(0.0, 1.0)).expect("a range");
            [second, first]
        };
        (0..n).map(draw).collect()
    }

    #[test]
    fn without_scrambling_a_trial_is_the_point_of_its_number() {
        let expected = [[0.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]];
        assert_eq!(draws(QmcSampler { scramble: false }, 5, 4), expected);
    }

    #[test]
    fn seeds_scramble_differently_and_the_same_seed_alike() {
        let draws = |seed| draws(QmcSampler::default(), seed, 3);
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    proptest! {
        /// What the sequence is for, scrambled or not: one point in each of 64 equal parts.
        #[test]
        fn points_in_a_row_fill_every_part(seed in any::<u64>(), axis in 0_usize..160) {
            for scramble in [false, true] {
                let place = |index| {
                    let bits = sobol(index, axis).expect("within the table");
                    (if scramble { owen(bits, seed, axis as u64) } else { bits }) >> 26
                };
                let mut places: Vec<u32> = (64..128).map(place).collect();
                places.sort_unstable();
                prop_assert_eq!(places, (0..64).collect::<Vec<u32>>());
            }
        }

        #[test]
        fn drawing_in_a_row_gives_the_points_one_by_one(seed in any::<u64>()) {
            let row = scrambled(16, 3, seed);
            for (i, x) in row.iter().enumerate() {
                let bits = sobol((i / 3) as u32, i % 3).expect("within the table");
                prop_assert_eq!(*x, to_unit(owen(bits, seed, (i % 3) as u64)));
            }
        }
    }
}

//! Rows kept for retraining: the latest, a fair sample of all, and the hardest.
//!
//! A stream cannot be kept, and a batch learner wants a table. Three bounded stores hold what it
//! needs, each row once however many stores it is in:
//!
//! | store | holds | for |
//! | --- | --- | --- |
//! | recent | the last rows | what the world is like now |
//! | reservoir | a uniform sample of all rows since the last [`clear`](Replay::clear) | what it was like; Vitter's (1985) algorithm R |
//! | hard | the rows whose prediction was the most wrong | what the models have not understood |
//!
//! A hard row loses half its claim every `half_life` rows, so that noise and old concepts make
//! room: rows are ranked by ln(loss) + *i* · ln 2 / *h* for row *i*, which never needs updating.
//! [`export`](Replay::export) gives a hard row `hard_weight` times its weight.
//!
//! Memory: at most `recent` + `reservoir` + `hard` rows. O(log `hard`) a row.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use mm_core::{Dataset, Error, Frame, ParamError, Result, Signature};
use serde::{Deserialize, Serialize};

use crate::bytes::{Decoder, Encoder};

/// How many rows are kept for retraining.
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `recent` | 5000 | ≥ 0 | the latest rows |
/// | `reservoir` | 5000 | ≥ 0 | the uniform sample |
/// | `hard` | 1000 | ≥ 0 | the most wrongly predicted |
/// | `half_life` | 5000 | > 0 | rows after which a hard row's loss counts half |
/// | `hard_weight` | 2 | > 0 | by what the weight of a hard row is multiplied |
/// | `seed` | 0 | | decides which rows the reservoir picks |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplayParams {
    /// The latest rows.
    pub recent: usize,
    /// The uniform sample.
    pub reservoir: usize,
    /// The most wrongly predicted.
    pub hard: usize,
    /// Rows after which a hard row's loss counts half.
    pub half_life: f64,
    /// By what the weight of a hard row is multiplied.
    pub hard_weight: f64,
    /// Decides which rows the reservoir picks.
    pub seed: u64,
}

impl Default for ReplayParams {
    fn default() -> Self {
        let (recent, reservoir, hard) = (5000, 5000, 1000);
        Self { recent, reservoir, hard, half_life: 5000.0, hard_weight: 2.0, seed: 0 }
    }
}

impl ReplayParams {
    /// Checks every field.
    pub fn check(&self) -> Result<(), ParamError> {
        let positive = |x: f64| 0.0 < x && x.is_finite();
        let expected = "a finite number > 0";
        ParamError::ensure(positive(self.half_life), "replay.half_life", self.half_life, expected)?;
        let ok = positive(self.hard_weight);
        ParamError::ensure(ok, "replay.hard_weight", self.hard_weight, expected)
    }
}

/// A row of the stream.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    number: u64,
    time: Option<i64>,
    y: f64,
    weight: f64,
    x: Box<[f32]>,
}

/// Bounded stores of rows for retraining.
#[derive(Debug, Clone)]
pub struct Replay {
    params: ReplayParams,
    rows: u64,    // Ever.
    sampled: u64, // Since the last `clear`.
    recent: VecDeque<Arc<Kept>>,
    reservoir: Vec<Arc<Kept>>,
    hard: BTreeMap<(u64, u64), Arc<Kept>>, // By ordered rank and number: the easiest first.
}

impl Replay {
    /// No rows yet.
    pub fn new(params: ReplayParams) -> Result<Self> {
        params.check()?;
        let (recent, reservoir, hard) = (VecDeque::new(), Vec::new(), BTreeMap::new());
        Ok(Self { params, rows: 0, sampled: 0, recent, reservoir, hard })
    }

    /// Takes in a row whose prediction lost `loss` ≥ 0. Rows of weight 0 are left out.
    pub fn push(&mut self, x: &[f32], y: f64, weight: f64, time: Option<i64>, loss: f64) {
        if weight == 0.0 {
            return;
        }
        let ReplayParams { recent, reservoir, hard, half_life, seed, .. } = self.params;
        let number = self.rows;
        self.rows += 1;
        self.sampled += 1;
        let kept = Arc::new(Kept { number, time, y, weight, x: x.into() });
        if 0 < recent {
            if self.recent.len() == recent {
                self.recent.pop_front();
            }
            self.recent.push_back(Arc::clone(&kept));
        }
        if self.reservoir.len() < reservoir {
            self.reservoir.push(Arc::clone(&kept));
        } else if 0 < reservoir {
            let at = mix(seed ^ mix(number)) % self.sampled;
            if at < reservoir as u64 {
                self.reservoir[at as usize] = Arc::clone(&kept);
            }
        }
        if 0 < hard && 0.0 < loss {
            let rank = loss.ln() + number as f64 * std::f64::consts::LN_2 / half_life;
            let rank = ordered(rank);
            if self.hard.len() < hard {
                self.hard.insert((rank, number), kept);
            } else if let Some(easiest) = self.hard.first_entry()
                && easiest.key().0 < rank
            {
                easiest.remove();
                self.hard.insert((rank, number), kept);
            }
        }
    }

    /// Rows that a table made now would have.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.reservoir.is_empty() && self.hard.is_empty()
    }

    /// How many rows are kept as hard.
    pub fn n_hard(&self) -> usize {
        self.hard.len()
    }

    /// The rows as a weighted table, oldest first, with their times where all have one.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if there are no rows, or rows do not fit `signature`.
    pub fn export(&self, signature: &Signature) -> Result<Dataset> {
        let table = self.table();
        if table.is_empty() {
            return Err(Error::data("rows for retraining", "at least 1", "none"));
        }
        let mut values = Vec::with_capacity(table.len() * signature.schema.len());
        let (mut target, mut weights) = (Vec::new(), Vec::new());
        for (kept, is_hard) in table.values() {
            values.extend_from_slice(&kept.x);
            target.push(kept.y);
            weights.push(kept.weight * if *is_hard { self.params.hard_weight } else { 1.0 });
        }
        let mut frame = Frame::with_schema(values, signature.schema.clone())?;
        let times: Option<Vec<i64>> = table.values().map(|(kept, _)| kept.time).collect();
        if let Some(times) = times {
            frame = frame.with_times(times)?;
        }
        Dataset::new(frame, signature.task.clone(), target)?.with_weights(weights)
    }

    /// Forgets the reservoir and the hard rows, as after a drift that made them wrong; the latest
    /// rows stay.
    pub fn clear(&mut self) {
        self.reservoir.clear();
        self.hard.clear();
        self.sampled = 0;
    }

    /// Every row once, by number, and whether it is hard.
    fn table(&self) -> BTreeMap<u64, (&Kept, bool)> {
        let plain = self.recent.iter().chain(&self.reservoir).map(|kept| (&**kept, false));
        let hard = self.hard.values().map(|kept| (&**kept, true));
        plain.chain(hard).map(|(kept, is_hard)| (kept.number, (kept, is_hard))).collect()
    }

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.u64(self.rows);
        to.u64(self.sampled);
        let table = self.table();
        to.u32(table.len() as u32);
        for (kept, _) in table.values() {
            to.u64(kept.number);
            to.option_i64(kept.time);
            to.f64(kept.y);
            to.f64(kept.weight);
            to.f32s(&kept.x);
        }
        to.u32(self.recent.len() as u32);
        self.recent.iter().for_each(|kept| to.u64(kept.number));
        to.u32(self.reservoir.len() as u32);
        self.reservoir.iter().for_each(|kept| to.u64(kept.number));
        to.u32(self.hard.len() as u32);
        for (rank, number) in self.hard.keys() {
            to.u64(*rank);
            to.u64(*number);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>, params: ReplayParams) -> Result<Self> {
        let mut new = Self::new(params)?;
        (new.rows, new.sampled) = (from.u64()?, from.u64()?);
        let mut table = BTreeMap::new();
        for _ in 0..from.count(29)? {
            let (number, time) = (from.u64()?, from.option_i64()?);
            let (y, weight) = (from.f64()?, from.f64()?);
            let x = from.f32s()?.into();
            table.insert(number, Arc::new(Kept { number, time, y, weight, x }));
        }
        let find = |from: &mut Decoder<'_>| {
            let number = from.u64()?;
            let kept = table.get(&number).map(Arc::clone);
            kept.ok_or_else(|| from.damaged("the number of a row", number))
        };
        for _ in 0..from.count(8)? {
            new.recent.push_back(find(from)?);
        }
        for _ in 0..from.count(8)? {
            new.reservoir.push(find(from)?);
        }
        for _ in 0..from.count(16)? {
            let rank = from.u64()?;
            let kept = find(from)?;
            new.hard.insert((rank, kept.number), kept);
        }
        Ok(new)
    }
}

/// A whole number in the order of the float.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 0 { bits | (1 << 63) } else { !bits }
}

/// A permutation of 64 bits that looks random (Steele, Lea & Flood 2014, `SplittableRandom`).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use mm_core::{Schema, Task};
    use proptest::prelude::*;

    use super::*;

    fn params(recent: usize, reservoir: usize, hard: usize) -> ReplayParams {
        ReplayParams { recent, reservoir, hard, ..ReplayParams::default() }
    }

    fn signature() -> Signature {
        Signature::new(Schema::numeric(1), Task::Regression)
    }

    fn numbers(replay: &Replay) -> Vec<f64> {
        replay.export(&signature()).expect("rows").target().to_vec()
    }

    #[test]
    fn the_latest_rows_and_the_hardest_are_kept_and_hard_ones_weigh_more() {
        let mut replay = Replay::new(params(2, 0, 2)).expect("valid");
        for i in 0..100_u32 {
            let loss = if i == 7 || i == 98 { 50.0 } else { 1.0 };
            replay.push(&[i as f32], i.into(), 1.0, None, loss);
        }
        let data = replay.export(&signature()).expect("rows");
        assert_eq!(data.target(), [7.0, 98.0, 99.0]);
        assert_eq!(data.weights(), Some(&[2.0, 2.0, 1.0][..]));
        replay.clear();
        assert_eq!(numbers(&replay), [98.0, 99.0]);
    }

    #[test]
    fn an_old_hard_row_makes_room_for_a_new_one() {
        let mut replay =
            Replay::new(ReplayParams { half_life: 10.0, ..params(0, 0, 1) }).expect("valid");
        replay.push(&[0.0], 0.0, 1.0, None, 8.0);
        for i in 1..40 {
            replay.push(&[0.0], i.into(), 1.0, None, 1.1);
        }
        // After 30 rows 8 counts as 1.
        assert_eq!(numbers(&replay), [39.0]);
    }

    #[test]
    fn the_reservoir_is_a_fair_sample() {
        let mut replay = Replay::new(params(0, 500, 0)).expect("valid");
        (0..50_000).for_each(|i| replay.push(&[0.0], f64::from(i), 1.0, None, 1.0));
        let numbers = numbers(&replay);
        assert_eq!(numbers.len(), 500);
        // The mean of 500 uniform numbers has a standard deviation of 50,000 / √(12 · 500) = 645.
        let mean = numbers.iter().sum::<f64>() / 500.0;
        assert!((mean - 25_000.0).abs() < 3.0 * 645.0, "{mean}");
    }

    #[test]
    fn nothing_to_export_is_an_error() {
        let mut replay = Replay::new(params(0, 0, 0)).expect("valid");
        replay.push(&[0.0], 0.0, 1.0, None, 1.0);
        assert!(replay.is_empty() && replay.export(&signature()).is_err());
        let mut replay = Replay::new(params(9, 9, 9)).expect("valid");
        replay.push(&[0.0], 0.0, 0.0, None, 1.0);
        assert!(replay.is_empty(), "a row of weight 0");
    }

    proptest! {
        /// What is written reads back and goes on alike.
        #[test]
        fn a_replay_survives_being_written(
            losses in prop::collection::vec(0.0_f64..9.0, 0..60),
            more in prop::collection::vec(0.0_f64..9.0, 0..60),
        ) {
            let params = params(5, 7, 3);
            let mut ours = Replay::new(params.clone()).expect("valid");
            let push = |to: &mut Replay, losses: &[f64]| {
                for &loss in losses {
                    to.push(&[loss as f32], loss, 1.0, Some(3), loss);
                }
            };
            push(&mut ours, &losses);
            let mut to = Encoder::default();
            ours.encode(&mut to);
            let bytes = to.into_bytes();
            let mut theirs = Replay::decode(&mut Decoder::new(&bytes, "test"), params).expect("whole");
            push(&mut ours, &more);
            push(&mut theirs, &more);
            let written = |replay: &Replay| {
                let mut to = Encoder::default();
                replay.encode(&mut to);
                to.into_bytes()
            };
            prop_assert_eq!(written(&ours), written(&theirs));
        }
    }
}

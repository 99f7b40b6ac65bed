//! Trailing windows: for each row, the earlier rows of its entity.
//!
//! A row's window is its entity's last rows before it in time, and the row itself, which comes last.
//! *Before* is strictly before: rows of the same timestamp do not see one another, and no row sees
//! a later one, whatever the order of rows in the frame. So nothing leaks in any split of the data.
//!
//! A model keeps the last rows of each entity of its fit. They stand in for the history that a frame
//! lacks, where they lie before its rows; where the frame has a row of that entity and moment, the
//! frame's counts.

use std::borrow::Cow;

use mm_core::{BodyReader, BodyWriter, Error, Frame, Result};

use crate::prepare::NO_ROW;

/// The last rows of each entity of a fit.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct History {
    times: Vec<i64>,
    entities: Vec<i64>,
    /// Row by row.
    values: Vec<f32>,
}

impl History {
    fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn write(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&(&self.times, &self.entities))?;
        let values: Vec<f64> = self.values.iter().map(|&x| x.into()).collect();
        body.numbers(&values);
        Ok(())
    }

    pub(crate) fn read(body: &mut BodyReader<'_>, n_cols: usize) -> Result<Self> {
        let (times, entities): (Vec<i64>, Vec<i64>) = body.json()?;
        let values: Vec<f32> = body.numbers()?.into_iter().map(|x| x as f32).collect();
        let history = Self { times, entities, values };
        let n = history.len();
        if history.entities.len() != n || history.values.len() != n * n_cols {
            let expected = format!("{n} rows of {n_cols} columns");
            return Err(Error::corrupt("history", expected, history.values.len()));
        }
        Ok(history)
    }
}

/// The windows of the rows of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Windows {
    /// `steps` places a row: rows of the history, then rows of the frame, or [`NO_ROW`].
    pub(crate) places: Vec<u32>,
    pub(crate) steps: usize,
}

impl Windows {
    /// Windows of `window` steps, or of the row alone if there is none or 1. Else the frame must
    /// have timestamps; without entities all rows are of one.
    pub(crate) fn new(window: Option<usize>, frame: &Frame, history: &History) -> Result<Self> {
        let steps = window.unwrap_or(1);
        let n = frame.n_rows();
        if steps == 1 {
            return Ok(Self { places: (0..n as u32).collect(), steps });
        }
        let Some(times) = frame.times() else {
            let expected = "timestamps, by which a sequence model knows what came before";
            return Err(Error::data("frame", expected, "none"));
        };
        let entity = |row: usize| frame.entities().map_or(0, |entities| entities[row]);
        let kept = history.len();
        let mut order: Vec<(i64, i64, u32)> = Vec::with_capacity(kept + n);
        let past = history.entities.iter().zip(&history.times).zip(0..);
        order.extend(past.map(|((&entity, &time), place)| (entity, time, place)));
        order.extend((0..n).map(|row| (entity(row), times[row], (kept + row) as u32)));
        order.sort_unstable();
        let is_past = |place: u32| (place as usize) < kept;
        // Of one entity and moment, the history's rows come first; they go where the frame has one.
        let all = std::mem::take(&mut order);
        for group in all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let last_is_new = group.last().is_some_and(|&(.., place)| !is_past(place));
            order.extend(group.iter().filter(|&&(.., place)| !(last_is_new && is_past(place))));
        }
        let mut places = vec![NO_ROW; n * steps];
        for (at, &(entity, time, place)) in order.iter().enumerate() {
            let Some(row) = (place as usize).checked_sub(kept) else { continue };
            let window = &mut places[row * steps..][..steps];
            window[steps - 1] = place;
            let earlier = order[..at].iter().rev().take_while(|other| other.0 == entity);
            let earlier = earlier.filter(|other| other.1 < time).take(steps - 1);
            for (slot, other) in window[..steps - 1].iter_mut().rev().zip(earlier) {
                *slot = other.2;
            }
        }
        Ok(Self { places, steps })
    }

    /// The window of a row without a history.
    pub(crate) fn alone(window: Option<usize>) -> Vec<u32> {
        let mut places = vec![NO_ROW; window.unwrap_or(1)];
        if let Some(last) = places.last_mut() {
            *last = 0;
        }
        places
    }

    /// The rows that the places name: those of the history, then those of the frame.
    pub(crate) fn frame<'a>(&self, frame: &'a Frame, history: &History) -> Result<Cow<'a, Frame>> {
        if self.steps == 1 || history.len() == 0 {
            return Ok(Cow::Borrowed(frame));
        }
        let mut values = history.values.clone();
        frame.rows().for_each(|row| values.extend(row));
        Ok(Cow::Owned(Frame::with_schema(values, frame.schema().clone())?))
    }

    /// What a model keeps of the frame that it was fitted to, if it has windows.
    pub(crate) fn history(&self, frame: &Frame) -> History {
        let mut history = History::default();
        let (Some(times), true) = (frame.times(), 1 < self.steps) else { return history };
        let entity = |row: usize| frame.entities().map_or(0, |entities| entities[row]);
        let mut order: Vec<usize> = (0..frame.n_rows()).collect();
        order.sort_by_key(|&row| (entity(row), times[row]));
        for group in order.chunk_by(|&a, &b| entity(a) == entity(b)) {
            let first = group.len().saturating_sub(self.steps - 1);
            for &row in &group[first..] {
                history.times.push(times[row]);
                history.entities.push(entity(row));
                history.values.extend(frame.row(row));
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(times: &[i64], entities: &[i64]) -> Frame {
        let values = (0..times.len()).map(|i| i as f32).collect();
        let frame = Frame::new(values, 1).expect("valid");
        let frame = frame.with_times(times.to_vec()).expect("length");
        frame.with_entities(entities.to_vec()).expect("length")
    }

    #[test]
    fn a_window_ends_with_its_row_and_begins_with_nothing() {
        let frame = frame(&[30, 10, 20, 10], &[1, 1, 1, 2]);
        let windows = Windows::new(Some(3), &frame, &History::default()).expect("times");
        let none = NO_ROW;
        assert_eq!(windows.places, [1, 2, 0, none, none, 1, none, 1, 2, none, none, 3]);
    }

    #[test]
    fn history_stands_in_where_it_is_earlier_and_the_frame_has_no_row() {
        let past = frame(&[1, 2, 3, 1], &[1, 1, 1, 2]);
        let windows = Windows::new(Some(3), &past, &History::default()).expect("times");
        let history = windows.history(&past);
        assert_eq!(history.values, [1.0, 2.0, 3.0], "the last two of entity 1, all of entity 2");
        // The row at 3 is in both; the row at 2 must not see it.
        let next = frame(&[3, 4, 2, 9], &[1, 1, 1, 3]);
        let windows = Windows::new(Some(3), &next, &history).expect("times");
        let rows = windows.frame(&next, &history).expect("valid");
        let seen = |row: usize| -> Vec<f32> {
            let window = windows.places[row * 3..][..3].iter().filter(|&&place| place != NO_ROW);
            window.map(|&place| rows.row(place as usize)[0]).collect()
        };
        assert_eq!(seen(0), [2.0, 0.0], "the row at 2, which is the frame's, and itself");
        assert_eq!(seen(1), [2.0, 0.0, 1.0]);
        assert_eq!(seen(2), [2.0], "nothing before 2 was kept");
        assert_eq!(seen(3), [3.0], "an entity that the fit did not see");
    }

    #[test]
    fn a_frame_without_timestamps_is_refused_unless_rows_stand_alone() {
        let frame = Frame::new(vec![0.0; 3], 1).expect("valid");
        let error = Windows::new(Some(2), &frame, &History::default()).expect_err("no times");
        assert!(error.to_string().starts_with("frame: expected timestamps"), "{error}");
        let alone = Windows::new(Some(1), &frame, &History::default()).expect("alone");
        assert_eq!(alone.places, [0, 1, 2]);
    }

    proptest! {
        /// Whatever the data: a window holds rows of its entity alone, in rising time, all before
        /// the row itself, and as many of the latest as there are.
        #[test]
        fn no_window_sees_the_future_or_another_entity(
            rows in prop::collection::vec((0_i64..12, 0_i64..3), 1..40), cut in 0_usize..40, steps in 2_usize..5,
        ) {
            let cut = cut.min(rows.len());
            let of = |rows: &[(i64, i64)]| {
                let (times, entities): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
                frame(&times, &entities)
            };
            let past = of(&rows[..cut]);
            let kept = Windows::new(Some(steps), &past, &History::default()).expect("times");
            let history = kept.history(&past);
            let next = of(&rows[cut..]);
            let windows = Windows::new(Some(steps), &next, &history).expect("times");
            let stamp = |place: u32| match (place as usize).checked_sub(history.len()) {
                Some(row) => rows[cut + row],
                None => (history.times[place as usize], history.entities[place as usize]),
            };
            for (row, window) in windows.places.chunks(steps).enumerate() {
                let (time, entity) = rows[cut + row];
                let (last, earlier) = window.split_last().expect("steps");
                prop_assert_eq!(*last as usize, history.len() + row);
                let there: Vec<u32> = earlier.iter().copied().filter(|&p| p != NO_ROW).collect();
                prop_assert!(earlier.ends_with(&there), "what is lacking stands first");
                prop_assert!(there.iter().all(|&p| stamp(p).1 == entity && stamp(p).0 < time));
                prop_assert!(there.windows(2).all(|w| stamp(w[0]).0 <= stamp(w[1]).0));
                let before = rows[cut..].iter().filter(|r| r.1 == entity && r.0 < time).count();
                prop_assert!(before.min(steps - 1) <= there.len());
            }
        }
    }
}

//! Boosters that pause at rungs and go on from the models that they have.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use mm_core::{Climbed, Direction, Error, Result, Rungs, Tried, TuneTask};

use crate::{
    attrs::Attrs,
    json::Json,
    plan,
    storage::Write,
    study::{Outcome, Study, Trial},
    trial::{FROM, FrozenTrial, TrialId, TrialState},
};

/// The attribute that says which rung a trial is to reach, from 0, which is left out.
const RUNG: &str = "mm:rung";
/// The attribute with the score on a rung, which it ends with.
const REACHED: &str = "mm:reached:";
/// The attribute with what can be expected of a trial beyond the rung that it has reached.
const EXPECTED: &str = "mm:expected";
/// The attribute with the number of rounds that were best, if fewer than the rung has.
const BEST: &str = "mm:rounds";

/// One search over rungs.
pub(crate) struct Climb<'a> {
    task: &'a TuneTask<'a>,
    rounds: Vec<usize>,
    eta: usize,
    models: Models,
}

impl<'a> Climb<'a> {
    pub(crate) fn new(task: &'a TuneTask<'a>, rungs: Rungs) -> Self {
        // A search's name ends with the hash of what determines its scores.
        let hash = task.study().rsplit(' ').next().unwrap_or_default();
        let folder = task.checkpoint().map(|folder| folder.join(format!("rungs-{hash}")));
        let models = Models { folder, kept: Mutex::default() };
        Self { task, rounds: rungs.rounds(), eta: rungs.eta, models }
    }

    /// Fits a trial up to its rung.
    pub(crate) fn score(&self, study: &Study, trial: &mut Trial) -> Result<Outcome> {
        let (rung, from) = {
            let frozen = trial.frozen();
            let rung = frozen.system_attrs.get(RUNG).and_then(Json::as_i64);
            (rung.unwrap_or(0).unsigned_abs() as usize, frozen.continues())
        };
        if let Some(from) = from
            && is_continued(study, from, Some(trial.frozen().id))
        {
            return Ok(Outcome::Pruned); // Two workers have promoted the same trial.
        }
        let Some(&rounds) = self.rounds.get(rung) else {
            return Err(Error::data(
                "rung of the trial",
                format!("below {}", self.rounds.len()),
                rung,
            ));
        };
        let config = trial.draw(|space| self.task.draw(space))?;
        plan::note_config(trial, &config)?;
        let models = from.and_then(|from| self.models.take(from));
        let climbed = match &models {
            Some(models) => {
                let done = self.rounds[rung.saturating_sub(1)];
                match self.task.climb(&config, rounds, Some((done, models))) {
                    Err(error) if !matches!(error, Error::Cancelled) => {
                        tracing::warn!(error = error.chain(), "a rung is begun from nothing");
                        self.task.climb(&config, rounds, None)
                    }
                    other => other,
                }
            }
            None => self.task.climb(&config, rounds, None),
        };
        let Climbed { mut scored, rounds: best, expected, models: reached, .. } = match climbed {
            Ok(climbed) => climbed,
            Err(error) if plan::ends_the_run(&error) => {
                study.give_back(trial)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let score = scored.score;
        if let (Some(_), Some(from)) = (models, from) {
            // What the rungs below took is a part of the fit.
            let before = study.with_history(|history| {
                let mut all = history.finished().iter();
                let trial = all.find(|trial| trial.number == from);
                trial.and_then(|trial| plan::scored(trial, score).cost.fit_seconds)
            });
            scored.cost.fit_seconds =
                scored.cost.fit_seconds.map(|seconds| seconds + before.unwrap_or(0.0));
        }
        plan::note_scored(trial, self.task, &scored)?;
        trial.report(rounds as u64, score)?;
        trial.note(&format!("{REACHED}{rung}"), score.into())?;
        trial.note(EXPECTED, expected.into())?;
        if best < rounds {
            trial.note(BEST, Json::Int(best as i64))?;
        }
        if rung + 1 == self.rounds.len() {
            return Ok(score.into());
        }
        self.models.keep(trial.number(), reached);
        Ok(Outcome::Pruned)
    }

    /// The rung that a trial has reached: a configuration with so many rounds, and what it came to.
    pub(crate) fn reached(&self, trial: &FrozenTrial) -> Result<Vec<Tried>> {
        let reached = self.rounds.iter().enumerate().filter_map(|(rung, &rounds)| {
            Some((trial.system_attrs.get(&format!("{REACHED}{rung}"))?.as_f64()?, rounds))
        });
        let ending = |(score, rounds): (f64, usize)| {
            let config = plan::config(trial, self.task)?;
            let config = self.task.with_rounds(&config, best_rounds(trial).unwrap_or(rounds));
            Ok(Tried::new(trial.number, config, plan::scored(trial, score)))
        };
        reached.map(ending).collect()
    }

    /// Enqueues the next rung of those that have earned it, the highest first. If `at_least_one`, and
    /// no trial has reached the top, the best of the highest rung has. Whether there are any.
    pub(crate) fn promote(&self, study: &Study, at_least_one: bool) -> Result<bool> {
        let trials: Vec<Arc<FrozenTrial>> = {
            let history = study.synced()?;
            history.finished().iter().chain(history.open()).cloned().collect()
        };
        let is_complete = |trial: &Arc<FrozenTrial>| trial.state == TrialState::Complete;
        let force = at_least_one && !trials.iter().any(is_complete);
        let mut any = false;
        for rung in (0..self.rounds.len() - 1).rev() {
            let key = format!("{REACHED}{rung}");
            let mut there: Vec<(f64, &Arc<FrozenTrial>)> = trials
                .iter()
                .filter(|trial| trial.state.is_finished() && trial.state != TrialState::Fail)
                .filter(|trial| trial.violation() <= 0.0)
                .filter_map(|trial| {
                    let score = trial.system_attrs.get(&key)?.as_f64()?;
                    let expected = trial.system_attrs.get(EXPECTED).and_then(Json::as_f64);
                    Some((expected.unwrap_or(score), trial))
                })
                .collect();
            there.sort_by(|a, b| {
                let order = match self.task.direction() {
                    Direction::Minimize => a.0.total_cmp(&b.0),
                    Direction::Maximize => b.0.total_cmp(&a.0),
                };
                order.then_with(|| a.1.number.cmp(&b.1.number))
            });
            let best = (there.len() / self.eta).max(usize::from(force && !any));
            // What has been better with fewer rounds will not be with more.
            let rises = |trial: &FrozenTrial| {
                best_rounds(trial).is_none_or(|best| 9 * self.rounds[rung] <= 10 * best)
            };
            for (_, trial) in there.into_iter().take(best) {
                if !rises(trial) {
                    continue;
                }
                if is_continued(study, trial.number, None) {
                    continue;
                }
                let next = next_rung(trial, rung + 1);
                study.add(&next)?;
                any = true;
            }
        }
        Ok(any)
    }
}

fn best_rounds(trial: &FrozenTrial) -> Option<usize> {
    let best = trial.system_attrs.get(BEST).and_then(Json::as_i64)?;
    Some(best.unsigned_abs() as usize)
}

/// A waiting trial for the rung after the one that `trial` has reached.
fn next_rung(trial: &FrozenTrial, rung: usize) -> FrozenTrial {
    let attrs = [(RUNG, rung as i64), (FROM, trial.number as i64)];
    FrozenTrial {
        id: TrialId(0),
        number: 0,
        state: TrialState::Waiting,
        values: Vec::new(),
        params: trial.params.clone(),
        intermediate: BTreeMap::new(),
        user_attrs: Attrs::new(),
        system_attrs: attrs.map(|(key, x)| (key.to_owned(), Json::Int(x))).into(),
        started: None,
        completed: None,
    }
}

/// Whether a trial continues from `number`, other than `me` and before it.
fn is_continued(study: &Study, number: u64, me: Option<TrialId>) -> bool {
    study.with_history(|history| {
        let mut all = history.finished().iter().chain(history.open());
        all.any(|trial| {
            trial.state != TrialState::Fail
                && me.is_none_or(|me| trial.id < me)
                && trial.continues() == Some(number)
        })
    })
}

impl Trial {
    /// Notes something for the system.
    fn note(&self, key: &str, value: Json) -> Result<()> {
        let mut frozen = self.frozen();
        let write = Write::SystemAttr(key.to_owned(), value.clone());
        self.study().storage().write(frozen.id, &[write])?;
        frozen.system_attrs.insert(key.to_owned(), value);
        Ok(())
    }
}

/// Models of trials that have paused, by number: in files `<number>.models`, each model with its
/// length before it (u64, little-endian), or in memory. What cannot be kept or read will be trained
/// again.
struct Models {
    folder: Option<PathBuf>,
    kept: Mutex<HashMap<u64, Vec<Vec<u8>>>>,
}

impl Models {
    fn keep(&self, number: u64, models: Vec<Vec<u8>>) {
        if models.is_empty() {
            return; // Of a kind that goes on from another state.
        }
        let Some(folder) = &self.folder else {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(number, models);
            return;
        };
        let write = || {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            let mut bytes = Vec::new();
            for model in models {
                bytes.extend((model.len() as u64).to_le_bytes());
                bytes.extend(model);
            }
            mm_core::replace_file(&folder.join(format!("{number}.models")), &bytes)
        };
        if let Err(error) = write() {
            tracing::warn!(error = error.chain(), "models of a rung are not kept");
        }
    }

    /// The models of a trial, which nobody else will want.
    fn take(&self, number: u64) -> Option<Vec<Vec<u8>>> {
        let Some(folder) = &self.folder else {
            return self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        };
        let path = folder.join(format!("{number}.models"));
        let bytes = fs::read(&path).ok()?;
        let (mut rest, mut models) = (&bytes[..], Vec::new());
        while let Some((len, after)) = rest.split_first_chunk::<8>() {
            let (model, after) = after.split_at_checked(u64::from_le_bytes(*len) as usize)?;
            models.push(model.to_vec());
            rest = after;
        }
        Some(models)
    }
}

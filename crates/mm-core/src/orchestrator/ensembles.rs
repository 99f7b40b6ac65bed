//! The stages that make one model of several: first from out-of-fold predictions, then, once the
//! members are fitted to all rows, whole.

use std::{borrow::Cow, sync::Arc};

use super::{
    EnsemblePlan, Entry, Score, Status,
    checkpoint::Predicted,
    run::{COMBINE, Fitted, Models, Run},
};
use crate::{
    combine::{Combination, Combiner, Evidence, Member, cross_combine},
    cross_fit::OutOfFold,
    error::{Error, Result},
    model::Model,
    schedule,
};

/// An ensemble that was scored, or failed.
pub(super) struct Ensemble {
    entry: Entry,
    combination: Option<Box<dyn Combination>>,
}

/// A candidate that succeeded in every fold.
struct CrossFitted<'a> {
    name: &'a str,
    folds: &'a [Predicted],
    predict_micros: f64,
}

/// What a combiner has learnt, and its scores.
type Combined = (Box<dyn Combination>, Score, Vec<Score>);

impl Run<'_> {
    pub(super) fn build_ensembles(&self, candidates: &[Entry], fitted: &[Fitted]) -> Vec<Ensemble> {
        let ensembles = self.plan.ensembles.iter().zip(&self.combiners);
        ensembles
            .map(|(plan, combiner)| self.build_ensemble(plan, &**combiner, candidates, fitted))
            .collect()
    }

    fn build_ensemble(
        &self,
        plan: &EnsemblePlan,
        combiner: &dyn Combiner,
        candidates: &[Entry],
        fitted: &[Fitted],
    ) -> Ensemble {
        let mut entry = Entry::new(plan.name());
        let mut members = Vec::new();
        for (candidate, folds) in candidates.iter().zip(fitted) {
            if let Ok(folds) = folds
                && plan.has(&candidate.name)
                && !candidate.has_failed()
            {
                entry.members.push(candidate.name.clone());
                entry.fit_seconds += candidate.fit_seconds;
                entry.predict_micros += candidate.predict_micros;
                members.push(CrossFitted {
                    name: &candidate.name,
                    folds,
                    predict_micros: candidate.predict_micros,
                });
            }
        }
        let combined = match plan.members.iter().find(|name| !entry.members.contains(name)) {
            Some(name) => {
                Err(Error::NotFound { what: "member that succeeded", name: name.clone() })
            }
            None => schedule::contain(|| self.combine(combiner, &members)),
        };
        let combination = match combined {
            Ok((combination, score, also)) => {
                (entry.score, entry.also) = (Some(score), also);
                entry.predict_micros = 0.0;
                let mut place = 0..;
                entry.members.retain(|_| place.next().is_some_and(|place| combination.uses(place)));
                for member in members.iter().filter(|m| entry.members.iter().any(|n| n == m.name)) {
                    entry.predict_micros += member.predict_micros;
                }
                Some(combination)
            }
            Err(e) => {
                self.fail(&mut entry, &e);
                None
            }
        };
        Ensemble { entry, combination }
    }

    fn combine(&self, combiner: &dyn Combiner, members: &[CrossFitted<'_>]) -> Result<Combined> {
        let gathered: Vec<OutOfFold> =
            members.iter().map(|member| self.gather(member.folds)).collect::<Result<_>>()?;
        let (Some(first), Some(first_member)) = (gathered.first(), members.first()) else {
            return Err(Error::data("members", "at least 1 that succeeded", "none"));
        };
        let named = members.iter().zip(&gathered).map(|(member, all)| {
            let mut named = Member::new(member.name, all.predictions());
            named.predict_micros = Some(member.predict_micros);
            named
        });
        let named: Vec<Member<'_>> = named.collect();
        let rows = first.rows();
        let ctx = self.context(self.plan.seed, self.threads).fork(COMBINE);
        ctx.check_cancelled()?;
        let evidence = Evidence::new(&named, rows, self.data, &self.folds);
        let part = |m: usize, f: usize| Cow::Borrowed(&members[m].folds[f].values);
        let combined = cross_combine(combiner, evidence, part, self.metric, &ctx)?;
        let seen = self.data.take(rows);
        let combination = combiner.combine(&named, &seen, self.metric, &ctx)?;
        let outputs = first_member.folds;
        let (score, also) = self.scores(|metric, f, data| {
            metric.score_outputs(data.truth(), &combined[f], &outputs[f].outputs)
        })?;
        Ok((combination, score, also))
    }

    /// Joins the members that were fitted to all rows; `candidates` says how they fared.
    pub(super) fn finish_ensemble(
        &self,
        ensemble: Ensemble,
        candidates: &[Entry],
        models: &mut Models,
    ) -> Entry {
        let Ensemble { mut entry, combination } = ensemble;
        let Some(combination) = combination else { return entry };
        let is_cut_short =
            |c: &Entry| c.status == Status::CutShort && entry.members.contains(&c.name);
        if candidates.iter().any(is_cut_short) {
            entry.status = Status::CutShort;
        }
        if !self.plan.refit {
            return entry;
        }
        let member = |name: &String| {
            let found = models.iter().find(|(other, _)| other == name);
            let missing =
                || Error::NotFound { what: "member fitted to all rows", name: name.clone() };
            found.map(|(_, model)| Arc::clone(model)).ok_or_else(missing)
        };
        let members: Result<Vec<_>> = entry.members.iter().map(member).collect();
        let whole = schedule::contain(|| {
            let model = combination.into_model(members?)?;
            let bytes = model.to_envelope()?.as_bytes().len();
            Ok((Arc::<dyn Model>::from(model), bytes))
        });
        match whole {
            Ok((model, bytes)) => {
                entry.bytes = Some(bytes);
                models.push((entry.name.clone(), model));
            }
            Err(e) => self.fail(&mut entry, &e),
        }
        entry
    }
}

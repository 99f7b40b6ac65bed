//! What every combiner of this crate learns: a rule, and the members that it is for.

use std::sync::Arc;

use mm_core::{BoxModel, Combination, Error, Frame, Matrix, Member, Model, Result};

use crate::{
    model::EnsembleModel,
    rule::{Rule, Weights},
};

/// A rule for some of the members.
#[derive(Debug)]
pub(crate) struct Learned {
    members: Vec<(usize, String)>, // Place and name, in the rule's order.
    rule: Rule,
}

impl Learned {
    /// A rule for all members.
    pub(crate) fn all(members: &[Member<'_>], rule: Rule) -> Box<dyn Combination> {
        Self::some(members, (0..members.len()).collect(), rule)
    }

    /// A rule for the members at `places`, in this order.
    pub(crate) fn some(
        members: &[Member<'_>],
        places: Vec<usize>,
        rule: Rule,
    ) -> Box<dyn Combination> {
        let named = |place: usize| (place, members[place].name.to_owned());
        Box::new(Self { members: places.into_iter().map(named).collect(), rule })
    }

    /// The weighted mean of those members that have weight.
    pub(crate) fn weighted(members: &[Member<'_>], weights: &Weights) -> Box<dyn Combination> {
        let by_member = weights.by_member();
        let used: Vec<usize> = (0..members.len()).filter(|&i| 0.0 < by_member[i]).collect();
        let weights = weights.take(&used);
        Self::some(members, used, Rule::Mean(weights))
    }
}

impl Combination for Learned {
    fn apply(&self, parts: &[&Matrix], x: &Frame) -> Result<Matrix> {
        let chosen: Option<Vec<&Matrix>> =
            self.members.iter().map(|&(place, _)| parts.get(place).copied()).collect();
        let Some(chosen) = chosen else {
            return Err(Error::data("members' predictions", "one a member", parts.len()));
        };
        let mut out = Matrix::zeros(x.n_rows(), chosen.first().map_or(1, |part| part.n_cols()));
        self.rule.apply(&chosen, x, &mut out)?;
        Ok(out)
    }

    fn uses(&self, place: usize) -> bool {
        self.members.iter().any(|&(used, _)| used == place)
    }

    fn into_model(self: Box<Self>, members: Vec<Arc<dyn Model>>) -> Result<BoxModel> {
        if members.len() != self.members.len() {
            return Err(Error::data("members", self.members.len(), members.len()));
        }
        // `members` come in the order of their places, the rule may have another.
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&i| self.members[i].0);
        let mut models: Vec<Option<Arc<dyn Model>>> = vec![None; members.len()];
        order.into_iter().zip(members).for_each(|(i, model)| models[i] = Some(model));
        let named = self.members.into_iter().zip(models);
        let named = named.filter_map(|((_, name), model)| Some((name, model?)));
        Ok(Box::new(EnsembleModel::new(named, self.rule)?))
    }
}

/// The shape that all members' predictions share; refuses members that differ, and none.
pub(crate) fn shape(members: &[Member<'_>]) -> Result<(usize, usize)> {
    let Some(first) = members.first() else {
        return Err(Error::data("members", "at least 1", "none"));
    };
    let of = |m: &Member<'_>| (m.predictions.n_rows(), m.predictions.n_cols());
    for member in members {
        if of(member) != of(first) {
            let [expected, got] = [first, member].map(|m| format!("{} × {}", of(m).0, of(m).1));
            let place = format_args!("predictions of member `{}`", member.name);
            return Err(Error::data(place, expected, got));
        }
        if let Some(y) = member.predictions.values().iter().find(|y| !y.is_finite()) {
            let place = format_args!("predictions of member `{}`", member.name);
            return Err(Error::data(place, "finite numbers", y));
        }
    }
    Ok(of(first))
}

//! Notes on studies and trials.

use std::{collections::BTreeMap, ops::Index};

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// Attributes of a study or a trial: JSON by name, in order.
///
/// Most trials have none or a few, so they stand in a sorted list: one note costs the note, where a tree's
/// node would have room for eleven. O(log n) to look one up, O(n) to add one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attrs(Vec<(String, Json)>);

impl Attrs {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of that name.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.position(key).ok().map(|i| &self.0[i].1)
    }

    /// Whether there is one of that name.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_ok()
    }

    /// Sets a value; the one before, if there was one.
    pub fn insert(&mut self, key: String, value: Json) -> Option<Json> {
        match self.position(&key) {
            Ok(i) => Some(std::mem::replace(&mut self.0[i].1, value)),
            Err(i) => {
                self.0.insert(i, (key, value));
                None
            }
        }
    }

    /// By name, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Json)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Those whose name begins so, in order.
    pub fn starting_with(&self, prefix: &str) -> impl Iterator<Item = (&String, &Json)> {
        let first = self.0.partition_point(|(key, _)| key.as_str() < prefix);
        self.iter().skip(first).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives back memory that no attribute needs.
    pub(crate) fn fit(&mut self) {
        self.0.shrink_to_fit();
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(key))
    }
}

/// Panics if there is none of that name, as a map does.
impl Index<&str> for Attrs {
    type Output = Json;

    fn index(&self, key: &str) -> &Json {
        self.get(key).unwrap_or_else(|| panic!("no attribute `{key}`"))
    }
}

impl Extend<(String, Json)> for Attrs {
    fn extend<I: IntoIterator<Item = (String, Json)>>(&mut self, attrs: I) {
        for (key, value) in attrs {
            self.insert(key, value);
        }
    }
}

impl FromIterator<(String, Json)> for Attrs {
    fn from_iter<I: IntoIterator<Item = (String, Json)>>(attrs: I) -> Self {
        let mut all = Self::new();
        all.extend(attrs);
        all
    }
}

impl<const N: usize> From<[(String, Json); N]> for Attrs {
    fn from(attrs: [(String, Json); N]) -> Self {
        attrs.into_iter().collect()
    }
}

impl From<BTreeMap<String, Json>> for Attrs {
    fn from(attrs: BTreeMap<String, Json>) -> Self {
        Self(attrs.into_iter().collect())
    }
}

/// The object that has them.
impl From<Attrs> for Json {
    fn from(attrs: Attrs) -> Self {
        Self::Object(attrs.0.into_iter().collect())
    }
}

impl IntoIterator for Attrs {
    type Item = (String, Json);
    type IntoIter = std::vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn attributes_are_those_of_a_map(
            set in prop::collection::vec(("[a-c]{0,3}", 0_i64..9), 0..20), prefix in "[a-c]{0,2}",
        ) {
            let (mut attrs, mut map) = (Attrs::new(), BTreeMap::new());
            for (key, value) in set {
                let value = Json::Int(value);
                prop_assert_eq!(attrs.insert(key.clone(), value.clone()), map.insert(key, value));
            }
            prop_assert_eq!(attrs.len(), map.len());
            prop_assert!(attrs.iter().eq(map.iter()));
            let beginning = map.iter().filter(|(key, _)| key.starts_with(&prefix));
            prop_assert!(attrs.starting_with(&prefix).eq(beginning));
            prop_assert_eq!(attrs.get(&prefix), map.get(&prefix));
            prop_assert_eq!(Json::from(attrs), Json::Object(map));
        }
    }
}

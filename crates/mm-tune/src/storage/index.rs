//! What a journal came to up to some line, in a file beside it, so that opening a long one reads only
//! what is new.
//!
//! The index is a help and never the truth: it is read only if it is whole and the journal still begins
//! and goes on, up to where the index ends, with the same bytes; else the journal is replayed and the
//! index made again. Optuna does not look at it.
//!
//! | bytes | hold |
//! | --- | --- |
//! | 8 | `mmjidx01` |
//! | 32 | SHA-256 of the rest |
//! | 8, 8 | u64 bytes and lines of the journal that are in it, little-endian |
//! | 32 | SHA-256 of the journal's first and last 4 KiB before that point |
//! | | the studies and trials, names and distributions once (postcard) |

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use mm_core::Direction;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    journal::{code_of, state_of},
    state::{State, Study},
};
use crate::{
    attrs::Attrs,
    distribution::Distribution,
    json::Json,
    storage::StudyRecord,
    trial::{FrozenTrial, Param, ParamSet, StudyId, Timestamp, TrialId},
};

/// The first bytes of the file; the number is raised whenever the layout changes.
const MAGIC: &[u8; 8] = b"mmjidx01";

/// So many bytes at either end of what was read tell one journal from another.
const ENDS: u64 = 4096;

/// Whether so many new bytes are worth an index that has `indexed` already: opening then reads at most
/// about twice what it would with an index of every line, and all indices together cost O(journal).
pub(super) fn is_due(indexed: u64, read: u64) -> bool {
    (1 << 20).max(indexed) < read - indexed
}

/// A journal's state, up to a byte and a line.
pub(super) struct Indexed {
    pub(super) state: State,
    pub(super) offset: u64,
    pub(super) line: u64,
}

/// The file beside a journal.
fn path_of(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(".mmidx");
    path.into()
}

/// What the index beside `journal` holds; `None` if there is none, or none of this journal.
pub(super) fn load(journal: &Path) -> Option<Indexed> {
    let path = path_of(journal);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "index cannot be read");
            return None;
        }
    };
    let found = decode(&bytes, journal);
    if found.is_none() {
        tracing::warn!(path = %path.display(), "index is damaged or old; the journal is replayed");
    }
    found
}

/// Puts an index beside `journal`. One that cannot be written is missed at the next opening only.
pub(super) fn keep(journal: &Path, state: &State, offset: u64, line: u64) {
    let encoded = ends(journal, offset).map(|ends| {
        let mut content = offset.to_le_bytes().to_vec();
        content.extend(line.to_le_bytes());
        content.extend(ends);
        content.extend(postcard::to_stdvec(&Image::of(state)).unwrap_or_default());
        [&MAGIC[..], &Sha256::digest(&content), &content].concat()
    });
    let Some(bytes) = encoded else { return };
    mm_core::sweep_beside(&path_of(journal));
    if let Err(error) = mm_core::replace_file(&path_of(journal), &bytes) {
        tracing::debug!(error = error.chain(), "the journal's index cannot be written");
    }
}

fn decode(bytes: &[u8], journal: &Path) -> Option<Indexed> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (checksum, content) = rest.split_first_chunk::<32>()?;
    if Sha256::digest(content)[..] != *checksum {
        return None;
    }
    let (offset, content) = content.split_first_chunk::<8>()?;
    let (line, content) = content.split_first_chunk::<8>()?;
    let (known, content) = content.split_first_chunk::<32>()?;
    let (offset, line) = (u64::from_le_bytes(*offset), u64::from_le_bytes(*line));
    if ends(journal, offset)? != *known {
        return None;
    }
    let image: Image = postcard::from_bytes(content).ok()?;
    Some(Indexed { state: image.state()?, offset, line })
}

/// The hash of the journal's first and last bytes before `offset`; `None` if it is shorter.
fn ends(journal: &Path, offset: u64) -> Option<[u8; 32]> {
    let mut file = File::open(journal).ok()?;
    if file.metadata().ok()?.len() < offset {
        return None;
    }
    let mut hash = Sha256::new();
    for start in [0, offset.saturating_sub(ENDS)] {
        file.seek(SeekFrom::Start(start)).ok()?;
        let mut end = Vec::new();
        (&file).take(ENDS.min(offset)).read_to_end(&mut end).ok()?;
        hash.update(end);
    }
    Some(hash.finalize().into())
}

/// A state as it is stored: names and distributions by their place in a list.
#[derive(Default, Serialize, Deserialize)]
struct Image {
    names: Vec<String>,
    distributions: Vec<Json>,
    studies: Vec<Option<StudyImage>>,
    /// By id: its study, and its place there.
    trials: Vec<(usize, usize)>,
}

#[derive(Serialize, Deserialize)]
struct StudyImage {
    name: String,
    /// Whether more is better, by objective.
    directions: Vec<bool>,
    user_attrs: Attrs,
    system_attrs: Attrs,
    trials: Vec<TrialImage>,
    /// The latest distribution of each parameter.
    params: Vec<(usize, usize)>,
}

#[derive(Serialize, Deserialize)]
struct TrialImage {
    id: i64,
    state: u8,
    values: Vec<f64>,
    params: Vec<(usize, f64, usize)>,
    intermediate: Vec<(u64, f64)>,
    user_attrs: Attrs,
    system_attrs: Attrs,
    started: Option<i64>,
    completed: Option<i64>,
}

/// Gives each name and each distribution a place. Those that are shared are found by their address.
#[derive(Default)]
struct Places {
    names: HashMap<Arc<str>, usize>,
    distributions: HashMap<*const Distribution, usize>,
}

impl Image {
    fn of(state: &State) -> Self {
        let (mut image, mut places) = (Self::default(), Places::default());
        let studies = state.parts().0.iter().map(|study| {
            let study = study.as_ref()?;
            let params = study.params.iter().map(|(n, d)| image.place(&mut places, n, d));
            let mut params: Vec<(usize, usize)> = params.collect();
            params.sort_unstable();
            let trials = study.trials.iter().map(|trial| image.trial(&mut places, trial));
            Some(StudyImage {
                trials: trials.collect(),
                params,
                name: study.record.name.clone(),
                directions: study
                    .record
                    .directions
                    .iter()
                    .map(|&direction| direction == Direction::Maximize)
                    .collect(),
                user_attrs: study.record.user_attrs.clone(),
                system_attrs: study.record.system_attrs.clone(),
            })
        });
        let studies = studies.collect();
        Self { studies, trials: state.parts().1.to_vec(), ..image }
    }

    fn place(
        &mut self,
        places: &mut Places,
        name: &Arc<str>,
        distribution: &Arc<Distribution>,
    ) -> (usize, usize) {
        let next = self.names.len();
        let name = *places.names.entry(name.clone()).or_insert_with(|| {
            self.names.push(name.to_string());
            next
        });
        let next = self.distributions.len();
        let place = places.distributions.entry(Arc::as_ptr(distribution));
        let distribution = *place.or_insert_with(|| {
            self.distributions.push(Json::from(&**distribution));
            next
        });
        (name, distribution)
    }

    fn trial(&mut self, places: &mut Places, trial: &FrozenTrial) -> TrialImage {
        let param = |param: &Param| {
            let (name, distribution) = self.place(places, &param.name, &param.distribution);
            (name, param.value, distribution)
        };
        TrialImage {
            id: trial.id.0,
            state: code_of(trial.state) as u8,
            values: trial.values.clone(),
            params: trial.params.iter().map(param).collect(),
            intermediate: trial.intermediate.iter().map(|(&step, &x)| (step, x)).collect(),
            user_attrs: trial.user_attrs.clone(),
            system_attrs: trial.system_attrs.clone(),
            started: trial.started.map(|at| at.0),
            completed: trial.completed.map(|at| at.0),
        }
    }

    /// The state; `None` if something is said of what is not there.
    fn state(self) -> Option<State> {
        let names: Vec<Arc<str>> = self.names.iter().map(|name| name.as_str().into()).collect();
        let distributions = self.distributions.iter();
        let distributions: Option<Vec<Arc<Distribution>>> =
            distributions.map(|json| Some(Arc::new(Distribution::try_from(json).ok()?))).collect();
        let distributions = distributions?;
        let pair =
            |n: usize, d: usize| Some((names.get(n)?.clone(), distributions.get(d)?.clone()));
        let trial = |(number, image): (usize, TrialImage)| {
            let param = |(name, value, distribution): (usize, f64, usize)| {
                let (name, distribution) = pair(name, distribution)?;
                Some(Param { name, value, distribution })
            };
            let params: Option<ParamSet> = image.params.into_iter().map(param).collect();
            Some(Arc::new(FrozenTrial {
                id: TrialId(image.id),
                number: number as u64,
                state: state_of(image.state.into()).ok()?,
                values: image.values,
                params: params?,
                intermediate: image.intermediate.into_iter().collect(),
                user_attrs: image.user_attrs,
                system_attrs: image.system_attrs,
                started: image.started.map(Timestamp),
                completed: image.completed.map(Timestamp),
            }))
        };
        let study = |(id, image): (usize, Option<StudyImage>)| {
            let Some(image) = image else { return Some(None) };
            let way = |&more| if more { Direction::Maximize } else { Direction::Minimize };
            let trials: Option<Vec<_>> = image.trials.into_iter().enumerate().map(trial).collect();
            let params: Option<HashMap<_, _>> =
                image.params.into_iter().map(|(n, d)| pair(n, d)).collect();
            let record = StudyRecord {
                id: StudyId(id as i64),
                name: image.name,
                directions: image.directions.iter().map(way).collect(),
                user_attrs: image.user_attrs,
                system_attrs: image.system_attrs,
            };
            Some(Some(Study { record, trials: trials?, params: params? }))
        };
        let studies: Option<Vec<_>> = self.studies.into_iter().enumerate().map(study).collect();
        State::of_parts(studies?, self.trials)
    }
}

//! Engines talk through `tracing`. In a process of its own, because `tracing` remembers for all
//! threads who listens.

#![cfg(feature = "lightgbm")]

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use mm_core::{Column, Dataset, FitContext, Frame, Learner as _, Levels, Params as _, Schema};
use mm_trees::LightGbmParams;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Keeps every event with its level and text.
#[derive(Clone, Default)]
struct Hear(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Hear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "mm_trees::lightgbm"
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
                self.0 = format!("{value:?}");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("nobody panicked").push((*event.metadata().level(), text.0));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

const N_COLS: usize = 40;

#[test]
fn lightgbm_speaks_through_tracing_from_all_its_threads() {
    let hear = Hear::default();
    tracing::subscriber::set_global_default(hear.clone()).expect("the first one");

    // LightGBM looks for bins on all threads, and warns once a column of unknown levels.
    let levels = Levels::new(["a", "b", "c"]).expect("distinct");
    let columns = (0..N_COLS).map(|j| Column::categorical(format!("c{j}"), levels.clone()));
    let schema = Schema::new(columns).expect("distinct");
    let values = (0..30 * N_COLS).map(|i| if i % 3 == 0 { Frame::UNKNOWN } else { 1.0 }).collect();
    let frame = Frame::with_schema(values, schema).expect("valid");
    let data = Dataset::regression(frame, (0..30).map(f64::from).collect()).expect("valid");
    let learner = LightGbmParams::default().build().expect("valid");
    learner.fit(&data, &FitContext::seeded(0).with_threads(4)).expect("fits");

    let heard = hear.0.lock().expect("nobody panicked");
    let count = |level, part: &str| {
        heard.iter().filter(|(l, text)| *l == level && text.contains(part)).count()
    };
    assert_eq!(count(Level::WARN, "Met negative value in categorical"), N_COLS, "{heard:?}");
    assert_eq!(count(Level::DEBUG, "Start training from score 14.5"), 1, "{heard:?}");
}

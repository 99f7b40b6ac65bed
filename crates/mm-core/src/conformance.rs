//! What every learner owes its callers, as one function that panics with the name of the first
//! broken promise. For authors of models: call [`check`] in a test of your crate.
//!
//! ```text
//! #[test]
//! fn conforms() {
//!     let learner = MyParams::default().build().expect("valid");
//!     mm_core::conformance::check(&learner, &my_crate::register(Catalog::default()));
//! }
//! ```
//!
//! The promises, each checked for every task that the learner can fit:
//!
//! - the same data, params, and seed give bit-identical predictions, whatever the thread count;
//! - a sealed model opens through the catalog and predicts bit for bit the same; a file cut short
//!   or with a flipped byte is an error, not a panic;
//! - the concrete and the erased learner give the same model;
//! - row *i* of a prediction depends on row *i* of the input alone; no rows in, no rows out; one
//!   row at a time gives what the batch gives, bit for bit;
//! - predictions are finite; probabilities lie in [0, 1], and those of all classes add up to 1;
//! - where a model [explains](crate::Explains) its predictions, contributions add up to them on the
//!   scale that it names, row by row, and are the same after reloading;
//! - a wrong width, name, order, or type of a column is an error that says so, as are infinite
//!   features and targets of one class; a level not seen at fit time is none;
//! - constant and all-missing columns, more features than rows, rows of weight 0 do no harm;
//! - a cancelled fit ends with [`Error::Cancelled`], and one whose deadline has passed ends in time
//!   with a model or [`Error::Deadline`].

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use crate::{
    BoxLearner, Cancel, Catalog, Column, Dataset, DynLearner, Error, FitContext, Frame, Learner,
    Levels, Matrix, Model, OnlineModel, Output, Sample, Schema, Signal, Step, Task,
};

/// What the learner under test can do; everything, by default.
#[expect(clippy::struct_excessive_bools, reason = "a list of abilities")]
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Checks {
    /// Fits regression.
    pub regression: bool,
    /// Fits two classes.
    pub binary: bool,
    /// Fits three or more classes.
    pub multiclass: bool,
    /// Accepts missing cells.
    pub missing: bool,
    /// Accepts categorical columns.
    pub categorical: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { regression: true, binary: true, multiclass: true, missing: true, categorical: true }
    }
}

/// Runs every check for a learner that can do everything.
///
/// # Panics
///
/// With the name of the first broken promise.
pub fn check<L: Learner + Clone + 'static>(learner: &L, catalog: &Catalog) {
    check_only(learner, catalog, Checks::default());
}

/// Runs every check that applies.
///
/// # Panics
///
/// With the name of the first broken promise.
pub fn check_only<L: Learner + Clone + 'static>(learner: &L, catalog: &Catalog, can: Checks) {
    let tasks = [(can.regression, 0), (can.binary, 2), (can.multiclass, 3)];
    let mut checked = 0;
    for n_classes in tasks.into_iter().filter_map(|(able, n)| able.then_some(n)) {
        let data = sample(80, n_classes, can);
        check_fit(learner, &data);
        check_model(learner, &data, catalog);
        check_shapes(learner, &data, can);
        check_refusals(learner, &data);
        check_weights(learner, &data);
        check_end(learner, &data);
        checked += 1;
    }
    assert!(0 < checked, "a learner can fit at least one task");
}

/// Runs every check of [`check_only`], and what an [`OnlineModel`] promises besides:
///
/// - learning a batch equals learning its rows one after another, to the bit;
/// - predicting, a row of weight 0, and a row that is refused change nothing, to the bit;
/// - a model that was sealed and opened goes on as one that never was, to the bit, and so does a
///   fork, which leaves its origin as it was;
/// - odd rows (missing everywhere, huge, of unknown levels) and classes that come late leave finite
///   predictions.
///
/// # Panics
///
/// With the name of the first broken promise.
pub fn check_online<L>(learner: &L, catalog: &Catalog, can: Checks)
where
    L: Learner<Model: OnlineModel> + Clone + 'static,
{
    check_only(learner, catalog, can);
    let tasks = [(can.regression, 0), (can.binary, 2), (can.multiclass, 3)];
    for n_classes in tasks.into_iter().filter_map(|(able, n)| able.then_some(n)) {
        let data = sample(80, n_classes, can);
        check_learning(learner, &data, catalog);
        check_refused_rows(learner, &data);
        check_odd_rows(learner, &data, can);
    }
}

fn sealed(model: &dyn Model) -> Vec<u8> {
    model.to_envelope().unwrap_or_else(|e| panic!("seals: {}", e.chain())).into_bytes()
}

fn learn(model: &mut dyn OnlineModel, data: &Dataset) {
    for (x, &y) in data.frame().rows().zip(data.target()) {
        let learnt = model.learn_one(&Sample::new(x, y));
        learnt.unwrap_or_else(|e| panic!("learns {x:?}: {}", e.chain()));
    }
}

fn check_learning<L: Learner<Model: OnlineModel>>(learner: &L, data: &Dataset, catalog: &Catalog) {
    let model = fit(learner, data);
    let before = sealed(&model);
    assert_eq!(model.n_learnt(), data.n_rows() as u64, "every row is learnt once");
    assert!(0 < model.size_bytes(), "a model takes some memory");
    drop(predict(&model, data.frame()));
    assert_eq!(sealed(&model), before, "predicting never learns");

    let mut rows = model.fork();
    learn(&mut *rows, data);
    assert_eq!(sealed(&model), before, "a fork leaves its origin as it was");
    let after = sealed(&*rows);
    assert_ne!(after, before, "learning learns");
    let mut batch = model.fork();
    let n = batch.learn_batch(data).unwrap_or_else(|e| panic!("learns a batch: {}", e.chain()));
    assert_eq!(n, data.n_rows() as u64, "a batch is learnt whole");
    assert!(sealed(&*batch) == after, "a batch is its rows one after another, to the bit");

    let opened = catalog.open(&before).unwrap_or_else(|e| panic!("opens: {}", e.chain()));
    let opened = opened.as_online().expect("an opened online model is one");
    let mut opened = opened.fork();
    learn(&mut *opened, data);
    assert!(sealed(&*opened) == after, "a reopened model goes on to the bit");
    let same = bits(&predict(&*opened, data.frame())) == bits(&predict(&*rows, data.frame()));
    assert!(same, "a reopened model predicts to the bit");
}

fn check_refused_rows<L: Learner<Model: OnlineModel>>(learner: &L, data: &Dataset) {
    let model = fit(learner, data);
    let before = sealed(&model);
    let (x, y) = (data.frame().row(0), data.target()[0]);
    let infinite: Vec<f32> = x.iter().map(|_| f32::INFINITY).collect();
    let good = Sample::new(x, y);
    let mut bad = vec![
        ("a short row", Sample::new(&x[1..], y)),
        ("a label that is NaN", Sample::new(x, f64::NAN)),
        ("an infinite label", Sample::new(x, f64::INFINITY)),
        ("a weight that is NaN", Sample { weight: f64::NAN, ..good }),
        ("a negative weight", Sample { weight: -1.0, ..good }),
        ("an infinite weight", Sample { weight: f64::INFINITY, ..good }),
    ];
    if 0 < data.task().n_classes() {
        bad.push(("a class that is none", Sample::new(x, data.task().n_classes() as f64)));
        bad.push(("half a class", Sample::new(x, 0.5)));
    }
    if !learner.admits_infinite() {
        bad.push(("an infinite cell", Sample::new(&infinite, y)));
    }
    for (name, sample) in bad {
        let mut fork = model.fork();
        assert!(fork.learn_one(&sample).is_err(), "{name} is refused");
        assert!(sealed(&*fork) == before, "{name} changes nothing");
    }
    let mut fork = model.fork();
    fork.learn_one(&Sample { weight: 0.0, ..good }).expect("a weight of 0 is admitted");
    assert!(sealed(&*fork) == before, "a row of weight 0 changes nothing");
}

fn check_odd_rows<L: Learner<Model: OnlineModel>>(learner: &L, data: &Dataset, can: Checks) {
    // The last class comes after all others.
    let mut order: Vec<usize> = (0..data.n_rows()).collect();
    order.sort_by(|&a, &b| data.target()[a].total_cmp(&data.target()[b]));
    let model = fit(learner, &data.take(&order));
    let finite = |model: &dyn Model, name: &str| {
        let y = predict(model, data.frame());
        assert!(y.values().iter().all(|y| y.is_finite()), "{name}: predictions stay finite");
    };
    finite(&model, "a class that comes late");
    let columns = data.frame().schema().columns();
    let cells = |number: f32, code: f32| -> Vec<f32> {
        columns.iter().map(|c| if c.levels().is_some() { code } else { number }).collect()
    };
    let mut odd = vec![
        ("huge", cells(f32::MAX, Frame::UNKNOWN)),
        ("hugely negative", cells(f32::MIN, 0.0)),
        ("tiny", cells(f32::MIN_POSITIVE, 0.0)),
    ];
    if can.missing {
        odd.push(("missing", cells(f32::NAN, f32::NAN)));
    }
    let mut fork = model.fork();
    let mut out = vec![0.0; model.signature().n_outputs()];
    for _ in 0..4 {
        for (name, x) in &odd {
            for y in [data.target()[order[0]], data.target()[order[79]]] {
                fork.learn_one(&Sample::new(x, y)).unwrap_or_else(|e| panic!("{name}: {e}"));
                fork.predict_row(x, &mut out).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert!(out.iter().all(|y| y.is_finite()), "{name} cells: predictions stay finite");
                finite(&*fork, name);
            }
        }
    }
    for _ in 0..10 {
        learn(&mut *fork, data);
    }
    finite(&*fork, "ordinary rows after odd ones");
}

/// A small table with signal: numeric columns `a` and `b`, then categorical `c`, one missing cell
/// in eleven, and a target that follows `a` and `c`. `n_classes` is 0 for regression.
///
/// # Panics
///
/// If `n_classes` is 1.
pub fn sample(n_rows: usize, n_classes: usize, can: Checks) -> Dataset {
    let mut columns = vec![Column::numeric("a"), Column::numeric("b")];
    if can.categorical {
        let levels = Levels::new(["north", "south", "west"]).expect("distinct");
        columns.push(Column::categorical("c", levels));
    }
    let schema = Schema::new(columns).expect("distinct");
    let (mut values, mut target) = (Vec::new(), Vec::new());
    for i in 0..n_rows {
        let a = ((i * 37) % 101) as f32 / 10.0;
        let b = ((i * 53) % 97) as f32;
        let c = (i * 7 % 3) as f32;
        let signal = f64::from(a) + if can.categorical { 2.0 * f64::from(c) } else { 0.0 };
        target.push(match n_classes {
            0 => signal,
            k => (signal / 14.2 * k as f64).floor().min((k - 1) as f64),
        });
        let b = if can.missing && i % 11 == 5 { f32::NAN } else { b };
        values.extend([a, b, c].iter().take(schema.len()));
    }
    let frame = Frame::with_schema(values, schema).expect("valid");
    let names = (0..n_classes).map(|k| format!("class {k}"));
    let task =
        if n_classes == 0 { Task::Regression } else { Task::classes(names).expect("2 or 3") };
    Dataset::new(frame, task, target).expect("valid")
}

fn fit<L: Learner>(learner: &L, data: &Dataset) -> L::Model {
    learner
        .fit(data, &FitContext::seeded(7))
        .unwrap_or_else(|e| panic!("`{}` must fit {data:?}: {}", learner.name(), e.chain()))
}

fn predict(model: &dyn Model, x: &Frame) -> Matrix {
    model.predict(x).unwrap_or_else(|e| panic!("a model must predict {x:?}: {}", e.chain()))
}

fn bits(matrix: &Matrix) -> Vec<u64> {
    matrix.values().iter().map(|x| x.to_bits()).collect()
}

fn check_fit<L: Learner + Clone + 'static>(learner: &L, data: &Dataset) {
    let expected = bits(&predict(&fit(learner, data), data.frame()));
    let again = bits(&predict(&fit(learner, data), data.frame()));
    assert_eq!(again, expected, "the same seed gives the same model");
    for threads in [2, 4] {
        let ctx = FitContext::seeded(7).with_threads(threads);
        let model = learner.fit(data, &ctx).expect("fits with more threads");
        let same = bits(&predict(&model, data.frame())) == expected;
        assert!(same, "{threads} threads give the model that one gives");
    }
    let erased: BoxLearner = Box::new(learner.clone());
    assert_eq!(DynLearner::name(&*erased), Learner::name(learner), "erasure keeps the name");
    let model = fit(&erased, data);
    assert_eq!(bits(&predict(&model, data.frame())), expected, "erasure changes no prediction");
}

fn check_model<L: Learner>(learner: &L, data: &Dataset, catalog: &Catalog) {
    let model = fit(learner, data);
    let signature = model.signature();
    assert_eq!(&signature.schema, data.frame().schema(), "the signature has the schema of the fit");
    assert_eq!(&signature.task, data.task(), "the signature has the task of the fit");
    let y = predict(&model, data.frame());
    assert_eq!(y.n_rows(), data.n_rows(), "a row a row");
    assert_eq!(y.n_cols(), signature.n_outputs(), "a column an output");
    assert!(y.values().iter().all(|x| x.is_finite()), "predictions are finite");
    let probabilities = signature.outputs.iter().all(|o| matches!(o, Output::Probability(_)));
    if probabilities {
        let inside = y.values().iter().all(|&p| 0.0 <= p && p <= 1.0);
        assert!(inside, "probabilities lie in [0, 1]");
        if 1 < y.n_cols() {
            // Engines normalise in f32, whose rounding is 6e-8 a term.
            let ok = y.rows().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert!(ok, "probabilities of all classes add up to 1");
        }
    }

    let none = predict(&model, &data.frame().take(&[]));
    assert!(none.values().is_empty(), "no rows in, no rows out");
    let order: Vec<usize> = (0..data.n_rows()).rev().collect();
    let reversed = predict(&model, &data.frame().take(&order));
    assert_eq!(bits(&reversed), bits(&y.take(&order)), "row i depends on row i alone");
    let mut out = vec![0.0; y.n_cols()];
    for (i, row) in data.frame().rows().enumerate() {
        model.predict_row(row, &mut out).expect("predicts a row");
        let same = out.iter().zip(y.row(i)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "row {i} alone gives {out:?}, in the batch {:?}", y.row(i));
    }

    let bytes = model.to_envelope().expect("seals").into_bytes();
    let opened =
        catalog.open(&bytes).unwrap_or_else(|e| panic!("opens what it sealed: {}", e.chain()));
    assert_eq!(opened.signature(), signature, "the same signature after reloading");
    assert_eq!(bits(&predict(&opened, data.frame())), bits(&y), "bit-identical after reloading");
    check_explains(&model, &opened, data);
    let resealed = opened.to_envelope().expect("seals").into_bytes();
    assert_eq!(resealed, bytes, "sealing a reloaded model gives the same bytes");
    for cut in 0..bytes.len() {
        assert!(catalog.open(&bytes[..cut]).is_err(), "a file cut to {cut} bytes is an error");
    }
    let mut damaged = bytes.clone();
    for at in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
        damaged[at] ^= 0x10;
        assert!(catalog.open(&damaged).is_err(), "a flipped bit in byte {at} is an error");
        damaged[at] ^= 0x10;
    }
}

/// Contributions add up, and depend on the model and the row alone.
fn check_explains(model: &dyn Model, opened: &dyn Model, data: &Dataset) {
    let Some(explains) = model.as_explains() else {
        assert!(opened.as_explains().is_none(), "reloading adds no ability");
        return;
    };
    let x = data.frame();
    let parts = explains.contributions(x).unwrap_or_else(|e| panic!("explains: {}", e.chain()));
    let shape = (parts.n_rows(), parts.n_scores(), parts.n_features());
    assert_eq!(shape, (x.n_rows(), explains.n_scores(), x.n_cols()), "the shape promised");
    let (scores, y) = (parts.scores(), predict(model, x));
    for (scores, y) in scores.rows().zip(y.rows()) {
        let Some(reached) = explains.scale().to_predictions(scores) else { break };
        // An engine may add up leaves in f32, with some ten roundings of 6e-8.
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
        let same = reached.len() == y.len() && reached.iter().zip(y).all(near);
        assert!(same, "contributions add up to {reached:?}, the prediction is {y:?}");
    }
    let one = explains.contributions(&x.slice(1, 1)).expect("explains a row");
    for k in 0..parts.n_scores() {
        assert_eq!(one.of(0, k), parts.of(1, k), "an explanation depends on its row alone");
    }
    let none = explains.contributions(&x.take(&[])).expect("explains no rows");
    assert!(none.values().is_empty(), "no rows in, no contributions out");
    let again = opened.as_explains().expect("reloading keeps the ability").contributions(x);
    assert_eq!(again.expect("explains"), parts, "the same contributions after reloading");
    let narrow = Frame::new(vec![0.0], 1).expect("valid");
    let refused = explains.contributions(&narrow);
    assert!(matches!(refused, Err(Error::Columns { .. })), "another width is refused");
}

/// Tables of unusual shape that must do no harm.
fn check_shapes<L: Learner>(learner: &L, data: &Dataset, can: Checks) {
    let wide = |extra: &dyn Fn(usize) -> f32, n_extra: usize, rows: &[usize]| {
        let data = data.take(rows);
        let mut columns = data.frame().schema().columns().to_vec();
        columns.extend((0..n_extra).map(|j| Column::numeric(format!("extra {j}"))));
        let schema = Schema::new(columns).expect("distinct");
        let mut values = Vec::new();
        for (i, row) in data.frame().rows().enumerate() {
            values.extend(row);
            values.extend((0..n_extra).map(|j| extra(i * n_extra + j)));
        }
        data.with_frame(Frame::with_schema(values, schema).expect("valid")).expect("length")
    };
    let all: Vec<usize> = (0..data.n_rows()).collect();
    let mut shapes = vec![
        ("a constant column", wide(&|_| 3.0, 1, &all)),
        ("more features than rows", wide(&|i| (i * 31 % 17) as f32, 30, &all[..20])),
    ];
    if can.missing {
        shapes.push(("an all-missing column", wide(&|_| f32::NAN, 1, &all)));
    }
    for (name, data) in shapes {
        let model = learner.fit(&data, &FitContext::seeded(7));
        let model = model.unwrap_or_else(|e| panic!("{name} does no harm: {}", e.chain()));
        let y = predict(&model, data.frame());
        assert!(y.values().iter().all(|x| x.is_finite()), "{name} does no harm");
    }
}

fn check_refusals<L: Learner>(learner: &L, data: &Dataset) {
    let ctx = FitContext::seeded(7);
    let none = learner.fit(&data.take(&[]), &ctx);
    assert!(matches!(none, Err(Error::Data { .. })), "a fit to no rows is a data error");
    if !matches!(data.task(), Task::Regression) {
        let first = data.target()[0];
        let rows: Vec<usize> = (0..data.n_rows()).filter(|&i| data.target()[i] == first).collect();
        let one = learner.fit(&data.take(&rows), &ctx);
        assert!(matches!(one, Err(Error::OneClass { .. })), "one class is refused by name");
    }

    let model = fit(learner, data);
    let columns = data.frame().schema().columns();
    let with = |columns: Vec<Column>, edit: &dyn Fn(&mut Vec<f32>)| {
        let mut values = Vec::new();
        for row in data.frame().rows() {
            let mut row = row.to_vec();
            edit(&mut row);
            values.extend(row);
        }
        Frame::with_schema(values, Schema::new(columns).expect("distinct")).expect("valid")
    };

    let narrow = with(columns[1..].to_vec(), &|row| {
        row.remove(0);
    });
    let width = model.predict(&narrow);
    assert!(matches!(width, Err(Error::Columns { .. })), "another width is refused");
    let mut swapped = columns.to_vec();
    swapped.swap(0, 1);
    let order = model.predict(&with(swapped, &|row| row.swap(0, 1)));
    assert!(matches!(order, Err(Error::Column { index: 0, .. })), "another order is refused");
    let mut typed = columns.to_vec();
    typed[0] = Column::categorical("a", Levels::new(["x"]).expect("distinct"));
    let kind = model.predict(&with(typed, &|row| row[0] = 0.0));
    assert!(matches!(kind, Err(Error::Column { index: 0, .. })), "another type is refused");
    let mut out = vec![0.0; model.signature().n_outputs()];
    let short = model.predict_row(&[0.0], &mut out);
    assert!(matches!(short, Err(Error::Columns { .. })), "a short row is refused");

    if !learner.admits_infinite() {
        let infinite = with(columns.to_vec(), &|row| row[0] = f32::INFINITY);
        assert!(model.predict(&infinite).is_err(), "infinite features are refused");
        let row = infinite.row(0);
        assert!(model.predict_row(row, &mut out).is_err(), "an infinite cell is refused");
        let unfit = data.with_frame(infinite).expect("length");
        assert!(learner.fit(&unfit, &ctx).is_err(), "a fit to infinite features is refused");
    }

    if let Some(c) = data.frame().schema().position("c") {
        let mut renamed = columns.to_vec();
        renamed[c] = Column::categorical("c", Levels::new(["east"]).expect("distinct"));
        let unseen = with(renamed, &|row| row[c] = 0.0);
        let y = predict(&model, &unseen);
        assert!(y.values().iter().all(|x| x.is_finite()), "an unseen level is predicted");
        // The same levels in another order are the same data.
        let turned = Levels::new(["west", "south", "north"]).expect("distinct");
        let mut renamed = columns.to_vec();
        renamed[c] = Column::categorical("c", turned);
        let turned = with(renamed, &|row| row[c] = 2.0 - row[c]);
        let same = bits(&predict(&model, &turned)) == bits(&predict(&model, data.frame()));
        assert!(same, "levels are matched by name, not by code");
    }
}

fn check_weights<L: Learner>(learner: &L, data: &Dataset) {
    let n = data.n_rows();
    let weighted = data.clone().with_weights(vec![1.0; n]).expect("valid");
    let plain = bits(&predict(&fit(learner, data), data.frame()));
    let ones = bits(&predict(&fit(learner, &weighted), data.frame()));
    assert_eq!(ones, plain, "weights of 1 change nothing");
    let some: Vec<f64> =
        (0..n).map(|i| if i % 4 == 0 { 0.0 } else { 1.0 + (i % 3) as f64 }).collect();
    let weighted = data.clone().with_weights(some).expect("valid");
    let y = predict(&fit(learner, &weighted), data.frame());
    assert!(y.values().iter().all(|x| x.is_finite()), "rows of weight 0 do no harm");
    assert_ne!(bits(&y), plain, "weights are not ignored");
}

fn check_end<L: Learner>(learner: &L, data: &Dataset) {
    let cancel = Cancel::default();
    cancel.cancel();
    let ctx = FitContext::seeded(7);
    let cancelled = learner.fit(data, &ctx.with_cancel(&cancel));
    assert!(matches!(cancelled, Err(Error::Cancelled)), "a cancelled fit ends as cancelled");
    let heard = AtomicBool::new(false);
    let abort = |_: &Step<'_>| {
        heard.store(true, Ordering::Relaxed);
        Signal::Abort
    };
    let aborted = learner.fit(data, &ctx.with_observer(&abort));
    if heard.into_inner() {
        let ends = aborted.is_err_and(|e| matches!(e.root(), Error::Cancelled));
        assert!(ends, "a fit that its observer gives up on ends as cancelled");
    }
    let late = learner.fit(data, &ctx.with_deadline(Instant::now()));
    match late {
        Ok(model) => drop(predict(&model, data.frame())),
        Err(e) => assert!(matches!(e.root(), Error::Deadline), "a late fit says so: {}", e.chain()),
    }
}

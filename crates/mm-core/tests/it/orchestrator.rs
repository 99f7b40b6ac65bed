//! Runs of whole plans with learners that behave, fail, panic, stall, and are killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::Instant,
};

use mm_core::{
    Average, Cancel, Candidate, Dataset, EnsemblePlan, Error, Event, Learner as _, Metric,
    Model as _, Orchestrator, Outcome, Params, Plan, RegistryPlan, Signal, Silent, SplitPlan,
    Status, conformance,
    registry::{CHAMPION, LocalRegistry},
};

use crate::probe::{Fault, StumpParams, catalog, stump};

fn data(n_classes: usize) -> Dataset {
    conformance::sample(90, n_classes, conformance::Checks::default())
}

fn candidate(name: &str, fault: Fault) -> Candidate {
    Candidate::new("stump", &StumpParams { fault, ..StumpParams::default() }).named(name)
}

fn plan(candidates: impl IntoIterator<Item = Candidate>) -> Plan {
    Plan::new(candidates).with(|plan| {
        plan.seed = 3;
        plan.split = Some(toml::from_str("kind = \"k_fold\"\nfolds = 3").expect("a split"));
        plan.budget.threads = Some(2);
    })
}

fn run(plan: &Plan, data: &Dataset) -> Outcome {
    let outcome = Orchestrator::new(&catalog()).run_on(plan, data);
    outcome.unwrap_or_else(|e| panic!("the run ends normally: {}", e.chain()))
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// What of an outcome must not depend on threads, kills, or the clock.
fn essence(outcome: &Outcome, data: &Dataset) -> Vec<(String, Vec<u64>, Vec<u64>)> {
    let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let entry = |(name, model): &(String, std::sync::Arc<dyn mm_core::Model>)| {
        let scores = outcome.leaderboard.entry(name).and_then(|e| e.score.as_ref());
        let y = model.predict(data.frame()).expect("predicts");
        (name.clone(), bits(&scores.expect("scored").folds), bits(y.values()))
    };
    outcome.models.iter().map(entry).collect()
}

#[test]
fn a_failure_costs_that_candidate_only_and_is_named() {
    let faults = [Fault::FitFails, Fault::None, Fault::FitPanics, Fault::PredictsNan];
    let names = ["fails", "good", "panics", "nan"];
    let data = data(2);
    let outcome = run(&plan(names.into_iter().zip(faults).map(|(n, f)| candidate(n, f))), &data);
    let board = &outcome.leaderboard;
    assert_eq!(board.best().map(|entry| entry.name.as_str()), Some("good"));
    assert_eq!(outcome.models.len(), 1);
    let reason = |name: &str| match &board.entry(name).expect("listed").status {
        Status::Failed(reason) => reason.clone(),
        status => panic!("{name} is {status:?}"),
    };
    assert_eq!(reason("fails"), "in fold 0: stump: expected another fault, got this one");
    assert_eq!(reason("panics"), "in fold 0: panicked: the stump fell");
    assert!(reason("nan").contains("expected a finite number, got NaN"), "{}", reason("nan"));
    let text = board.to_string();
    assert!(text.contains("failed: panics: in fold 0: panicked: the stump fell"), "{text}");
}

#[test]
fn when_all_fail_the_leaderboard_still_says_why() {
    let outcome = run(&plan([candidate("a", Fault::FitFails)]), &data(0));
    assert!(outcome.leaderboard.best().is_none());
    assert!(outcome.best().is_none());
}

#[test]
fn results_do_not_depend_on_threads() {
    let data = data(3);
    let plan = plan([candidate("a", Fault::None), candidate("b", Fault::None)]);
    let one = run(&plan.clone().with(|p| p.budget.threads = Some(1)), &data);
    for threads in [2, 3, 8] {
        let many = run(&plan.clone().with(|p| p.budget.threads = Some(threads)), &data);
        assert_eq!(essence(&many, &data), essence(&one, &data));
    }
}

#[test]
fn out_of_fold_predictions_cover_what_the_splitter_tests() {
    let data = data(0);
    let outcome = run(&plan([candidate("a", Fault::None)]), &data);
    let (name, all) = &outcome.out_of_fold[0];
    assert_eq!((name.as_str(), all.rows().len()), ("a", data.n_rows()));
    let fold = &outcome.folds[1];
    let fit = stump(Fault::None);
    let model =
        mm_core::Learner::fit(&fit, &data.take(&fold.train), &mm_core::FitContext::seeded(9));
    let expected = mm_core::Model::predict(&model.expect("fits"), &data.frame().take(&fold.test));
    assert_eq!(all.predictions().take(&fold.test), expected.expect("predicts"));
}

#[test]
fn a_plan_is_checked_before_any_work() {
    let seen = Mutex::new(0);
    let watcher = |_: &Event<'_>| {
        *seen.lock().expect("nobody panics") += 1;
        Signal::Continue
    };
    let data = data(2);
    let good = plan([candidate("a", Fault::None)]);
    let check = |edit: &dyn Fn(&mut Plan), message: &str| {
        let plan = good.clone().with(edit);
        let catalog = catalog();
        let run = Orchestrator::new(&catalog).with_watcher(&watcher).run_on(&plan, &data);
        let err = run.expect_err("a plan that cannot work");
        assert!(err.chain().contains(message), "expected `{message}`, got `{}`", err.chain());
    };
    check(&|p| p.candidates.clear(), "candidates: expected at least 1 candidate, got none");
    check(&|p| p.candidates[0].kind = "gbdt".to_owned(), "no model kind `gbdt`");
    check(&|p| p.candidates.push(p.candidates[0].clone()), "got `a` twice");
    check(
        &|p| p.candidates[0].params = serde_json::json!({ "round": 3 }),
        "in candidates.0: params: unknown field `round`",
    );
    check(
        &|p| p.candidates[0].params = serde_json::json!({ "rounds": 0 }),
        "in candidates.0: parameter `rounds` is 0; expected at least 1",
    );
    check(&|p| p.metric = Some(Metric::Rmse), "metric: expected a metric for binary");
    check(&|p| p.validation = Some(1.0), "`validation` is 1; expected a number in (0, 1)");
    check(&|p| p.budget.threads = Some(0), "`budget.threads` is 0");
    check(&|p| p.budget.seconds = Some(-1.0), "`budget.seconds` is -1");
    let split = |text: &str| toml::from_str::<SplitPlan>(text).ok();
    check(&|p| p.split = split("kind = \"k_fold\"\nfolds = 1000"), "split");
    check(&|p| p.split = split("kind = \"purged_k_fold\""), "split");
    check(&|p| p.budget.threads = Some(1_000_000), "`budget.threads` is 1000000; expected");
    check(&|p| p.also = vec![Metric::Mae], "also: expected a metric for binary");
    let average = || vec![EnsemblePlan::new("first")];
    let members = |names: [&str; 2]| {
        let mut plan = EnsemblePlan::new("first");
        plan.members = names.map(str::to_owned).into();
        vec![plan]
    };
    check(&|p| p.ensembles = members(["a", "z"]), "expected names of candidates, got `z`");
    check(&|p| p.ensembles = members(["a", "a"]), "expected distinct names, got `a` twice");
    check(
        &|p| {
            p.ensembles = average();
            p.ensembles[0].params = serde_json::json!({ "only_with": "z" });
        },
        "in ensembles.0: no member `z`",
    );
    let registry = |p: &mut Plan| p.registry = Some(RegistryPlan::new(scratch("unused-registry")));
    check(
        &|p| {
            registry(p);
            p.refit = false;
        },
        "registry: expected `refit`, which makes what is published",
    );
    check(
        &|p| {
            registry(p);
            p.registry = p.registry.take().map(|r| r.with_alias("The Best"));
        },
        "alias",
    );
    assert_eq!(*seen.lock().expect("nobody panics"), 0, "no event came of them");
}

#[test]
fn a_misspelt_key_is_named_with_its_line() {
    for (text, message) in [
        ("name = \"x\"\nsead = 3", "plan, line 2: unknown field `sead`"),
        ("[[candidates]]\nknd = \"stump\"", "unknown field `knd`"),
        ("[[candidates]]\nname = \"x\"", "missing field `kind`"),
        ("seed = \"three\"", "plan, line 1: invalid type"),
        ("metric = \"auc_roc\"", "plan, line 1: "),
        ("split = { kind = \"kfold\" }", "plan, line 1: unknown variant `kfold`"),
        ("[data]\npath = \"x.csv\"\ntargt = \"y\"", "unknown field `targt`"),
        ("[budget]\nsecond = 3", "plan, line 2: unknown field `second`"),
    ] {
        let err = text.parse::<Plan>().expect_err("misspelt");
        assert!(err.to_string().contains(message), "expected `{message}`, got `{err}`");
    }
}

#[test]
fn a_plan_survives_toml() {
    let plan = plan([candidate("a", Fault::None)]).with(|p| {
        p.seed = u64::MAX;
        p.metric = Some(Metric::LogLoss);
        p.validation = Some(0.25);
        p.budget.fit_seconds = Some(1.5);
        p.checkpoint = Some("runs".into());
    });
    let text = plan.to_toml().expect("writes");
    let mut again: Plan = text.parse().expect("reads");
    assert_eq!(again.candidates[0].params.get("log"), None, "TOML has no null");
    again.candidates[0].params["log"] = serde_json::Value::Null;
    assert_eq!(again, plan, "{text}");
}

#[test]
fn a_cancelled_run_ends_as_cancelled() {
    let cancel = Cancel::default();
    let watcher = |event: &Event<'_>| {
        if matches!(event, Event::Fold { .. }) {
            cancel.cancel();
        }
        Signal::Continue
    };
    let plan = plan([candidate("a", Fault::None), candidate("b", Fault::None)]);
    let catalog = catalog();
    let run = Orchestrator::new(&catalog).with_watcher(&watcher).with_cancel(&cancel);
    assert!(matches!(run.run_on(&plan, &data(2)), Err(Error::Cancelled)));
}

#[test]
fn an_observer_can_give_up_on_one_candidate() {
    let watcher = |event: &Event<'_>| match event {
        Event::Step { candidate: "b", .. } => Signal::Abort,
        _ => Signal::Continue,
    };
    let plan = plan([candidate("a", Fault::None), candidate("b", Fault::None)]);
    let catalog = catalog();
    let outcome = Orchestrator::new(&catalog).with_watcher(&watcher).run_on(&plan, &data(2));
    let outcome = outcome.expect("the run goes on");
    let status = &outcome.leaderboard.entry("b").expect("listed").status;
    assert_eq!(*status, Status::Failed("in fold 0: cancelled".to_owned()));
    assert!(outcome.model("a").is_some());
}

#[test]
fn a_deadline_leaves_out_what_is_not_reached() {
    // A budget that is over before the first fit begins, whatever the machine.
    let plan = plan([candidate("a", Fault::None)]).with(|p| p.budget.seconds = Some(1e-9));
    let outcome = run(&plan, &data(2));
    let status = &outcome.leaderboard.entry("a").expect("listed").status;
    let expected = "in fold 0: the deadline passed before the first result".to_owned();
    assert_eq!(*status, Status::Failed(expected));
}

#[test]
fn a_learner_of_ones_own_needs_no_kind() {
    let catalog = catalog();
    let outcome = Orchestrator::new(&catalog)
        .with_watcher(&Silent)
        .with_learner("mine", Box::new(stump(Fault::None)))
        .run_on(&plan([]), &data(2));
    assert!(outcome.expect("runs").model("mine").is_some());
}

fn logged(folder: &Path) -> Plan {
    fs::create_dir_all(folder).expect("creates");
    let params = StumpParams { log: Some(folder.join("fits.txt")), ..StumpParams::default() };
    let candidates = ["a", "b", "c"].into_iter().enumerate().map(|(i, name)| {
        let params = params.clone().with(|p| p.rounds = 1 + i);
        Candidate::new("stump", &params).named(name)
    });
    plan(candidates).with(|p| p.checkpoint = Some(folder.join("checkpoint")))
}

fn fits(folder: &Path) -> usize {
    fs::read_to_string(folder.join("fits.txt")).unwrap_or_default().lines().count()
}

#[test]
fn a_second_run_repeats_nothing_and_a_changed_plan_only_what_changed() {
    let (folder, data) = (scratch("resume"), data(2));
    let plan = logged(&folder);
    let first = run(&plan, &data);
    assert_eq!(fits(&folder), 3 * 4, "three folds and all rows, for each of three");
    let second = run(&plan, &data);
    assert_eq!(fits(&folder), 3 * 4, "nothing is fitted again");
    assert_eq!(essence(&second, &data), essence(&first, &data));
    let changed = plan.clone().with(|p| p.candidates[1].params["rounds"] = 9.into());
    run(&changed, &data);
    assert_eq!(fits(&folder), 3 * 4 + 4, "one candidate is fitted again");
    let other = data.take(&(0..80).collect::<Vec<_>>());
    run(&plan, &other);
    assert_eq!(fits(&folder), 2 * 3 * 4 + 4, "other data are other work");
    fs::remove_dir_all(folder).expect("removes");
}

/// Finished pieces of work in the checkpoint.
fn pieces(folder: &Path) -> usize {
    let files = fs::read_dir(folder.join("checkpoint")).into_iter().flatten();
    files
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "fold" || e == "model"))
        .count()
}

/// The child of the next test: runs the plan in the folder that it is told, then says so.
#[test]
fn child_runs_a_plan() {
    let Some(folder) = std::env::var_os("MM_TEST_RUN").map(PathBuf::from) else { return };
    run(&logged(&folder), &data(2));
    fs::write(folder.join("done"), "done").expect("writes");
}

#[test]
fn a_run_killed_anywhere_resumes_to_the_same_result() {
    let data = data(2);
    let reference = run(&logged(&scratch("kill-reference")), &data);
    let expected = essence(&reference, &data);
    let start = |folder: &Path| {
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "orchestrator::child_runs_a_plan", "--nocapture"])
            .env("MM_TEST_RUN", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts")
    };
    // How long a run takes here, so that the kills fall all over it, and not before or after.
    let folder = scratch("kill-whole");
    let begun = Instant::now();
    start(&folder).wait().expect("ends");
    let whole = begun.elapsed();
    fs::remove_dir_all(folder).expect("removes");

    let mut found = [0; 13]; // Runs by the pieces that three kills left.
    for round in 0..70_u32 {
        let folder = scratch(&format!("kill-{round}"));
        fs::create_dir_all(&folder).expect("creates");
        // Three kills a round at moments that wander over the run's length, then to the end.
        for kill in 0..3 {
            let mut child = start(&folder);
            std::thread::sleep(whole.mul_f64(f64::from(round * 3 + kill) * 0.618_034 % 1.0));
            let _ = child.kill(); // SIGKILL; the child may have ended by itself.
            child.wait().expect("ends");
        }
        found[pieces(&folder)] += 1;
        let (before, kept) = (fits(&folder), pieces(&folder));
        let resumed = run(&logged(&folder), &data);
        assert_eq!(essence(&resumed, &data), expected, "round {round}");
        assert_eq!(fits(&folder) - before, 12 - kept, "round {round} fits what was not kept, once");
        assert_eq!(pieces(&folder), 12, "each piece of work is kept once");
        fs::remove_dir_all(folder).expect("removes");
    }
    println!("runs by the number of pieces that three kills left, of 12: {found:?}");
}

#[test]
fn folds_that_no_model_can_be_fitted_to_or_scored_on_are_refused_before_any_work() {
    let all = data(2);
    // The second class comes last, so that the first training rows have one class only.
    let mut rows: Vec<usize> = (0..all.n_rows()).collect();
    rows.sort_by(|&a, &b| all.target()[a].total_cmp(&all.target()[b]));
    let sorted = all.take(&rows);
    let forward = "kind = \"k_fold\"\nfolds = 3\nshuffle = false";
    let plan = plan([candidate("a", Fault::None)]);
    let plan = plan.with(|p| {
        p.split = Some(toml::from_str(forward).expect("a split"));
        p.metric = Some(Metric::RocAuc { average: Average::Auto });
    });
    let err = Orchestrator::new(&catalog()).run_on(&plan, &sorted).expect_err("one class");
    assert!(err.chain().starts_with("in roc_auc, fold 0: expected at least 2 classes"), "{err:?}");

    let first = all.n_rows() / 3;
    let weights = (0..all.n_rows()).map(|i| if i < first { 1.0 } else { 0.0 }).collect();
    let weighted = data(0).with_weights(weights).expect("valid");
    let plan = plan.with(|p| p.metric = None);
    let err = Orchestrator::new(&catalog()).run_on(&plan, &weighted).expect_err("no weight");
    assert!(err.chain().starts_with("in rmse, fold 1: weights: expected at least one above 0"));
    // A view of weighted data may have no weight left, which the data as a whole cannot.
    let light = weighted.take(&[first, first + 1]);
    let err =
        stump(Fault::None).fit(&light, &mm_core::FitContext::seeded(1)).expect_err("no weight");
    assert_eq!(err.to_string(), "weights: expected at least one above 0, got all 0");
}

#[test]
fn a_learner_of_ones_own_can_be_a_member_and_its_name_is_checked() {
    let catalog = catalog();
    let mut ensemble = EnsemblePlan::new("first");
    ensemble.members = vec!["mine".to_owned()];
    let plan = plan([candidate("a", Fault::None)]).with(|p| p.ensembles = vec![ensemble]);
    let run = |name: &str| {
        let own = Box::new(stump(Fault::None));
        Orchestrator::new(&catalog).with_learner(name, own).run_on(&plan, &data(2))
    };
    let outcome = run("mine").unwrap_or_else(|e| panic!("runs: {}", e.chain()));
    assert_eq!(outcome.leaderboard.entry("first").expect("listed").members, ["mine"]);
    for (name, message) in
        [("a", "got `a` twice"), ("first", "got `first` twice"), ("", "expected a name, got none")]
    {
        let err = run(name).expect_err("a name that cannot be");
        assert!(err.chain().contains(message), "{name}: {}", err.chain());
    }
}

#[test]
fn a_failure_after_scoring_keeps_the_score_and_costs_what_is_built_on_it() {
    let plan = plan([candidate("a", Fault::RefitFails), candidate("b", Fault::None)]);
    let mut sealed = EnsemblePlan::new("first");
    sealed.name = Some("unsealed".to_owned());
    sealed.members = vec!["b".to_owned()];
    sealed.params = serde_json::json!({ "seal_fails": true });
    let plan = plan.with(|p| p.ensembles = vec![EnsemblePlan::new("first"), sealed]);
    let outcome = run(&plan, &data(2));
    let board = &outcome.leaderboard;
    let names: Vec<&str> = outcome.models.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b"]);
    assert_eq!(board.best().map(|entry| entry.name.as_str()), Some("b"));
    assert_eq!(board.entries[0].name, "b", "what failed stands last, whatever its score");
    let reason = |name: &str| {
        let entry = board.entry(name).expect("listed");
        assert!(entry.score.is_some(), "{name} was scored");
        match &entry.status {
            Status::Failed(reason) => reason.clone(),
            status => panic!("{name} is {status:?}"),
        }
    };
    assert_eq!(reason("a"), "in the fit to all rows: stump: expected fewer rows, got 90");
    assert_eq!(reason("first"), "no member fitted to all rows `a`");
    assert_eq!(reason("unsealed"), "seal: expected wax, got none");
}

#[test]
fn a_quantile_is_not_scored_as_a_mean() {
    let plan = plan([candidate("q", Fault::PredictsQuantile)]);
    let outcome = run(&plan.clone().with(|p| p.metric = Some(Metric::Rmse)), &data(0));
    let status = &outcome.leaderboard.entry("q").expect("listed").status;
    let Status::Failed(reason) = status else { panic!("a quantile has no RMSE: {status:?}") };
    assert!(reason.contains("expected Value for `rmse`"), "{reason}");
    let folder = scratch("quantile");
    let plan = plan.with(|p| {
        p.metric = Some(Metric::Pinball { level: 0.9 });
        p.checkpoint = Some(folder.clone());
    });
    let (first, second) = (run(&plan, &data(0)), run(&plan, &data(0)));
    assert!(first.leaderboard.best().is_some());
    assert_eq!(essence(&first, &data(0)), essence(&second, &data(0)), "resumed");
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_refused_at_the_start_and_does_no_harm_later() {
    let folder = scratch("checkpoint-lost");
    fs::write(&folder, "a file").expect("writes");
    let plan = plan([candidate("a", Fault::None)]);
    let blocked = plan.clone().with(|p| p.checkpoint = Some(folder.clone()));
    let err = Orchestrator::new(&catalog()).run_on(&blocked, &data(2)).expect_err("no folder");
    assert!(matches!(err, Error::Io { .. }), "{err}");
    fs::remove_file(&folder).expect("removes");

    let lose = |event: &Event<'_>| {
        if matches!(event, Event::Planned { .. }) {
            fs::remove_dir_all(&folder).expect("removes");
        }
        Signal::Continue
    };
    let catalog = catalog();
    let outcome = Orchestrator::new(&catalog).with_watcher(&lose).run_on(&blocked, &data(2));
    let outcome = outcome.expect("the run goes on");
    assert_eq!(outcome.leaderboard.best().expect("succeeds").status, Status::Done);
}

#[test]
fn a_watcher_that_panics_costs_no_candidate() {
    let catalog = catalog();
    for panics_at in [0, 1, 2, 5, usize::MAX] {
        let heard = std::sync::atomic::AtomicUsize::new(0);
        let watcher = |_: &Event<'_>| {
            let n = heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(n < panics_at, "enough");
            Signal::Continue
        };
        let plan = plan([candidate("a", Fault::None), candidate("b", Fault::FitFails)]);
        let outcome = Orchestrator::new(&catalog).with_watcher(&watcher).run_on(&plan, &data(2));
        let status = outcome.expect("runs").leaderboard.entry("a").expect("listed").status.clone();
        assert_eq!(status, Status::Done, "panics from event {panics_at} on");
    }
}

#[test]
fn a_fit_that_the_watcher_stopped_is_marked_and_not_kept() {
    let folder = scratch("stopped");
    let plan = logged(&folder);
    let watcher = |event: &Event<'_>| match event {
        Event::Step { candidate: "c", .. } => Signal::Stop,
        _ => Signal::Continue,
    };
    let catalog = catalog();
    let stopped = Orchestrator::new(&catalog).with_watcher(&watcher).run_on(&plan, &data(2));
    let board = stopped.expect("runs").leaderboard;
    assert_eq!(board.entry("b").expect("listed").status, Status::Done);
    assert_eq!(board.entry("c").expect("listed").status, Status::CutShort);
    let before = fits(&folder);
    let whole = run(&plan, &data(2));
    assert_eq!(fits(&folder) - before, 4, "what was stopped is fitted again");
    assert_eq!(whole.leaderboard.entry("c").expect("listed").status, Status::Done);
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn an_ensemble_of_a_member_cut_short_says_so() {
    let watcher = |event: &Event<'_>| match event {
        Event::Step { fold: Some(1), .. } => Signal::Stop,
        _ => Signal::Continue,
    };
    let plan = plan([candidate("a", Fault::None)]);
    let plan = plan.with(|p| p.ensembles = vec![EnsemblePlan::new("first")]);
    let catalog = catalog();
    let outcome = Orchestrator::new(&catalog).with_watcher(&watcher).run_on(&plan, &data(2));
    let board = outcome.expect("runs").leaderboard;
    assert_eq!(board.entry("first").expect("listed").status, Status::CutShort);
}

#[test]
fn what_was_fitted_survives_a_registry_that_breaks() {
    let folder = scratch("broken-registry");
    let plan = plan([candidate("a", Fault::None)])
        .with(|p| p.registry = Some(RegistryPlan::new(&folder).with_alias(CHAMPION)));
    let break_it = |event: &Event<'_>| {
        if matches!(event, Event::Refitted { .. }) {
            fs::remove_dir_all(&folder).expect("removes");
            fs::write(&folder, "a file").expect("writes");
        }
        Signal::Continue
    };
    let catalog = catalog();
    let outcome = Orchestrator::new(&catalog).with_watcher(&break_it).run_on(&plan, &data(2));
    let outcome = outcome.expect("the run ends normally");
    assert!(outcome.published.is_none());
    assert!(outcome.publish_error.is_some());
    assert!(outcome.model("a").is_some());
    fs::remove_file(folder).expect("removes");
}

#[test]
fn a_registry_that_cannot_be_written_is_refused_before_any_work() {
    let folder = scratch("unwritable-registry");
    LocalRegistry::open(&folder).expect("makes one");
    // Whoever runs the test may be above permissions, but not above a file in a folder's place.
    fs::remove_dir(folder.join("tmp")).expect("removes");
    fs::write(folder.join("tmp"), "a file").expect("writes");
    let plan =
        plan([candidate("a", Fault::None)]).with(|p| p.registry = Some(RegistryPlan::new(&folder)));
    let err = Orchestrator::new(&catalog()).run_on(&plan, &data(2)).expect_err("no place");
    assert!(matches!(err.root(), Error::Io { .. }), "{err}");
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn a_row_with_a_code_that_is_none_is_refused() {
    let data = data(2);
    let model = stump(Fault::None).fit(&data, &mm_core::FitContext::seeded(1)).expect("fits");
    let mut out = [0.0];
    for bad in [3.0, 0.5, -2.0, 1e9] {
        let err = model.predict_row(&[1.0, 1.0, bad], &mut out).expect_err("no code");
        assert!(err.to_string().starts_with("categorical `c`: expected a code below 3"), "{err}");
    }
    for good in [0.0, 2.0, -1.0, f32::NAN] {
        model.predict_row(&[1.0, 1.0, good], &mut out).expect("a code, missing, or unknown");
    }
}

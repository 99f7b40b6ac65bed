//! What every model owes its callers, and what is refused.

use mm_core::{
    Error, FitContext, Learner as _, Metric, Model as _, Params as _, Search, SpaceSize, Suggest,
    conformance::{check, check_only},
};

use super::{catalog, same_sign, small_ft, small_sequence, small_tabm};
use crate::{
    Device, FtTransformerParams, Gate, NumericEmbedding, Pooling, Position, Scaling,
    SequenceTransformerParams, TabmParams,
};

#[test]
fn ft_transformer_conforms() {
    check(&small_ft(|_| {}), &catalog());
}

#[test]
fn ft_transformer_conforms_with_its_other_parts() {
    let learner = small_ft(|p| {
        (p.gate, p.pooling, p.scaling) = (Gate::Geglu, Pooling::Mean, Scaling::Standard);
        p.numeric = NumericEmbedding::Periodic { frequencies: 4, sigma: 0.3 };
        (p.residual_dropout, p.training.hide, p.training.average) = (0.1, 0.1, 0.9);
    });
    check(&learner, &catalog());
}

#[test]
fn tabm_conforms() {
    check(&small_tabm(|_| {}), &catalog());
}

/// Windows of one step: rows depend on themselves alone, as the suite demands.
#[test]
fn sequence_transformer_conforms() {
    let mut can = mm_core::conformance::Checks::default();
    can.multiclass = false; // For time; the path is the other models'.
    check_only(&small_sequence(|p| p.window = 1), &catalog(), can);
}

#[test]
fn every_edge_of_a_domain_is_checked() {
    fn ft(name: &str, edit: impl FnOnce(&mut FtTransformerParams)) {
        let error = FtTransformerParams::default().with(edit).build().expect_err(name);
        assert_eq!(error.name, name);
    }
    ft("blocks", |p| p.blocks = 0);
    ft("heads", |p| p.heads = 0);
    ft("width", |p| p.width = 190);
    ft("hidden", |p| p.hidden = f64::NAN);
    ft("attention_dropout", |p| p.attention_dropout = 1.0);
    ft("hidden_dropout", |p| p.hidden_dropout = -0.1);
    ft("residual_dropout", |p| p.residual_dropout = f64::NAN);
    ft("numeric.bins", |p| p.numeric = NumericEmbedding::PiecewiseLinear { bins: 1 });
    ft("numeric.sigma", |p| {
        p.numeric = NumericEmbedding::Periodic { frequencies: 1, sigma: 0.0 };
    });
    ft("training.epochs", |p| p.training.epochs = 0);
    for edit in [
        (|p: &mut TabmParams| p.members = 0) as fn(&mut TabmParams),
        |p| p.width = 0,
        |p| p.embedding_width = 257,
        |p| p.blocks = 65,
        |p| p.dropout = 1.0,
    ] {
        TabmParams::default().with(edit).build().expect_err("outside its domain");
    }
    for edit in [
        (|p: &mut SequenceTransformerParams| p.window = 0) as fn(&mut SequenceTransformerParams),
        |p| p.patch = 5,
        |p| (p.width, p.heads, p.position) = (12, 4, Position::Rotary),
        |p| p.column_width = 0,
    ] {
        SequenceTransformerParams::default().with(edit).build().expect_err("outside its domain");
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_by_name() {
    let learner = small_ft(|p| p.training.device = Device::Cuda(77));
    let error = learner.fit(&same_sign(40), &FitContext::seeded(0)).expect_err("not there");
    assert!(error.chain().contains("got cuda:77"), "{}", error.chain());
}

#[test]
fn a_loss_that_is_no_number_ends_the_fit_and_names_the_epoch() {
    let (learner, data, ctx) = (small_tabm(|_| {}), same_sign(64), FitContext::seeded(0));
    // Weights from which the first scores already overflow.
    let wild = learner.fit(&data, &ctx).expect("fits").scaled(1e20);
    let warm_start = learner.as_warm_start().expect("has it");
    let error = warm_start.fit_from(&wild, &data, &ctx).expect_err("diverges");
    assert!(error.to_string().starts_with("loss in epoch 1: expected a finite number"), "{error}");
    assert!(error.to_string().contains("learning_rate"), "{error}");
}

#[test]
fn a_metric_of_another_task_is_an_error_and_not_a_panic() {
    let learner = small_ft(|p| {
        let stopping = p.training.early_stopping.as_mut().expect("by default");
        stopping.metric = Some(Metric::Rmse);
    });
    let data = same_sign(40);
    let ctx = FitContext::seeded(0).with_validation(&data);
    assert!(!matches!(learner.fit(&data, &ctx), Ok(_) | Err(Error::Panicked(_))));
}

#[test]
fn a_hostile_file_is_refused() {
    let model = small_ft(|_| {}).fit(&same_sign(40), &FitContext::seeded(0)).expect("fits");
    let envelope = model.to_envelope().expect("seals");
    let bytes = envelope.as_bytes();
    // Another width in the params than the arrays have, with a checksum that is right.
    let at = bytes.windows(9).position(|w| w == b"\"width\":8").expect("in the params");
    let mut forged = bytes[..bytes.len() - 32].to_vec();
    forged[at + 8] = b'6';
    let sum = <sha2::Sha256 as sha2::Digest>::digest(&forged);
    forged.extend(sum);
    let error = catalog().open(&forged).expect_err("the arrays are of another width");
    assert!(error.chain().contains("shape"), "{}", error.chain());
}

/// Answers with one end of every range.
struct End(bool);

impl Suggest for End {
    fn float(&mut self, _: &str, range: mm_core::FloatRange) -> mm_core::Result<f64> {
        range.check("range")?;
        Ok(if self.0 { range.high } else { range.low })
    }

    fn int(&mut self, _: &str, range: mm_core::IntRange) -> mm_core::Result<i64> {
        range.check("range")?;
        Ok(if self.0 { range.high } else { range.low })
    }

    fn choose(&mut self, _: &str, choices: &[&str]) -> mm_core::Result<usize> {
        Ok(if self.0 { choices.len() - 1 } else { 0 })
    }
}

#[test]
fn whatever_a_search_draws_builds() {
    for size in [SpaceSize::Small, SpaceSize::Medium, SpaceSize::Large] {
        for end in [false, true] {
            let draw = &mut End(end);
            FtTransformerParams::search(size, draw).expect("draws").build().expect("builds");
            TabmParams::search(size, draw).expect("draws").build().expect("builds");
            SequenceTransformerParams::search(size, draw).expect("draws").build().expect("builds");
        }
    }
}

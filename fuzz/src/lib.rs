//! What is asked of a model that was read from any bytes: that it predicts, whatever the row, and can
//! be stored and read again as the same model.

pub mod catboost;

use mm_core::{ImportanceKind, Model};

/// Columns and outputs beyond which a run would only measure the machine.
const MAX_CELLS: usize = 1 << 16;

/// Predicts rows of odd values; the bits of what comes out.
pub fn predict(model: &dyn Model) -> Vec<u64> {
    let odd = [f32::NAN, 0.0, -1.0, 1.5, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 31.0];
    let (width, n_outputs) = (model.signature().schema.len(), model.signature().n_outputs());
    if MAX_CELLS < width || MAX_CELLS < n_outputs {
        return Vec::new();
    }
    let mut bits = Vec::new();
    for shift in 0..odd.len() {
        let columns = model.signature().schema.columns().iter().enumerate();
        let cell = |(j, column): (usize, &mm_core::Column)| {
            let x = odd[(j + shift) % odd.len()];
            match column.levels() {
                Some(levels) if 0.0 <= x && x < levels.len() as f32 => x.floor(),
                Some(_) if !x.is_nan() => -1.0,
                _ => x,
            }
        };
        let row: Vec<f32> = columns.map(cell).collect();
        let mut out = vec![0.0; n_outputs];
        model.infer_row(&row, &mut out).expect("a row of the schema");
        // NaN has many forms.
        bits.extend(out.iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }));
    }
    if let Some(importance) = model.as_importance() {
        importance.importance(ImportanceKind::Gain).expect("known");
    }
    bits
}

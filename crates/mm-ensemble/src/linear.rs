//! Linear models with a quadratic penalty: ridge regression, and logistic regression for classes.
//! The default meta-learner of a stack, and a baseline of its own.
//!
//! # Idea
//!
//! With features *Z* of shape (*n*, *d*), row weights *ω* and penalty λ, minimise over slopes *w*
//! and an intercept *b*, which is not penalised:
//!
//! ```text
//! regression          Σᵢ ωᵢ (yᵢ − b − zᵢw)² + λ ‖w‖²
//! two classes         Σᵢ ωᵢ ln(1 + exp(−sᵢ (b + zᵢw))) + ½ λ ‖w‖²,   sᵢ = ±1
//! k classes           Σᵢ ωᵢ (ln Σ_c exp(b_c + zᵢw_c) − b_y − zᵢw_y) + ½ λ Σ_c ‖w_c‖²
//! ```
//!
//! These are scikit-learn's `Ridge(alpha=λ)` and `LogisticRegression(C=1/λ)`. With `non_negative`
//! all slopes are ≥ 0, so that no member of a stack can count against what it says.
//!
//! A numeric column is centred and, unless told otherwise, scaled to unit variance; missing cells
//! become its mean. A categorical column has an indicator for each level; missing and unknown ones
//! have none.
//!
//! # Method
//!
//! Ridge solves the normal equations. The logistic losses are bounded by a quadratic with the fixed
//! curvature *M* = *c* *Z*ᵀΩ*Z* + λ*I*, *c* = ¼ for two classes and ½ for more (Böhning 1992),
//! which is minimised again and again with momentum (Beck & Teboulle 2009) that restarts when it
//! does not help. With *p* columns, which are *p* cells of a coded row that are not 0, and *d* features,
//! among which each level counts: O(*np*² + *d*³) once, then O((*np* + *d*²)*k*) an iteration.
//!
//! # Limits
//!
//! Memory O(*np* + *d*²): not for columns of many thousand levels.
//!
//! # Sources
//!
//! Hoerl & Kennard (1970), "Ridge regression". Böhning (1992), "Multinomial logistic regression
//! algorithm". Beck & Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm".

use mm_core::{
    BodyReader, BodyWriter, Column, Dataset, Envelope, Error, FitContext, FloatRange, Frame,
    Learner, Matrix, Model, ParamError, Params, Persist, Result, Search, Signature, SpaceSize,
    Step, Suggest, Tag, Task, parallel::fill_rows,
};
use serde::{Deserialize, Serialize};

use crate::quadratic::{Factor, non_negative};

/// Hyper-parameters of [`Linear`]; plain data, checked by [`build`](Params::build).
///
/// | field | default | domain | effect |
/// | --- | ---: | --- | --- |
/// | `penalty` | 1.0 | [0, ∞) | λ; its effect fades as rows grow in number |
/// | `non_negative` | `false` | | slopes are ≥ 0 |
/// | `standardize` | `true` | | numeric columns are scaled to unit variance |
/// | `iterations` | 1,000 | ≥ 1 | of the logistic fit, at most |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LinearParams {
    /// λ.
    pub penalty: f64,
    /// Whether slopes are ≥ 0.
    pub non_negative: bool,
    /// Whether numeric columns are scaled to unit variance.
    pub standardize: bool,
    /// Iterations of the logistic fit, at most.
    pub iterations: usize,
}

impl Default for LinearParams {
    fn default() -> Self {
        Self { penalty: 1.0, non_negative: false, standardize: true, iterations: 1_000 }
    }
}

impl Params for LinearParams {
    type Learner = Linear;

    fn build(self) -> Result<Linear, ParamError> {
        let ok = 0.0 <= self.penalty && self.penalty.is_finite();
        ParamError::ensure(ok, "penalty", self.penalty, "a finite number ≥ 0")?;
        ParamError::ensure(1 <= self.iterations, "iterations", self.iterations, "at least 1")?;
        Ok(Linear { params: self })
    }
}

/// Small: the penalty. Medium: the scaling, too. Large: the signs of the slopes, too.
impl Search for LinearParams {
    fn search(size: SpaceSize, draw: &mut dyn Suggest) -> Result<Self> {
        let mut p =
            Self { penalty: draw.float("penalty", FloatRange::log(1e-4, 1e4))?, ..Self::default() };
        if SpaceSize::Medium <= size {
            p.standardize = draw.flag("standardize")?;
        }
        if SpaceSize::Large <= size {
            p.non_negative = draw.flag("non_negative")?;
        }
        Ok(p)
    }
}

/// Ridge or logistic regression, ready to fit.
#[derive(Debug, Clone)]
pub struct Linear {
    params: LinearParams, // Invariant: passed `Params::build`.
}

/// The change of the largest coefficient, relative to it, at which a logistic fit ends.
const PRECISE: f64 = 1e-10;

impl Learner for Linear {
    type Model = LinearModel;

    fn name(&self) -> &'static str {
        "linear"
    }

    fn train(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<LinearModel> {
        let coding = Coding::learn(data, self.params.standardize);
        let problem = Problem::new(data, &coding, &self.params);
        let coefficients = match data.task() {
            Task::Regression => problem.ridge(data.target()),
            _ => problem.logistic(data, ctx)?,
        };
        let signature = Signature::new(data.frame().schema().clone(), data.task().clone());
        Ok(LinearModel { signature, coding, coefficients })
    }
}

/// A fitted linear model.
#[derive(Debug, Clone)]
pub struct LinearModel {
    signature: Signature,
    coding: Coding,
    coefficients: Matrix, // A row an output: slopes of the coded features, then the intercept.
}

impl LinearModel {
    /// The slopes of output `j` in units of the features: one a numeric column and one a level of
    /// a categorical one, in schema order.
    ///
    /// # Panics
    ///
    /// If there is no output `j`.
    pub fn slopes(&self, j: usize) -> Vec<f64> {
        let row = self.coefficients.row(j);
        row.iter().zip(self.coding.scales()).map(|(slope, scale)| slope / scale).collect()
    }

    /// The intercept of output `j`.
    ///
    /// # Panics
    ///
    /// If there is no output `j`.
    pub fn intercept(&self, j: usize) -> f64 {
        let slopes = self.slopes(j);
        let centres = slopes.iter().zip(self.coding.centres());
        let row = self.coefficients.row(j);
        row[row.len() - 1] - centres.map(|(slope, centre)| slope * centre).sum::<f64>()
    }

    fn predict_one(&self, row: &[f32], out: &mut [f64]) {
        for (j, y) in out.iter_mut().enumerate() {
            let w = self.coefficients.row(j);
            let mut sum = w[w.len() - 1];
            self.coding.each(row, |at, z| sum += w[at] * z);
            *y = sum;
        }
        match (&self.signature.task, out) {
            (Task::Regression, _) => {}
            (_, [only]) => *only = sigmoid(*only),
            (_, all) => softmax(all),
        }
    }
}

impl Model for LinearModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, x: &Frame, out: &mut Matrix) -> Result<()> {
        let k = out.n_cols();
        fill_rows(out, 1024, |rows, values| {
            for (i, out) in rows.zip(values.chunks_exact_mut(k)) {
                self.predict_one(x.row(i), out);
            }
            Ok(())
        })
    }

    fn infer_row(&self, row: &[f32], out: &mut [f64]) -> Result<()> {
        self.predict_one(row, out);
        Ok(())
    }

    fn to_envelope(&self) -> Result<Envelope> {
        Envelope::pack(self)
    }
}

impl Persist for LinearModel {
    const TAG: Tag = Tag::new("mm.linear", 1);

    fn write_body(&self, body: &mut BodyWriter) -> Result<()> {
        body.json(&self.signature)?;
        body.json(&self.coding)?;
        body.numbers(self.coefficients.values());
        Ok(())
    }

    fn read_body(body: &mut BodyReader<'_>, _: u16) -> Result<Self> {
        let signature: Signature = body.json()?;
        let coding: Coding = body.json()?;
        let coefficients = Matrix::new(body.numbers()?, coding.width() + 1)?;
        let fits = coding.fits(signature.schema.columns())
            && coefficients.n_rows() == signature.n_outputs();
        if fits {
            return Ok(Self { signature, coding, coefficients });
        }
        Err(Error::corrupt("linear model", "coefficients of its schema", "others"))
    }
}

/// How columns become numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Coding(Vec<Coded>);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Coded {
    Numeric { centre: f64, scale: f64 },
    Levels(usize),
}

impl Coding {
    fn learn(data: &Dataset, standardize: bool) -> Self {
        let weight = |i: usize| data.weights().map_or(1.0, |w| w[i]);
        let coded = |(j, column): (usize, &Column)| {
            if let Some(levels) = column.levels() {
                return Coded::Levels(levels.len());
            }
            let cells = || data.frame().column(j).enumerate().filter(|(_, x)| !x.is_nan());
            let total: f64 = cells().map(|(i, _)| weight(i)).sum();
            if total <= 0.0 {
                return Coded::Numeric { centre: 0.0, scale: 1.0 };
            }
            let centre = cells().map(|(i, x)| weight(i) * f64::from(x)).sum::<f64>() / total;
            let squares: f64 =
                cells().map(|(i, x)| weight(i) * (f64::from(x) - centre).powi(2)).sum();
            let spread = (squares / total).sqrt();
            // What varies by no more than the rounding of its mean is constant.
            let constant = spread <= 1e-9 * centre.abs() || spread == 0.0;
            let scale = if standardize && !constant { spread } else { 1.0 };
            Coded::Numeric { centre, scale }
        };
        Self(data.frame().schema().columns().iter().enumerate().map(coded).collect())
    }

    fn width(&self) -> usize {
        self.0.iter().map(Coded::width).sum()
    }

    fn fits(&self, columns: &[Column]) -> bool {
        let same = |(coded, column): (&Coded, &Column)| match (coded, column.levels()) {
            (Coded::Numeric { .. }, None) => true,
            (Coded::Levels(n), Some(levels)) => *n == levels.len(),
            _ => false,
        };
        self.0.len() == columns.len() && self.0.iter().zip(columns).all(same)
    }

    fn scales(&self) -> impl Iterator<Item = f64> {
        self.0.iter().flat_map(|coded| match *coded {
            Coded::Numeric { scale, .. } => std::iter::repeat_n(scale, 1),
            Coded::Levels(n) => std::iter::repeat_n(1.0, n),
        })
    }

    fn centres(&self) -> impl Iterator<Item = f64> {
        self.0.iter().flat_map(|coded| match *coded {
            Coded::Numeric { centre, .. } => std::iter::repeat_n(centre, 1),
            Coded::Levels(n) => std::iter::repeat_n(0.0, n),
        })
    }

    /// Calls `use_it` with the place and value of each coded feature that is not 0.
    fn each(&self, row: &[f32], mut use_it: impl FnMut(usize, f64)) {
        let mut at = 0;
        for (coded, &x) in self.0.iter().zip(row) {
            match *coded {
                Coded::Numeric { centre, scale } if !x.is_nan() => {
                    use_it(at, (f64::from(x) - centre) / scale);
                }
                Coded::Levels(n) if 0.0 <= x && (x as usize) < n => use_it(at + x as usize, 1.0),
                _ => {}
            }
            at += coded.width();
        }
    }
}

impl Coded {
    fn width(&self) -> usize {
        match self {
            Self::Numeric { .. } => 1,
            Self::Levels(n) => *n,
        }
    }
}

/// Coded features with a trailing 1, and what is asked of the slopes.
struct Problem<'a> {
    /// Place and value of the cells that are not 0, row by row.
    cells: Vec<(u32, f64)>,
    /// Where each row's cells begin, and where the last one's end.
    starts: Vec<usize>,
    /// Features, the 1 among them.
    width: usize,
    weights: Option<&'a [f64]>,
    params: &'a LinearParams,
}

impl<'a> Problem<'a> {
    fn new(data: &'a Dataset, coding: &Coding, params: &'a LinearParams) -> Self {
        let d = coding.width();
        let (mut cells, mut starts) = (Vec::new(), vec![0]);
        for row in data.frame().rows() {
            coding.each(row, |at, value| cells.push((at as u32, value)));
            cells.push((d as u32, 1.0));
            starts.push(cells.len());
        }
        Self { cells, starts, width: d + 1, weights: data.weights(), params }
    }

    fn rows(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        self.starts.windows(2).map(|ends| &self.cells[ends[0]..ends[1]])
    }

    fn weight(&self, i: usize) -> f64 {
        self.weights.map_or(1.0, |w| w[i])
    }

    /// Σ ω zzᵀ.
    fn gram(&self) -> Matrix {
        let d = self.width;
        let mut gram = Matrix::zeros(d, d);
        for (i, row) in self.rows().enumerate() {
            let weight = self.weight(i);
            for (at, &(j, a)) in row.iter().enumerate() {
                let (scaled, sums) = (weight * a, gram.row_mut(j as usize));
                row[..=at].iter().for_each(|&(j, b)| sums[j as usize] += scaled * b);
            }
        }
        for j in 0..d {
            for i in 0..j {
                gram.row_mut(i)[j] = gram.row(j)[i];
            }
        }
        gram
    }

    /// Adds the penalty to the diagonal, and to all of it as little as makes it definite.
    fn penalize(&self, mut gram: Matrix) -> Matrix {
        let last = gram.n_cols() - 1;
        let largest = (0..=last).map(|j| gram.row(j)[j]).fold(0.0, f64::max);
        for j in 0..=last {
            gram.row_mut(j)[j] += 1e-12 * largest.max(f64::MIN_POSITIVE);
            if j < last {
                gram.row_mut(j)[j] += self.params.penalty;
            }
        }
        gram
    }

    fn ridge(&self, y: &[f64]) -> Matrix {
        let d = self.width - 1;
        let all = self.gram();
        let total = all.row(d)[d];
        let y_mean = y.iter().enumerate().map(|(i, y)| self.weight(i) * y).sum::<f64>() / total;
        let centre: Vec<f64> = all.row(d)[..d].iter().map(|sum| sum / total).collect();
        // About the means, so that the intercept drops out and the slopes alone are solved for.
        let mut gram = Matrix::zeros(d.max(1), d.max(1));
        for j in 0..d {
            let cells = all.row(j).iter().zip(&centre);
            let to = gram.row_mut(j).iter_mut().zip(cells);
            to.for_each(|(to, (sum, c))| *to = sum - total * centre[j] * c);
        }
        let mut b = vec![0.0; self.width];
        for ((i, row), y) in self.rows().enumerate().zip(y) {
            let pull = self.weight(i) * (y - y_mean);
            for &(j, z) in row {
                b[j as usize] += pull * z;
            }
        }
        // The last one's, which rounding alone keeps from 0, is what the means of the others lack.
        let rest = b.pop().unwrap_or_default();
        b.iter_mut().zip(&centre).for_each(|(b, c)| *b -= rest * c);
        let largest = (0..d).map(|j| gram.row(j)[j]).fold(f64::MIN_POSITIVE, f64::max);
        for j in 0..d {
            // What rounding takes from a definite matrix, where columns repeat and λ is 0.
            gram.row_mut(j)[j] += self.params.penalty + 1e-13 * largest;
        }
        let mut slopes = if self.params.non_negative {
            non_negative(&gram, &b)
        } else if d == 0 {
            Vec::new()
        } else {
            Factor::of(&gram).map_or_else(|| vec![0.0; d], |factor| factor.solve(b))
        };
        let intercept = y_mean - slopes.iter().zip(&centre).map(|(w, c)| w * c).sum::<f64>();
        slopes.push(intercept);
        let width = slopes.len();
        Matrix::new(slopes, width).unwrap_or_default()
    }

    fn logistic(&self, data: &Dataset, ctx: &FitContext<'_>) -> Result<Matrix> {
        let (d, k) = (self.width, data.task().outputs().len());
        let curvature = if k == 1 { 0.25 } else { 0.5 };
        let mut gram = self.gram();
        gram.values_mut().iter_mut().for_each(|g| *g *= curvature);
        let bound = self.penalize(gram);
        let factor = if self.params.non_negative { None } else { Factor::of(&bound) };
        let mut w = Matrix::zeros(k, d);
        let (mut look, mut momentum) = (w.clone(), 1.0_f64);
        for iteration in 1..=self.params.iterations {
            let slope = self.slope(&look, data);
            let mut next = Matrix::zeros(k, d);
            for c in 0..k {
                let solved = Self::minimize(&bound, factor.as_ref(), look.row(c), slope.row(c));
                next.row_mut(c).copy_from_slice(&solved);
            }
            let (mut change, mut largest, mut against) = (0.0_f64, 0.0_f64, 0.0);
            for c in 0..k {
                let (new, old, look) = (next.row(c), w.row(c), look.row(c));
                for j in 0..d {
                    change = change.max((new[j] - old[j]).abs());
                    largest = largest.max(new[j].abs());
                    // *M*(look − new), which is the slope itself where no bound stands in the way.
                    let turn = if factor.is_some() {
                        slope.row(c)[j]
                    } else {
                        let pairs = bound.row(j).iter().zip(look).zip(new);
                        pairs.map(|((m, l), n)| m * (l - n)).sum()
                    };
                    against += turn * (new[j] - old[j]);
                }
            }
            let faster = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
            let push = if 0.0 < against { 0.0 } else { (momentum - 1.0) / faster };
            momentum = if 0.0 < against { 1.0 } else { faster };
            look = next.clone();
            let moved = look.values_mut().iter_mut().zip(next.values()).zip(w.values());
            moved.for_each(|((look, next), old)| *look = next + push * (next - old));
            w = next;
            let go_on = ctx.step(&Step::new(iteration, self.params.iterations, &[]))?;
            if !go_on || change <= PRECISE * largest {
                break;
            }
        }
        Ok(w)
    }

    /// The derivative of the loss with penalty: a row an output.
    fn slope(&self, w: &Matrix, data: &Dataset) -> Matrix {
        let (d, k) = (w.n_cols(), w.n_rows());
        let mut slope = Matrix::zeros(k, d);
        let mut p = vec![0.0; k];
        for (i, row) in self.rows().enumerate() {
            for (c, p) in p.iter_mut().enumerate() {
                let w = w.row(c);
                *p = row.iter().map(|&(j, z)| w[j as usize] * z).sum();
            }
            let y = data.target()[i];
            match p.as_mut_slice() {
                [only] => *only = sigmoid(*only) - y,
                all => {
                    softmax(all);
                    all[y as usize] -= 1.0;
                }
            }
            let weight = self.weight(i);
            for (c, p) in p.iter().enumerate() {
                let pull = weight * p;
                let sums = slope.row_mut(c);
                for &(j, z) in row {
                    sums[j as usize] += pull * z;
                }
            }
        }
        for c in 0..k {
            let pairs = slope.row_mut(c).iter_mut().zip(w.row(c)).take(d - 1);
            pairs.for_each(|(sum, w)| *sum += self.params.penalty * w);
        }
        slope
    }

    /// The minimum of the quadratic bound: from `look` against `slope`. With no factor slopes are ≥ 0.
    fn minimize(bound: &Matrix, factor: Option<&Factor>, look: &[f64], slope: &[f64]) -> Vec<f64> {
        if let Some(factor) = factor {
            let step = factor.solve(slope.to_vec());
            return look.iter().zip(step).map(|(w, s)| w - s).collect();
        }
        let pull = |j: usize| bound.row(j).iter().zip(look).map(|(m, w)| m * w).sum::<f64>();
        let b: Vec<f64> = slope.iter().enumerate().map(|(j, s)| pull(j) - s).collect();
        half_bounded(bound, &b, look)
    }
}

/// Minimises ½ *w*ᵀ*Mw* − *b*ᵀ*w* with all but the last variable ≥ 0.
fn half_bounded(m: &Matrix, b: &[f64], start: &[f64]) -> Vec<f64> {
    let last = b.len() - 1;
    let mut w: Vec<f64> =
        start.iter().enumerate().map(|(j, &x)| if j < last { x.max(0.0) } else { x }).collect();
    for _ in 0..10_000 {
        let (mut change, mut largest) = (0.0_f64, 0.0_f64);
        for j in 0..=last {
            let row = m.row(j);
            let slope: f64 = row.iter().zip(&w).map(|(m, w)| m * w).sum::<f64>() - b[j];
            let free = w[j] - slope / row[j];
            let next = if j < last { free.max(0.0) } else { free };
            change = change.max((next - w[j]).abs());
            largest = largest.max(next.abs());
            w[j] = next;
        }
        if change <= PRECISE / 100.0 * largest {
            break;
        }
    }
    w
}

/// 1 / (1 + exp(−x)), without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if 0.0 <= x {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// Scores to probabilities, in place.
pub(crate) fn softmax(scores: &mut [f64]) {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for s in &mut *scores {
        *s = (*s - highest).exp();
    }
    let total: f64 = scores.iter().sum();
    for s in scores {
        *s /= total;
    }
}

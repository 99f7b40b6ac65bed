//! Sums whose error does not grow with the number of terms.

/// A compensated sum: the rounding error of each addition is kept and added at the end, so that
/// the result is as good as one rounded from twice the precision (Ogita, Rump & Oishi 2005,
/// "Accurate sum and dot product", algorithm `Sum2`, with Knuth's branch-free two-sum).
///
/// An infinite total is not a number here; scores refuse both.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    rounded: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, x: f64) {
        let sum = self.rounded + x;
        let added = sum - self.rounded;
        self.lost += (self.rounded - (sum - added)) + (x - added);
        self.rounded = sum;
    }

    pub(super) fn value(self) -> f64 {
        self.rounded + self.lost
    }
}

/// The compensated sum of `terms`.
pub(super) fn total(terms: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = Sum::default();
    terms.into_iter().for_each(|x| sum.add(x));
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plain_sum_loses_is_kept() {
        assert_eq!(total([1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(total([0.1; 10]), 1.0);
        assert_eq!(total([]), 0.0);
    }
}

//! Statistics that a few wild values do not bend.
//!
//! - Median and median absolute deviation (MAD): F. R. Hampel, "The Influence Curve and Its Role in Robust Estimation",
//!   JASA 69 (1974). Up to half of the values may be wild.
//! - Slope as the median of the slopes between all pairs: H. Theil, "A rank-invariant method of linear and polynomial
//!   regression analysis" (1950), and P. K. Sen, JASA 63 (1968). Up to 29 % may be wild.

/// Makes the MAD of normally distributed values their standard deviation: 1 / Φ⁻¹(3/4).
const TO_DEVIATION: f64 = 1.4826;

/// The middle value; of an even number the mean of the two in the middle. None of none.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let is_odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if is_odd {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(f64::midpoint(lower, upper))
}

/// The standard deviation of normally distributed `values` around `middle`, by their MAD.
pub fn deviation(values: &[f64], middle: f64) -> Option<f64> {
    let mut distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    median(&mut distances).map(|mad| mad * TO_DEVIATION)
}

/// A line: value at 0, and slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Value at 0.
    pub at_zero: f64,
    /// Change of the value per unit.
    pub slope: f64,
}

impl Line {
    /// The value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.slope.mul_add(x, self.at_zero)
    }

    /// The line through most of the points (x, y), which have different x. Takes quadratic time: give at most some
    /// hundred. None of fewer than two.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
        for (index, (x, y)) in points.iter().enumerate() {
            for (other_x, other_y) in &points[index + 1..] {
                slopes.push((other_y - y) / (other_x - x));
            }
        }
        let slope = median(&mut slopes)?;
        let mut rests: Vec<f64> = points.iter().map(|(x, y)| slope.mul_add(-x, *y)).collect();
        Some(Self {
            at_zero: median(&mut rests)?,
            slope,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wild_values_do_not_bend_the_result() {
        let mut values = [1.0, 2.0, 3.0, 4.0, 1e9];
        assert_eq!(median(&mut values), Some(3.0));
        assert_eq!(deviation(&values, 3.0), Some(TO_DEVIATION));
        assert_eq!(median(&mut [1.0, 2.0]), Some(1.5));
        assert_eq!(median(&mut []), None);
        let mut points: Vec<(f64, f64)> = (0..20).map(|x| (f64::from(x), f64::from(2 * x + 1))).collect();
        points[3].1 = 1e9;
        points[11].1 = -1e9;
        let line = Line::through(&points).unwrap();
        assert!((line.at(100.0) - 201.0).abs() < 1e-9, "{line:?}");
        assert_eq!(Line::through(&points[..1]), None);
    }
}

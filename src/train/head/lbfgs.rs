//! L-BFGS (Liu and Nocedal 1989) for smooth convex functions of many numbers.

use std::collections::VecDeque;

use crate::Result;

/// Stopping criteria and parameters of the search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goal {
    /// The search stops where no component of the gradient is larger than this.
    pub(crate) tolerance: f64,
    /// Limit on the number of steps.
    pub(crate) steps: usize,
    /// Number of past steps that estimate the curvature.
    pub(crate) memory: usize,
    /// Relative error of the function's values: a step that raises the value by no more than this may still be a
    /// descent.
    pub(crate) noise: f64,
}

impl Default for Goal {
    fn default() -> Self {
        Goal { tolerance: 1e-5, steps: 500, memory: 10, noise: 1e-6 }
    }
}

/// Result of a search.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Minimum {
    /// The final point.
    pub(crate) at: Vec<f64>,
    /// Largest absolute component of the gradient there.
    pub(crate) slope: f64,
    /// Number of steps taken.
    pub(crate) steps: usize,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `a + t b`, rounded to f32 as on the device, so that host and device take exactly the same step.
fn along(a: &[f64], t: f64, b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| f64::from((x + t * y) as f32)).collect()
}

/// Past steps and changes of the gradient, the latest last.
#[derive(Default)]
struct Memory(VecDeque<(Vec<f64>, Vec<f64>)>);

impl Memory {
    /// Stores a step if the function curves upwards along it.
    fn keep(&mut self, step: Vec<f64>, change: Vec<f64>, most: usize) {
        if dot(&step, &change) > 1e-12 * dot(&change, &change) {
            self.0.push_back((step, change));
        }
        if self.0.len() > most {
            self.0.pop_front();
        }
    }

    /// Descent direction: the two-loop recursion of Nocedal and Wright, algorithm 7.4.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut shares = Vec::with_capacity(self.0.len());
        for (step, change) in self.0.iter().rev() {
            let share = dot(step, &direction) / dot(step, change);
            direction.iter_mut().zip(change).for_each(|(d, c)| *d -= share * c);
            shares.push(share);
        }
        // Before the first step the curvature is unknown: take a step of length 1.
        let scale = match self.0.back() {
            Some((step, change)) => dot(step, change) / dot(change, change),
            None => 1.0 / dot(gradient, gradient).sqrt().max(1e-30),
        };
        direction.iter_mut().for_each(|d| *d *= scale);
        for ((step, change), share) in self.0.iter().zip(shares.into_iter().rev()) {
            let other = dot(change, &direction) / dot(step, change);
            direction.iter_mut().zip(step).for_each(|(d, s)| *d += (share - other) * s);
        }
        direction
    }
}

/// Minimises `function` from `start`, until no component of the gradient exceeds the goal's tolerance or no step
/// lowers the value. `function` returns value and gradient.
///
/// # Errors
/// Those of `function`.
pub(crate) fn minimise(
    mut function: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
    start: Vec<f64>,
    goal: &Goal,
) -> Result<Minimum> {
    let steepest = |gradient: &[f64]| gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
    let mut at = along(&start, 0.0, &start);
    let (mut value, mut gradient) = function(&at)?;
    let (mut memory, mut steps) = (Memory::default(), 0);
    while steps < goal.steps && steepest(&gradient) > goal.tolerance {
        let direction = memory.direction(&gradient);
        let slope = dot(&direction, &gradient);
        let mut found = None;
        // Armijo's condition; within the noise, a smaller gradient along the direction suffices.
        for halvings in 0..25 {
            let length = 0.5f64.powi(halvings);
            let next = along(&at, length, &direction);
            let (lower, other) = function(&next)?;
            let gentler = dot(&direction, &other).abs() <= 0.9 * slope.abs();
            if lower <= value + 1e-4 * length * slope
                || (gentler && lower <= value + goal.noise * value.abs())
            {
                found = Some((next, lower, other));
                break;
            }
        }
        let Some((next, lower, other)) = found else {
            if memory.0.is_empty() {
                break;
            }
            // The stored curvature is misleading: forget it.
            memory = Memory::default();
            continue;
        };
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
        memory.keep(difference(&next, &at), difference(&other, &gradient), goal.memory);
        (at, value, gradient) = (next, lower, other);
        steps += 1;
    }
    Ok(Minimum { at, slope: steepest(&gradient), steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_valley_is_followed_to_its_end() -> Result<()> {
        // The sum of x_i^2 with curvatures from 1 to 100, with its minimum at 1, 2, 3, ...
        let target = |i: usize| 1.0 + i as f64;
        let function = |x: &[f64]| {
            let terms = x.iter().enumerate().map(|(i, x)| (10f64.powf(i as f64 / 10.0), x - target(i)));
            let value = terms.clone().map(|(c, d)| 0.5 * c * d * d).sum();
            Ok((value, terms.map(|(c, d)| c * d).collect()))
        };
        let found = minimise(function, vec![0.0; 21], &Goal { tolerance: 1e-3, ..Goal::default() })?;
        assert!(found.steps < 150 && found.slope <= 1e-3, "{} steps, slope {}", found.steps, found.slope);
        found.at.iter().enumerate().for_each(|(i, x)| assert!((x - target(i)).abs() < 1e-3, "{i}: {x}"));
        Ok(())
    }

    #[test]
    fn what_is_level_already_is_left_alone() -> Result<()> {
        let found = minimise(|_| Ok((1.0, vec![0.0, 0.0])), vec![3.0, 4.0], &Goal::default())?;
        assert_eq!((found.at, found.steps), (vec![3.0, 4.0], 0));
        Ok(())
    }
}

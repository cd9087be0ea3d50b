//! Errors of predicted numbers.

use std::any::Any;

use serde::Serialize;
use serde_json::Value;

use super::super::Task;
use super::super::metrics::{Figure, Metrics, Row, Table, named};
use super::super::scores::check_rows;
use super::RegressionTask;
use crate::Result;

/// Errors of one predicted number.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct OutputErrors {
    /// Mean absolute error.
    pub mae: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Coefficient of determination, the explained share of the variance: 1 for exact predictions, 0 for always
    /// predicting the mean.
    pub r2: f64,
}

/// Metrics where each image has numbers as targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Regression {
    /// Images that count.
    pub count: usize,
    /// Of each number.
    pub outputs: Vec<OutputErrors>,
    /// Mean over the numbers.
    pub average: OutputErrors,
}

impl Regression {
    /// From predictions and targets, both `[N, outputs]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where their sizes do not fit.
    pub fn new(predictions: &[f32], targets: &[f32], outputs: usize) -> Result<Self> {
        check_rows("predictions", predictions.len(), outputs, None)?;
        let count = predictions.len() / outputs;
        check_rows("targets", targets.len(), outputs, Some(count))?;
        let n = count.max(1) as f64;
        let errors = |o: usize| {
            let pairs = || {
                let pairs = predictions.iter().zip(targets).skip(o).step_by(outputs);
                pairs.map(|(&p, &t)| (f64::from(p), f64::from(t)))
            };
            let mean = pairs().map(|(_, t)| t).sum::<f64>() / n;
            let absolute: f64 = pairs().map(|(p, t)| (p - t).abs()).sum();
            let squares: f64 = pairs().map(|(p, t)| (p - t).powi(2)).sum();
            let spread: f64 = pairs().map(|(_, t)| (t - mean).powi(2)).sum();
            // A constant value has no variance: R2 is 1 where it is predicted exactly, else 0.
            let r2 = if spread > 0.0 { 1.0 - squares / spread } else { f64::from(u8::from(squares == 0.0)) };
            OutputErrors { mae: absolute / n, rmse: (squares / n).sqrt(), r2 }
        };
        let of_output: Vec<OutputErrors> = (0..outputs).map(errors).collect();
        let mean = |pick: fn(&OutputErrors) -> f64| of_output.iter().map(pick).sum::<f64>() / outputs as f64;
        let average = OutputErrors { mae: mean(|e| e.mae), rmse: mean(|e| e.rmse), r2: mean(|e| e.r2) };
        Ok(Regression { count, outputs: of_output, average })
    }
}

impl Metrics for Regression {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn count(&self) -> usize {
        self.count
    }

    fn figures(&self) -> Vec<Figure> {
        let OutputErrors { mae, rmse, r2 } = self.average;
        vec![
            Figure::new("R2", format!("{r2:.4}"), "share of the variance that is explained: 1 is all"),
            Figure::new("MAE", format!("{mae:.4}"), "mean absolute error"),
            Figure::new("RMSE", format!("{rmse:.4}"), "root of the mean squared error"),
        ]
    }

    fn table(&self, names: &[String]) -> Table {
        let cells = |e: &OutputErrors| [e.mae, e.rmse, e.r2].map(|x| (format!("{x:.4}"), x));
        let row = |(name, errors): (&String, &OutputErrors)| Row {
            name: name.clone(),
            cells: cells(errors).into(),
            bar: None,
            score: errors.r2,
            occurs: true,
        };
        Table {
            of: "output",
            head: vec!["MAE", "RMSE", "R2"],
            bar: None,
            score: "R2",
            rows: names.iter().zip(&self.outputs).map(row).collect(),
            means: vec![("mean", cells(&self.average).map(|(text, _)| text).into())],
            note: "MAE: mean absolute error. RMSE: root of the mean squared error. R2: share of the variance that is explained.",
        }
    }

    fn json(&self, names: &[String]) -> Value {
        named(self, RegressionTask.name(), "outputs", names)
    }
}

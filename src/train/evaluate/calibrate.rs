//! Temperature scaling: fits the temperature of a network's probabilities on images that it was not trained on.

use std::sync::Arc;

use crate::Result;
use crate::data::{Dataset, Skipped};
use crate::models::Network;
use crate::plan::Device;
use crate::task::scores::Tally;
use crate::task::{self, Ability, Calibration, at_temperature, fit_temperature, temperature_is_at_an_end};
use crate::train::evaluate::predictor::Predictor;
use crate::train::events::{Event, Observer};

/// With fewer images than this, the fitted temperature is mostly noise.
const FEW: usize = 100;

/// Effect of a temperature on a network's probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// The temperature.
    pub temperature: f64,
    /// Mean cross-entropy without and with the temperature.
    pub loss: [f64; 2],
    /// Expected calibration error without and with the temperature.
    pub ece: [f64; 2],
    /// Number of images in the fit.
    pub count: usize,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Fits `net`'s temperature on images that it was not trained on. Their labels are the network's classes.
///
/// # Errors
/// As for [`Predictor::outputs`] and [`fit_temperature`].
pub fn calibrate(
    net: &mut Network,
    device: &Device,
    dataset: Arc<Dataset>,
    batch: usize,
    observer: &mut dyn Observer,
) -> Result<Calibrated> {
    task::require(net, Ability::Calibration)?;
    let outputs = Predictor::new(device, net, batch.min(dataset.len().max(1)))?.outputs(dataset, observer)?;
    let (labels, classes) = (&outputs.raw(net).labels()?, net.classes().len());
    let temperature = fit_temperature(&outputs.logits, labels)?;
    let mut warn = |text: String| observer.event(&Event::Warning(text));
    if labels.len() < FEW {
        warn(format!(
            "the temperature is fitted to {} images only; with fewer than {FEW} it is mostly chance: give more",
            labels.len()
        ));
    }
    if temperature_is_at_an_end(temperature) {
        warn(format!(
            "the temperature stands at the end of its range ({temperature:.2}): these images do not determine it"
        ));
    }
    net.set_temperature(Some(temperature))?;
    let loss = |logits: &[f32]| {
        let mut tally = Tally::default();
        tally.add(logits, labels);
        tally.mean_loss()
    };
    let both = [&outputs.logits, &at_temperature(&outputs.logits, temperature)];
    let [before, after] = both.map(|logits| Calibration::new(logits, labels, classes));
    Ok(Calibrated {
        temperature,
        loss: both.map(|logits| loss(logits)),
        ece: [before?.ece, after?.ece],
        count: labels.len(),
        skipped: outputs.skipped,
    })
}

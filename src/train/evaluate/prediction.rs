//! The prediction for one image, in one call.

use crate::Result;
use crate::data::{Image, eval};
use crate::models::Network;
use crate::plan::Device;
use crate::task::{self, TaskRef};
use crate::train::evaluate::predictor::Predictor;

/// A network's prediction for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The network's task, which defines the meaning of the values ([`crate::task::Task::predict`]).
    pub task: TaskRef,
    /// Names of the classes or values.
    pub classes: Vec<String>,
    /// One number per class: a probability, or the predicted value.
    pub values: Vec<f32>,
}

impl Prediction {
    /// The `n` classes with the largest values, the largest first.
    pub fn top(&self, n: usize) -> Vec<(&str, f32)> {
        let mut all: Vec<(&str, f32)> =
            self.classes.iter().map(String::as_str).zip(self.values.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(n);
        all
    }

    /// The value of a class.
    pub fn of(&self, class: &str) -> Option<f32> {
        self.classes.iter().position(|name| name == class).map(|i| self.values[i])
    }
}

impl Network {
    /// Predicts one image. Each call compiles the network; for many images use [`Predictor`].
    ///
    /// ```no_run
    /// # fn main() -> defrost::Result<()> {
    /// use defrost::{data, models::Network, plan::Device};
    ///
    /// let net = Network::open("photos.safetensors")?;
    /// let image = data::load("image.jpg".as_ref())?;
    /// for (class, probability) in net.predict(&Device::Cpu, &image)?.top(3) {
    ///     println!("{class}: {probability:.3}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Predictor::predict`].
    pub fn predict(&self, device: &Device, image: &Image) -> Result<Prediction> {
        let pixels = eval(image, self.preprocess());
        let values =
            Predictor::new(device, self, 1)?.predict(&[pixels])?.into_iter().next().unwrap_or_default();
        Ok(Prediction { task: task::of(self)?, classes: self.classes().to_vec(), values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;

    #[test]
    fn an_image_is_predicted_as_a_batch_of_it_is() -> Result<()> {
        let mut net = models::blank("resnet20", 4)?;
        models::rule_fill(&mut net);
        let rgb = (0..40 * 36 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = Image { width: 40, height: 36, rgb };
        let found = net.predict(&Device::Cpu, &image)?;
        let pixels = eval(&image, net.preprocess());
        assert_eq!(found.values, Predictor::new(&Device::Cpu, &net, 1)?.predict(&[pixels])?[0]);
        let top = found.top(2);
        assert!(top.len() == 2 && top[0].1 >= top[1].1);
        assert_eq!(found.of(top[0].0), Some(top[0].1));
        assert!(found.values.iter().all(|p| *p <= top[0].1));
        assert_eq!(found.of("no class"), None);
        Ok(())
    }
}

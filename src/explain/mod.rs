//! Which part of an image raises the score of a class: Grad-CAM, Grad-CAM++, SmoothGrad. Frozen layers make no
//! difference.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use defrost::data::{self, Image};
//! use defrost::explain::{Explainer, Method, overlay};
//! use defrost::{models::Network, plan::Device};
//!
//! # fn main() -> defrost::Result<()> {
//! let net = Network::open("runs/photos/model.safetensors")?;
//! let mut explainer = Explainer::new(&Device::Cpu, &net, Method::GradCam, None, 1)?;
//! let crop = data::eval(&data::load(Path::new("image.jpg"))?, net.preprocess());
//! let map = explainer.maps(&[crop.clone()], &[None])?.remove(0); // of the class that it takes it for
//! let [height, width] = net.preprocess().size;
//! let crop = Image { width, height, rgb: crop };
//! overlay(&crop, &map)?.write_png(Path::new("why.png"))?;
//! println!("{}: {:.1}%", net.classes()[map.class], 100.0 * map.answer);
//! # Ok(())
//! # }
//! ```

mod cam;
mod explainer;
mod overlay;

use std::fmt;

pub use explainer::Explainer;
pub use overlay::{beside, heat, overlay};

/// The method that computes a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Selvaraju et al. 2017, arXiv:1610.02391: the maps of a layer, each weighted by the mean of its gradient.
    #[default]
    GradCam,
    /// Chattopadhyay et al. 2018, arXiv:1710.11063: weighted pixel by pixel, for images that show a class more than
    /// once.
    GradCamPlusPlus,
    /// Smilkov et al. 2017, arXiv:1706.03825: the gradient with respect to the image, averaged over noisy versions.
    SmoothGrad,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 3] = [Method::GradCam, Method::GradCamPlusPlus, Method::SmoothGrad];

    /// Its name in the command.
    pub fn name(self) -> &'static str {
        match self {
            Method::GradCam => "grad-cam",
            Method::GradCamPlusPlus => "grad-cam++",
            Method::SmoothGrad => "smoothgrad",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much each pixel of an image raises the score of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Columns, as the crop has.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`, from 0 to 1; 0 everywhere where no pixel raises the score ([`Map::is_empty`]).
    pub values: Vec<f32>,
    /// The class, by its number.
    pub class: usize,
    /// The logit of the class: the value whose gradient was taken.
    pub logit: f32,
    /// The probability of the class, at the network's temperature; for a regression the value itself.
    pub answer: f32,
}

impl Map {
    /// Whether no pixel raises the score of the class.
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|&v| v == 0.0)
    }

    /// Whether the network's outputs are finite, neither NaN nor infinite; else the map means nothing.
    pub fn is_finite(&self) -> bool {
        self.answer.is_finite() && self.values.iter().all(|v| v.is_finite())
    }
}

//! Correlation alignment (CORAL; Sun, Feng, Saenko 2016, arXiv:1511.05547): transforms the features of a source
//! domain so that they have the mean and covariance of a target domain, and solves for a head on the aligned
//! features.

use std::path::Path;

use crate::data::{Dataset, Skipped};
use crate::models::Network;
use crate::plan::Device;
use crate::task::{self, Ability};
use crate::train::adapt::matrix_root::Map;
use crate::train::adapt::means::FEW;
use crate::train::cache::features::{Vectors, extract};
use crate::train::events::{Event, Observer};
use crate::train::head::solver::{Solved, SolverOptions, linear_head, solve_head};
use crate::{Error, Result};

/// Rows minus their mean, and the mean.
struct Centred {
    rows: Vec<f64>,
    mean: Vec<f64>,
}

impl Centred {
    fn new(vectors: &Vectors, what: &str) -> Result<Self> {
        let Vectors { dims, ref rows, .. } = *vectors;
        let count = rows.len() / dims.max(1);
        if count < 2 || rows.len() != count * dims {
            return Err(Error::Data(format!(
                "{what} images: {count} of them can be read, and a covariance needs at least 2"
            )));
        }
        if rows.iter().any(|x| !x.is_finite()) {
            return Err(Error::Data(format!("a feature of a {what} image is no finite number")));
        }
        let mut mean = vec![0.0; dims];
        for row in rows.chunks_exact(dims) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / count as f64);
        }
        let rows = rows.iter().zip(mean.iter().cycle()).map(|(&x, m)| f64::from(x) - m).collect();
        Ok(Centred { rows, mean })
    }
}

/// Transforms the source's features to the target's mean and covariance by symmetric whitening and colouring:
/// `(x - mean_s) C_s^-1/2 C_t^1/2 + mean_t`. C is the covariance with the source's mean variance added to its
/// diagonal; the paper adds 1 for features of variance 1. The result keeps the source's labels; the target's labels
/// are ignored. Computed in f64.
///
/// # Errors
/// [`Error::Shape`] for features of different lengths; [`Error::Data`] for fewer than two images, for NaN or infinite
/// numbers, and where all images of the source have the same features.
pub fn align(source: &Vectors, target: &Vectors) -> Result<Vectors> {
    let dims = source.dims;
    if dims != target.dims {
        return Err(Error::Shape(format!("{dims} features of the source, {} of the target", target.dims)));
    }
    let [from, to] = [Centred::new(source, "source")?, Centred::new(target, "target")?];
    let freedom = from.rows.len() - dims;
    let variance = from.rows.iter().map(|x| x * x).sum::<f64>() / freedom as f64;
    if variance == 0.0 {
        return Err(Error::Data(
            "all source images have the same features: there is nothing to align".into(),
        ));
    }
    let whiten = Map::root_of_covariance(&from.rows, dims, variance, true)?;
    let colour = Map::root_of_covariance(&to.rows, dims, variance, false)?;
    let aligned = colour.apply(&whiten.apply(&from.rows, dims), dims);
    let rows = aligned.iter().zip(to.mean.iter().cycle()).map(|(x, m)| (x + m) as f32).collect();
    Ok(Vectors { dims, rows, labels: source.labels.clone() })
}

/// A head solved for on aligned features.
#[derive(Debug, Clone, PartialEq)]
pub struct Aligned {
    /// The head.
    pub solved: Solved,
    /// Number of source images.
    pub source: usize,
    /// Number of target images that the source was aligned with.
    pub target: usize,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Solves for `net`'s head on the features of labelled `source` images and writes the head into `net`. Where there
/// are `target` images, the source's features are first aligned with theirs; the target's labels are ignored. `home`
/// computes the source's features: it is a copy of `net`, or the same network with the source's own batch-norm
/// statistics. Features are cached in `cache`, where one is given.
///
/// # Errors
/// As for [`align`], [`extract`] and [`solve_head`]; [`Error::Usage`] for any task other than single label.
pub fn align_head(
    net: &mut Network,
    home: &Network,
    device: &Device,
    (source, target): (&Dataset, Option<&Dataset>),
    cache: Option<&Path>,
    options: &SolverOptions,
    observer: &mut dyn Observer,
) -> Result<Aligned> {
    linear_head(net)?;
    task::require(net, Ability::Alignment)?;
    let from = extract(home, device, &[source], cache, observer)?.remove(0);
    let (mut vectors, mut skipped, mut images) = (from.vectors()?, from.skipped.clone(), 0);
    if let Some(target) = target {
        let to = extract(net, device, &[target], cache, observer)?.remove(0);
        vectors = align(&vectors, &to.vectors()?)?;
        skipped.extend_from_slice(&to.skipped);
        images = to.len();
        if images < FEW {
            observer.event(&Event::Warning(format!(
                "the features are aligned with {images} images only: their covariance is mostly chance; give more"
            )));
        }
    }
    let solved = solve_head(net, device, &vectors, options, observer)?;
    solved.write(net)?;
    Ok(Aligned { solved, source: from.len(), target: images, skipped })
}

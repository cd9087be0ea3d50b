//! Options for varying training pictures.

use clap::Args;

use super::options::one_of;
use super::usage_error;
use crate::Result;
use crate::data::Preset;
use crate::train::{Config, Strategy};

/// How training pictures are varied.
#[derive(Debug, Args)]
#[command(next_help_heading = "How training pictures are varied")]
pub(super) struct Augmenting {
    /// none: the middle square; light: parts from 70% of the picture on, mirrored or not; default: from 35%;
    /// strong: also turned, in other colours, blurred, partly erased; trivial: the default and TrivialAugment.
    /// What follows changes single settings of it [default: default]
    #[arg(long, value_name = "PRESET", value_parser = one_of::<Preset>(&["none", "light", "default", "strong", "trivial"]))]
    augment: Option<Preset>,
    /// Least and greatest share of the picture's area that is kept
    #[arg(long, value_name = "MIN,MAX", value_parser = numbers::<2>, allow_negative_numbers = true)]
    crop_scale: Option<[f64; 2]>,
    /// Probability of a left-right mirror
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    flip: Option<f64>,
    /// Probability of a top-bottom mirror, for pictures that have no up: from above, through a microscope
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    vertical_flip: Option<f64>,
    /// Greatest rotation to either side
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    rotate: Option<f64>,
    /// Strength of changes of brightness, contrast, saturation and hue, as in torchvision's ColorJitter: 0.3,0.3,0.3,0.05
    #[arg(long, value_name = "B,C,S,H", value_parser = numbers::<4>, allow_negative_numbers = true)]
    jitter: Option<[f64; 4]>,
    /// Probability of no colour
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    grey: Option<f64>,
    /// Probability of a blur
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    blur: Option<f64>,
    /// Probability that a rectangle is erased
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    erase: Option<f64>,
    /// MixUp of pictures and labels: alpha of the Beta distribution, such as 0.2
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    mixup: Option<f64>,
    /// CutMix: alpha, such as 1. With --mixup, a coin chooses for each batch
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    cutmix: Option<f64>,
}

impl Augmenting {
    /// Into the settings, whose strategy is known.
    pub(super) fn apply(&self, config: &mut Config) -> Result<()> {
        let before = config.augment;
        let augment = &mut config.augment;
        if let Some(preset) = self.augment {
            *augment = preset.augment();
        }
        if let Some([least, greatest]) = self.crop_scale {
            augment.scale = (least, greatest);
        }
        if let Some(strengths) = self.jitter {
            [augment.brightness, augment.contrast, augment.saturation, augment.hue] = strengths;
        }
        for (setting, given) in [
            (&mut augment.flip, self.flip),
            (&mut augment.vertical_flip, self.vertical_flip),
            (&mut augment.rotate, self.rotate),
            (&mut augment.grey, self.grey),
            (&mut augment.blur, self.blur),
            (&mut augment.erase, self.erase),
            (&mut augment.mixup, self.mixup),
            (&mut augment.cutmix, self.cutmix),
        ] {
            *setting = given.unwrap_or(*setting);
        }
        let varied = config.augment != before && config.augment != Preset::None.augment();
        if config.strategy == Strategy::Features && config.copies == 0 && varied {
            return Err(usage_error(
                "--strategy features sees each picture once and never varied; --augment and its like need --copies N, or \
                 another strategy, such as two-phase or finetune",
            ));
        }
        Ok(())
    }
}

/// So many numbers with commas between them.
fn numbers<const N: usize>(text: &str) -> std::result::Result<[f64; N], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("{N} numbers with commas between them are needed"))
}

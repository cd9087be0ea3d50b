//! None, one or several labels for each image: binary cross-entropy of each label.

mod metrics;

pub use metrics::{LabelScores, MultiLabel};

use super::scores::binary_cross_entropy;
use super::{Card, MetricNames, Metrics, Mistake, Raw, Score, Task, Unit};
use crate::Result;
use crate::data::{Target, TargetKind};
use crate::ops::LossKind;
use crate::text::grouped;

pub(super) const NAME: &str = "multi-label";
pub(super) const HELP: &str = "multi-label: none, one or several;";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct MultiLabelTask;

impl Task for MultiLabelTask {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "each image shows any number of classes"
    }

    fn targets(&self) -> TargetKind {
        TargetKind::Labels
    }

    fn target_loss(&self) -> Option<LossKind> {
        Some(LossKind::Sigmoid)
    }

    fn metric(&self) -> MetricNames {
        MetricNames { train: "labels correct", val: "mAP", unit: Unit::Share }
    }

    fn score(&self, raw: Raw<'_>) -> Result<Score> {
        let found = MultiLabel::new(raw.outputs, &raw.numbers(), raw.classes.len())?;
        Ok(Score {
            accuracy: found.mean_average_precision,
            loss: found.loss,
            selection_loss: found.loss,
            count: found.count,
        })
    }

    fn measure(&self, raw: Raw<'_>, _: Option<f64>) -> Result<Box<dyn Metrics>> {
        Ok(Box::new(MultiLabel::new(raw.outputs, &raw.numbers(), raw.classes.len())?))
    }

    fn predict(&self, outputs: &[f32], _: Option<f64>) -> Vec<f32> {
        outputs.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect()
    }

    fn mistake(&self, outputs: &[f32], target: &Target, _: Option<f64>) -> Option<Mistake> {
        let pairs = || outputs.iter().zip(target.numbers());
        let wrong = pairs().any(|(x, t)| (*x > 0.0) != (*t > 0.5));
        let loss = pairs().map(|(&x, &t)| binary_cross_entropy(x.into(), t.into())).sum();
        wrong.then_some(Mistake { loss, classes: None })
    }

    fn predicted(&self, outputs: &[f32]) -> Target {
        Target::Labels(outputs.iter().map(|&x| f32::from(u8::from(x > 0.0))).collect())
    }

    fn card(&self, classes: &[String]) -> Card {
        Card {
            what: format!(
                "tells which of {} labels belong to an image: none, one or several",
                grouped(classes.len())
            ),
            pipeline: Some("image-classification"),
            outputs: "Classes",
            limits: Vec::new(),
        }
    }

    fn count_text(&self, classes: usize) -> String {
        format!("{} labels", grouped(classes))
    }

    fn python(&self, _: Option<f64>) -> String {
        "net(image)[0].sigmoid()".into()
    }
}

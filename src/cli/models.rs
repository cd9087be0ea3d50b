//! `defrost models`: the networks, by family.

use clap::Args;
use serde_json::json;

use super::output::{amount, grouped, table};
use super::{Session, usage_error};
use crate::models::{self, registry};
use crate::{Result, did_you_mean};

const EXAMPLES: &str = "\
Examples:
  defrost models
  defrost models efficientnet
  defrost inspect densenet121
  defrost weights list";

/// List the networks that Defrost can build
///
/// Parameters, multiply-adds and top-1 are for ImageNet's 1000 classes at the usual input size; top-1 is the accuracy
/// that torchvision publishes for its first set of weights.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Models {
    /// Only those whose name or description contains this
    filter: Option<String>,
}

impl Models {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let wanted = self.filter.as_deref().unwrap_or_default().to_lowercase();
        let fits = |text: &str| text.to_lowercase().contains(&wanted);
        let found: Vec<_> = registry::all()
            .into_iter()
            .filter(|m| fits(m.name) || fits(m.about) || m.aliases.iter().any(|a| fits(a)))
            .collect();
        if found.is_empty() {
            let hint = did_you_mean(&wanted, registry::all().into_iter().map(|m| m.name));
            return Err(usage_error(format!("no network's name contains '{wanted}'{hint}")));
        }
        let heading = ["model", "parameters", "mult-adds", "input", "top-1", "about"];
        let mut rows = vec![heading.map(String::from).to_vec()];
        for model in found {
            let net = models::blank(model.name, model.classes)?;
            let mult_adds = net.mult_adds()?;
            let published = registry::published(model.name);
            if out.json {
                let preprocess = serde_json::to_value(net.preprocess()).unwrap_or_default();
                let weights: Vec<_> = published
                    .iter()
                    .map(|p| json!({ "weights": p.weights, "top1": p.top1, "top5": p.top5 }))
                    .collect();
                out.event(
                    "model",
                    json!({
                        "name": model.name,
                        "aliases": model.aliases,
                        "about": model.about,
                        "parameters": net.parameters(),
                        "mult_adds": mult_adds,
                        "classes": model.classes,
                        "input": model.input,
                        "widths": model.widths,
                        "preprocess": preprocess,
                        "norm": net.config().norm,
                        "groups": net.structure().groups,
                        "head": model.head(),
                        "features": model.features_path(),
                        "grad_cam": net.architecture().last_map(),
                        "published": weights,
                    }),
                );
            }
            rows.push(vec![
                model.name.into(),
                grouped(net.parameters()),
                amount(mult_adds),
                model.input.to_string(),
                published.first().map_or(String::new(), |p| format!("{:.1}", p.top1)),
                model.about.into(),
            ]);
        }
        if !out.json {
            let right = [false, true, true, true, true, false];
            table(&rows, &right).into_iter().for_each(|line| out.line(line));
        }
        Ok(())
    }
}

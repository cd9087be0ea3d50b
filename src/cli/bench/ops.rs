//! `defrost bench --ops`: every kernel of single ops.

use serde_json::json;

use super::super::output::{count, table};
use super::{Session, introduce, milli};
use crate::Result;
use crate::plan::certify::Selection;
use crate::plan::describe;
use crate::plan::measure::Limits;
use crate::plan::rates::{Item, Rate, items};

const HEAD: [&str; 7] = ["op", "operands", "kernel", "ms", "GFLOP/s", "GB/s", "share"];

/// `names` are families, ops, or the word `all`.
pub(super) fn run(names: &[String], batch: usize, session: &Session) -> Result<()> {
    let out = &session.out;
    let named: Vec<String> = names.iter().filter(|name| *name != "all").cloned().collect();
    let wanted = Selection::new(if named.len() < names.len() { &[] } else { &named })?;
    let device = session.device()?;
    let limits = Limits::measure(&device)?;
    introduce(out, &device, &limits);
    let all = items(&wanted, batch)?;
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    let mut kernels = 0;
    for (number, item) in all.iter().enumerate() {
        let what = describe(item.op.as_ref());
        out.note(format_args!("{} of {}: {what} {}", number + 1, all.len(), item.operands()));
        for rate in item.measure(&device)? {
            kernels += 1;
            if out.json {
                out.event("op", event(item, &what, &rate, &limits));
            } else {
                rows.push(row(item, &what, &rate, &limits));
            }
        }
    }
    if out.json {
        out.event("done", json!({ "ops": all.len(), "kernels": kernels }));
        return Ok(());
    }
    out.line("");
    table(&rows, &[false, false, false, true, true, true, true]).into_iter().for_each(|line| out.line(line));
    let ops = count(all.len(), "op", "ops");
    out.line(format_args!("{ops} on layers and cases, {}", count(kernels, "kernel", "kernels")));
    Ok(())
}

fn row(item: &Item, what: &str, rate: &Rate, limits: &Limits) -> Vec<String> {
    let (cost, seconds) = (item.cost(), rate.timing.median);
    let what = item.layer.map_or(what.to_string(), |layer| format!("{layer}: {what}"));
    vec![
        what,
        item.operands(),
        rate.variant.into(),
        milli(seconds),
        format!("{:.1}", cost.flops / seconds / 1e9),
        format!("{:.1}", cost.bytes / seconds / 1e9),
        format!("{:.0}%", 100.0 * limits.least(cost) / seconds),
    ]
}

fn event(item: &Item, what: &str, rate: &Rate, limits: &Limits) -> serde_json::Value {
    let (cost, timing) = (item.cost(), rate.timing);
    json!({
        "layer": item.layer,
        "op": item.op.name(),
        "what": what,
        "operands": item.operands(),
        "kernel": rate.variant,
        "seconds": { "median": timing.median, "least": timing.least, "most": timing.most },
        "flops": cost.flops,
        "bytes": cost.bytes,
        "share": limits.least(cost) / timing.median,
    })
}

//! The time line of training steps, in the trace event format that Perfetto and Chrome open.

use std::path::Path;

use serde_json::json;

use super::Report;
use crate::{Error, Result};

/// One process a network and kind of step, one thread for each pass; each step of the plan is an event.
pub(super) fn write(path: &Path, reports: &[Report]) -> Result<()> {
    let mut events = Vec::new();
    let parts = reports.iter().flat_map(|report| report.parts.iter().map(move |part| (report, part)));
    // Without timestamps of kernels there is no line to draw.
    for (number, (report, measured)) in parts.filter(|(_, m)| !m.rows.is_empty()).enumerate() {
        let name = |kind: &str, thread: usize, name: String| json!({ "ph": "M", "pid": number, "tid": thread, "name": kind, "args": { "name": name } });
        events.push(name("process_name", 0, format!("{}, {}", report.model, measured.part.describe())));
        events.push(name("thread_name", 0, "forward".into()));
        events.push(name("thread_name", 1, "backward and update".into()));
        let mut at = 0.0;
        for span in &measured.spans {
            events.push(json!({
                "ph": "X",
                "pid": number,
                "tid": usize::from(span.training),
                "name": format!("{} {}", span.layer, span.what),
                "ts": at * 1e6,
                "dur": span.seconds * 1e6,
                "args": {
                    "kernel": span.variant,
                    "GFLOP/s": span.cost.flops / span.seconds.max(1e-12) / 1e9,
                    "GB/s": span.cost.bytes / span.seconds.max(1e-12) / 1e9,
                },
            }));
            at += span.seconds;
        }
    }
    let text = json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string();
    std::fs::write(path, text).map_err(|e| Error::io(path, "write", e))
}

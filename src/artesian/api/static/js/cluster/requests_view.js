// A line for each request: its spans as bars on the scale of the slowest one that is shown.

import { el } from "../dom.js";
import { duration } from "./format.js";

const KINDS = {
  prepare: "queue",
  queue: "queue",
  prefill: "prefill",
  decode: "decode",
  "hand-over": "handover",
};
const GOOD = new Set(["running", "stop", "length"]);

export function requestLines(traces) {
  const longest = Math.max(1, ...traces.map((trace) => endOf(trace)));
  return traces.map((trace) => line(trace, longest));
}

function line(trace, longest) {
  const workers = [...new Set(trace.spans.map((span) => span.worker).filter(Boolean))];
  const retries = trace.num_retries ? `, ${trace.num_retries} retries` : "";
  // How many there are is counted when the request is over.
  const output = trace.status === "running" ? "…" : trace.output_tokens;
  const tokens = `${trace.prompt_tokens} → ${output}`;
  return el(
    "div",
    { class: "request", data: { id: trace.id } },
    el("span", { class: "request-id", title: trace.id }, trace.id),
    el(
      "span",
      { class: "request-status", data: { bad: !GOOD.has(trace.status) }, title: trace.status },
      trace.status,
    ),
    el("div", { class: "bars" }, ...trace.spans.flatMap((span) => bar(span, trace, longest))),
    el("span", { class: "request-took" }, duration(endOf(trace))),
    el("span", { class: "request-note" }, `${tokens} · ${workers.join(" ") || "front"}${retries}`),
  );
}

function bar(span, trace, longest) {
  const kind = KINDS[span.name];
  if (!kind) return [];
  const end = span.end_ms ?? endOf(trace);
  const failed = span.name === "hand-over" && span.outcome && span.outcome !== "done";
  const node = el("div", {
    class: `bar kind-${failed ? "bad" : kind}`,
    title: `${span.name} ${span.worker} ${span.outcome} ${duration(end - span.start_ms)}`,
  });
  node.style.left = `${(100 * span.start_ms) / longest}%`;
  node.style.width = `${(100 * (end - span.start_ms)) / longest}%`;
  return [node];
}

/** How long it took; what still runs is as old as the server's clock says. */
function endOf(trace) {
  if (trace.duration_ms !== null) return trace.duration_ms;
  return Math.max(trace.age_ms ?? 0, ...trace.spans.map((span) => span.end_ms ?? span.start_ms));
}

// The cluster in a few numbers.

import { el } from "../dom.js";
import { bytes, count, duration, percent } from "./format.js";

/** `rates`: tokens and transferred bytes per second. */
export function figures(cluster, rates) {
  const workers = cluster.workers;
  const alive = workers.filter((worker) => worker.state === "ready").length;
  const running = sum(workers, "num_running");
  const waiting = cluster.num_waiting + cluster.num_queued + sum(workers, "num_waiting");
  const handovers = cluster.handovers;
  const done = handovers.num_ended.done ?? 0;
  const failed = Object.entries(handovers.num_ended).reduce(
    (total, [outcome, number]) => total + (outcome === "done" ? 0 : number),
    0,
  );
  const shown = [
    figure("tokens/s", count(rates.tokens), `${alive} of ${workers.length} workers ready`),
    figure("running", count(running), "requests in batches"),
    figure("waiting", count(waiting), `${cluster.num_queued} of them in the front`),
  ];
  if (workers.length > 1) {
    const ended = `${done} done, ${failed} not`;
    shown.push(
      figure("hand-overs", count(handovers.num_open), ended),
      figure("transfers", `${bytes(rates.bytes)}/s`, `${bytes(handovers.num_bytes)} in all`),
      figure("hand-over time", done ? duration(handovers.mean_ms) : "–", "of the last ones"),
      figure("offload ratio", percent(cluster.offload_ratio), "KV stays with a peer"),
    );
  }
  return shown;
}

function figure(name, value, note) {
  return el(
    "div",
    { class: "figure" },
    el("div", { class: "figure-name" }, name),
    el("div", { class: "figure-value" }, value),
    el("div", { class: "figure-note" }, note),
  );
}

function sum(rows, name) {
  return rows.reduce((total, row) => total + row[name], 0);
}

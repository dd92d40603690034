// A card for each worker.

import { el } from "../dom.js";
import { count, percent } from "./format.js";

/** The cards; `rateOf(worker)` gives its tokens per second. */
export function workerCards(workers, rateOf) {
  return workers.map((worker) => card(worker, rateOf(worker)));
}

function card(worker, rate) {
  const pid = worker.pid === null ? null : el("span", { class: "worker-pid" }, `pid ${worker.pid}`);
  return el(
    "article",
    { class: "worker", data: { state: worker.state, id: worker.id } },
    el(
      "div",
      { class: "worker-head" },
      el("span", { class: "worker-name" }, worker.id),
      el("span", { class: "worker-generation" }, `gen. ${worker.generation}`),
      el("span", { class: "role" }, worker.role),
      pid,
      el("span", { class: "worker-state" }, worker.state),
    ),
    el(
      "dl",
      {},
      ...pair("running", count(worker.num_running)),
      ...pair("waiting", count(worker.num_waiting)),
      ...pair("for others", count(worker.num_prefills)),
      ...pair("tokens/s", count(rate)),
    ),
    meter("KV blocks in use", worker.kv_usage),
  );
}

function pair(name, value) {
  return [el("div", {}, el("dt", {}, name), el("dd", {}, value))];
}

/** A named bar for a share from 0 to 1. */
export function meter(name, share, note = percent(share)) {
  const fill = el("div", { class: "meter-fill" });
  fill.style.width = `${Math.min(100, 100 * share)}%`;
  return el(
    "div",
    { role: "meter", aria: { label: name, valuenow: Math.round(100 * share), valuemin: 0,
      valuemax: 100 } },
    el("div", { class: "meter-name" }, el("span", {}, name), el("span", {}, note)),
    el("div", { class: "meter" }, fill),
  );
}

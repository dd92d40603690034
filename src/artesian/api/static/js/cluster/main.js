// The cluster page: asks twice a second while it is visible, and draws what it is told.

import { Api } from "../api.js";
import { byId, el } from "../dom.js";
import { icon } from "../icons.js";
import { isDark, onThemeChange, toggleTheme } from "../theme.js";
import { figures } from "./figures.js";
import { bytes } from "./format.js";
import { Rates } from "./rates.js";
import { requestLines } from "./requests_view.js";
import { meter, workerCards } from "./workers_view.js";

const INTERVAL_MS = 500;
const TIMEOUT_MS = 5000;
const NUM_REQUESTS = 20;

// Where the chat page of this tab keeps it.
const KEY = "artesian.api-key";

const api = new Api(() => sessionStorage.getItem(KEY) ?? "");
const rates = new Rates();

async function ask(path) {
  const response = await api.request(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  return response.json();
}

function draw(cluster, traces, nowMs) {
  const perWorker = new Map();
  const names = new Set(["bytes"]);
  for (const worker of cluster.workers) {
    const name = `${worker.id}.${worker.generation}`;
    names.add(name);
    perWorker.set(worker, rates.note(name, worker.generation_tokens, nowMs));
  }
  const transferred = rates.note("bytes", cluster.handovers.num_bytes, nowMs);
  rates.keep(names);
  const tokens = [...perWorker.values()].reduce((total, rate) => total + rate, 0);
  byId("cluster-title").textContent = cluster.name ? `Cluster ${cluster.name}` : "Cluster";
  byId("figures").replaceChildren(...figures(cluster, { tokens, bytes: transferred }));
  byId("workers").replaceChildren(...workerCards(cluster.workers, (w) => perWorker.get(w)));
  drawPool(cluster);
  const lines = requestLines(traces);
  const empty = el("p", { class: "empty" }, "No requests yet.");
  byId("requests").replaceChildren(...(lines.length ? lines : [empty]));
}

function drawPool(cluster) {
  const section = byId("pool-section");
  section.hidden = !cluster.pool;
  if (section.hidden) return;
  const capacity = cluster.pool_capacity_bytes;
  const used = cluster.pool_used_bytes;
  const nodes = cluster.pool_nodes.map((node) =>
    el(
      "span",
      { class: "node", data: { state: node.state } },
      `node ${node.number} ${node.state}, ${bytes(node.size_bytes)}`,
    ),
  );
  byId("pool").replaceChildren(
    meter(cluster.pool, capacity ? used / capacity : 0, `${bytes(used)} of ${bytes(capacity)}`),
    el("div", { class: "nodes" }, ...nodes),
  );
}

function say(state, text, trouble = "") {
  const liveness = byId("liveness");
  if (liveness.dataset.state !== state) {
    liveness.dataset.state = state;
    liveness.textContent = text;
  }
  byId("trouble").hidden = !trouble;
  byId("trouble").textContent = trouble;
}

async function look() {
  try {
    const [cluster, traces] = await Promise.all([
      ask("cluster"),
      ask(`traces?limit=${NUM_REQUESTS}`),
    ]);
    draw(cluster, traces.data, performance.now());
    say("live", "live");
  } catch (error) {
    const hint = error.status === 401 ? " Give the API key in the chat page's settings, then come here from there." : "";
    say("lost", "not connected", `${error.message}${hint}`);
  }
}

async function watch() {
  for (;;) {
    if (!document.hidden) await look();
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}

function startTheme() {
  const button = byId("toggle-theme");
  const show = () => button.replaceChildren(icon(isDark() ? "sun" : "moon"));
  button.addEventListener("click", () => {
    toggleTheme();
    show();
  });
  onThemeChange(show);
  show();
}

startTheme();
watch();

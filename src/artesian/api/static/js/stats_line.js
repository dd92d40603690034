// The line under an answer: speed, first token, prompt and how much of it the cache held, ending.

import { el } from "./dom.js";

const WHOLE = new Intl.NumberFormat();
const FINE = new Intl.NumberFormat(undefined, {
  maximumFractionDigits: 1,
  minimumFractionDigits: 1,
});

const ENDINGS = {
  stop: "finished",
  length: "cut at the longest answer",
};

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${FINE.format(ms / 1000)} s`;
}

function item(name, title, ...children) {
  return el("span", { class: "stat", title, data: { stat: name } }, ...children);
}

function number(value) {
  return el("b", { text: value });
}

function ending(answer) {
  if (answer.state === "stopped") return "stopped by you";
  if (answer.state === "failed") return "broken off";
  return ENDINGS[answer.finishReason] ?? answer.finishReason ?? "";
}

function cachedItem({ promptTokens, cachedTokens }) {
  const share = promptTokens ? cachedTokens / promptTokens : 0;
  const bar = el("span", { class: "gauge-level" });
  bar.style.width = `${Math.round(100 * Math.min(1, share))}%`;
  const node = item(
    "cached",
    `${cachedTokens} of ${promptTokens} prompt tokens came from the cache, not computed again`,
    el("span", { class: "gauge", aria: { hidden: "true" } }, bar),
    number(WHOLE.format(cachedTokens)),
    " cached",
  );
  node.dataset.value = cachedTokens;
  return node;
}

/** Nodes of the line; none while the answer streams. */
export function statsLine(answer) {
  if (answer.state === "streaming") return [];
  const { stats } = answer;
  const nodes = [];
  if (stats) {
    const about = stats.estimated ? "≈ " : "";
    if (stats.tokensPerS !== null) {
      const rate = about + FINE.format(stats.tokensPerS);
      nodes.push(item("rate", "Tokens a second, after the first", number(rate), " tok/s"));
    }
    nodes.push(
      item(
        "ttft",
        "Time from sending to the first token",
        number(duration(stats.ttftMs)),
        " to first",
      ),
    );
    const length = about + WHOLE.format(stats.completionTokens);
    nodes.push(item("completion", "Tokens in this answer", number(length), " tokens"));
    if (stats.promptTokens !== null) {
      nodes.push(
        item("prompt", "Tokens of prompt", number(WHOLE.format(stats.promptTokens)), " prompt"),
      );
      nodes.push(cachedItem(stats));
    }
  }
  const words = ending(answer);
  if (words)
    nodes.push(item("finish", `finish_reason: ${answer.finishReason ?? answer.state}`, words));
  return nodes;
}

// The sampling settings: one table gives the sliders, their defaults and the request's fields.

import { readPreference, writePreference } from "./preferences.js";

/** `neutral` is the value that changes nothing; it is left out of the request. */
export const SAMPLING = [
  {
    name: "temperature",
    label: "Temperature",
    min: 0,
    max: 2,
    step: 0.05,
    initial: 0.7,
    hint: "0 always takes the likeliest word; higher is more varied.",
  },
  {
    name: "top_p",
    label: "Top p",
    min: 0.05,
    max: 1,
    step: 0.01,
    initial: 0.95,
    neutral: 1,
    hint: "Choose among the likeliest words that together reach this probability.",
  },
  {
    name: "top_k",
    label: "Top k",
    min: 0,
    max: 200,
    step: 1,
    initial: 40,
    neutral: 0,
    hint: "Choose among this many likeliest words; 0 is all.",
  },
  {
    name: "min_p",
    label: "Min p",
    min: 0,
    max: 0.5,
    step: 0.01,
    initial: 0,
    neutral: 0,
    hint: "Leave out words less likely than this share of the likeliest.",
  },
  {
    name: "repetition_penalty",
    label: "Repetition penalty",
    min: 1,
    max: 1.5,
    step: 0.01,
    initial: 1.05,
    neutral: 1,
    hint: "Above 1, words already used become less likely.",
  },
  {
    name: "max_tokens",
    label: "Longest answer",
    min: 16,
    max: 4096,
    step: 16,
    initial: 1024,
    hint: "The answer is cut after this many tokens.",
  },
];

function clamp(value, { min, max }) {
  return Math.min(max, Math.max(min, value));
}

export function initialSampling() {
  const values = { seed: null };
  for (const setting of SAMPLING) values[setting.name] = setting.initial;
  return values;
}

/** Reads stored values; what is missing or out of range takes its default or the nearest limit. */
export function loadSampling() {
  const values = initialSampling();
  let stored = {};
  try {
    stored = JSON.parse(readPreference("sampling") ?? "{}") ?? {};
  } catch {
    return values;
  }
  for (const setting of SAMPLING) {
    const value = stored[setting.name];
    if (Number.isFinite(value)) values[setting.name] = clamp(value, setting);
  }
  if (Number.isSafeInteger(stored.seed) && stored.seed >= 0) values.seed = stored.seed;
  return values;
}

export function saveSampling(values) {
  writePreference("sampling", JSON.stringify(values));
}

/** The request's sampling fields. */
export function samplingFields(values) {
  const fields = {};
  for (const { name, neutral } of SAMPLING) {
    if (values[name] !== neutral) fields[name] = values[name];
  }
  if (values.seed !== null) fields.seed = values.seed;
  return fields;
}

// What counters grow by per second, over the last seconds.

const WINDOW_MS = 3000;

export class Rates {
  constructor() {
    this.samples = new Map();
  }

  /** Notes a counter's value; returns its growth per second. A counter that fell began anew. */
  note(name, value, nowMs) {
    let samples = this.samples.get(name) ?? [];
    const last = samples.at(-1);
    if (last && value < last.value) samples = [];
    samples.push({ value, at: nowMs });
    // One that is older than the window stays, so that there is always a whole one.
    while (samples.length > 2 && samples[1].at <= nowMs - WINDOW_MS) samples.shift();
    this.samples.set(name, samples);
    const first = samples[0];
    const seconds = (nowMs - first.at) / 1000;
    return seconds > 0 ? (value - first.value) / seconds : 0;
  }

  /** Forgets all counters but these. */
  keep(names) {
    for (const name of this.samples.keys()) if (!names.has(name)) this.samples.delete(name);
  }
}

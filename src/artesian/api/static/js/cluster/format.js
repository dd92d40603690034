// Numbers for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1536 as "1.5 KiB". */
export function bytes(count) {
  let power = 0;
  let value = count;
  while (value >= 1024 && power < UNITS.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${value.toFixed(power && value < 100 ? 1 : 0)} ${UNITS[power]}`;
}

/** Milliseconds, as seconds where that is shorter. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

export function percent(part) {
  return `${Math.round(100 * part)} %`;
}

export function count(value) {
  return Math.round(value).toLocaleString("en");
}

// Small choices kept between visits; where storage is full or forbidden, for this visit.

const PREFIX = "artesian.";

/** The stored text, or null. */
export function readPreference(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/** Stores `text`; null forgets. */
export function writePreference(name, text) {
  try {
    if (text === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, text);
  } catch {
    // Nothing else depends on it being kept.
  }
}

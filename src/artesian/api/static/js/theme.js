// Light and dark: follows the system until the user picks the other one.

import { writePreference } from "./preferences.js";

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : systemDark.matches;
}

/** Flips the theme. Choosing what the system prefers anyway returns to following it. */
export function toggleTheme() {
  const wantDark = !isDark();
  const root = document.documentElement;
  if (wantDark === systemDark.matches) delete root.dataset.theme;
  else root.dataset.theme = wantDark ? "dark" : "light";
  writePreference("theme", root.dataset.theme ?? null);
}

export function onThemeChange(listener) {
  systemDark.addEventListener("change", listener);
}

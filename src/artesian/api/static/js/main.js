// Starts the page: the app, the theme button, the keyboard.

import { App } from "./app.js";
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { isDark, onThemeChange, toggleTheme } from "./theme.js";

function startThemeButton() {
  const button = byId("toggle-theme");
  const show = () => {
    const next = isDark() ? "light" : "dark";
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
    button.setAttribute("aria-label", `Switch to ${next}`);
    button.title = `Switch to ${next}`;
  };
  button.addEventListener("click", () => {
    toggleTheme();
    show();
  });
  onThemeChange(show);
  show();
}

function isTyping(target) {
  return (
    target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]")
  );
}

function startKeyboard(app) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const command = event.ctrlKey || event.metaKey;
    if (command && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      app.newChat();
    } else if (event.key === "Escape") {
      if (!app.drawers.closeOverlay()) app.stop();
    } else if (event.key === "/" && !command && !event.altKey && !isTyping(event.target)) {
      event.preventDefault();
      app.composer.focus();
    }
  });
}

const app = new App();
startThemeButton();
startKeyboard(app);
if (window.matchMedia("(hover: hover)").matches) app.composer.focus();

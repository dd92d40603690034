// The message box: Enter sends, Shift+Enter breaks the line, the button stops a running answer.

import { byId } from "./dom.js";
import { icon } from "./icons.js";

const MAX_HEIGHT_PX = 240;
const touchOnly = window.matchMedia("(hover: none) and (pointer: coarse)");

export class Composer {
  /** `onSend(text)`, `onStop()`. */
  constructor({ onSend, onStop }) {
    this.onSend = onSend;
    this.onStop = onStop;
    this.running = false;
    this.area = byId("composer-text");
    this.button = byId("composer-action");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.area.addEventListener("input", () => this.fit());
    this.area.addEventListener("keydown", (event) => this.onKey(event));
    this.setRunning(false);
  }

  onKey(event) {
    // A screen keyboard has no Shift+Enter at hand: there, Enter breaks the line.
    const sends =
      event.key === "Enter" && !event.shiftKey && !event.isComposing && !touchOnly.matches;
    if (!sends) return;
    event.preventDefault();
    if (!this.running) this.submit();
  }

  submit() {
    if (this.running) {
      this.onStop();
      return;
    }
    const text = this.area.value.trim();
    if (!text) return;
    this.setText("");
    this.onSend(text);
  }

  setText(text) {
    this.area.value = text;
    this.fit();
  }

  focus() {
    this.area.focus();
  }

  fit() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, MAX_HEIGHT_PX)}px`;
    this.showButton();
  }

  setRunning(running) {
    this.running = running;
    this.showButton();
  }

  showButton() {
    const label = this.running ? "Stop" : "Send";
    this.button.disabled = !this.running && !this.area.value.trim();
    if (this.button.getAttribute("aria-label") === label && this.button.firstChild) return;
    this.button.setAttribute("aria-label", label);
    this.button.title = label;
    this.button.classList.toggle("stop", this.running);
    this.button.replaceChildren(icon(this.running ? "stop" : "send"));
  }
}

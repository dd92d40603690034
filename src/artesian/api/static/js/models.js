// Which model answers: asks the server, shows a name, or a choice where there are several.

import { byId, el } from "./dom.js";
import { describeFailure } from "./failures.js";
import { readPreference, writePreference } from "./preferences.js";

const RETRY_MS = 3000;
const MAX_RETRIES = 40;
// Not reached, or still loading its model: likely to pass by itself.
const PASSING = [0, 503];

export class ModelPicker {
  /** `onProblem(failure)` is told once when the list of models cannot be had. */
  constructor(api, onProblem) {
    this.api = api;
    this.onProblem = onProblem;
    this.root = byId("model-picker");
    this.current = "";
    this.numRetries = 0;
    this.timer = 0;
  }

  /** The chosen model's name; connects first if that is still to do. Throws ApiError. */
  async name() {
    if (!this.current) await this.connect();
    return this.current;
  }

  async connect() {
    const cards = await this.api.models();
    clearTimeout(this.timer);
    this.numRetries = 0;
    this.show(cards.map((card) => card.id));
  }

  /** Connects, and again later where that may help. */
  async load() {
    try {
      await this.connect();
    } catch (error) {
      const failure = describeFailure(error);
      this.showOffline();
      if (this.numRetries === 0) this.onProblem(failure);
      if (PASSING.includes(failure.status) && this.numRetries < MAX_RETRIES) {
        this.numRetries += 1;
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.load(), RETRY_MS);
      }
    }
  }

  showOffline() {
    this.current = "";
    const button = el("button", {
      class: "model-name offline",
      type: "button",
      text: "not connected",
      title: "Connect again",
      onclick: () => this.load(),
    });
    this.root.replaceChildren(button);
  }

  show(names) {
    const remembered = readPreference("model");
    this.current = names.includes(remembered) ? remembered : (names[0] ?? "");
    if (names.length < 2) {
      this.root.replaceChildren(
        el("span", { class: "model-name", title: "Model", text: this.current || "no model" }),
      );
      return;
    }
    const select = el("select", { class: "model-name", aria: { label: "Model" } });
    select.append(...names.map((name) => new Option(name, name, false, name === this.current)));
    select.addEventListener("change", () => {
      this.current = select.value;
      writePreference("model", select.value);
    });
    this.root.replaceChildren(select);
  }
}

// Which model answers: asks the server, shows a name, or a choice where there are several.

import { byId, el } from "./dom.js";
import { describeFailure } from "./failures.js";
import { readPreference, writePreference } from "./preferences.js";

export class ModelPicker {
  /** `onProblem(failure)` is told when the list cannot be had. */
  constructor(api, onProblem) {
    this.api = api;
    this.onProblem = onProblem;
    this.root = byId("model-picker");
    this.current = "";
  }

  async load() {
    try {
      const cards = await this.api.models();
      this.show(cards.map((card) => card.id));
    } catch (error) {
      this.current = "";
      this.root.replaceChildren(
        el("button", {
          class: "model-name offline",
          type: "button",
          text: "not connected",
          title: "Connect again",
          onclick: () => this.load(),
        }),
      );
      this.onProblem(describeFailure(error));
    }
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

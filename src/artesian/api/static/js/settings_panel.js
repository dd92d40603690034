// The settings drawer: system prompt (of this conversation), sampling, API key.

import { byId, el } from "./dom.js";
import { icon } from "./icons.js";
import { SAMPLING, initialSampling } from "./sampling.js";

export class SettingsPanel {
  /** `actions`: onSystem(text), onSampling(values), onKey(key), onClose(). */
  constructor(actions, sampling, key) {
    this.actions = actions;
    this.values = { ...sampling };
    this.rows = new Map();
    this.system = el("textarea", {
      id: "system-prompt",
      rows: "4",
      placeholder: "You answer briefly and kindly.",
    });
    this.system.addEventListener("input", () => actions.onSystem(this.system.value));
    this.seed = el("input", {
      id: "seed",
      class: "number",
      type: "number",
      min: "0",
      step: "1",
      placeholder: "random",
      inputmode: "numeric",
    });
    this.seed.addEventListener("change", () => this.readSeed());
    byId("settings").append(
      this.head(),
      this.systemSection(),
      this.samplingSection(),
      this.keySection(key),
    );
    this.showValues();
  }

  head() {
    const close = el(
      "button",
      {
        class: "icon-button",
        type: "button",
        aria: { label: "Close settings" },
        onclick: this.actions.onClose,
      },
      icon("close"),
    );
    return el("div", { class: "settings-head" }, el("h2", { text: "Settings" }), close);
  }

  systemSection() {
    return el(
      "section",
      {},
      el("label", { class: "section-label", for: "system-prompt", text: "System prompt" }),
      this.system,
      el("p", { class: "hint", text: "For this conversation. New ones start with the same." }),
    );
  }

  samplingSection() {
    const reset = el("button", { class: "quiet-button", type: "button", text: "Reset" });
    reset.addEventListener("click", () => this.set(initialSampling()));
    return el(
      "section",
      { class: "sampling" },
      el(
        "div",
        { class: "section-row" },
        el("h3", { class: "section-label", text: "Sampling" }),
        reset,
      ),
      ...SAMPLING.map((setting) => this.row(setting)),
      el(
        "div",
        { class: "setting" },
        el("div", { class: "section-row" }, el("label", { for: "seed", text: "Seed" }), this.seed),
        el("p", { class: "hint", text: "The same seed and settings give the same answer." }),
      ),
    );
  }

  row({ name, label, min, max, step, hint }) {
    const limits = { min: String(min), max: String(max), step: String(step) };
    const id = `setting-${name}`;
    const number = el("input", {
      ...limits,
      id,
      class: "number",
      type: "number",
      inputmode: "decimal",
      aria: { describedby: `${id}-hint` },
    });
    const slider = el("input", { ...limits, type: "range", aria: { label } });
    const take = (source) => {
      const value = Number.parseFloat(source.value);
      const sound = Number.isFinite(value)
        ? Math.min(max, Math.max(min, value))
        : this.values[name];
      this.set({ ...this.values, [name]: sound });
    };
    slider.addEventListener("input", () => take(slider));
    number.addEventListener("change", () => take(number));
    this.rows.set(name, { number, slider });
    return el(
      "div",
      { class: "setting" },
      el("div", { class: "section-row" }, el("label", { for: id, text: label }), number),
      slider,
      el("p", { class: "hint", id: `${id}-hint`, text: hint }),
    );
  }

  readSeed() {
    const seed = Number.parseInt(this.seed.value, 10);
    this.set({ ...this.values, seed: Number.isSafeInteger(seed) && seed >= 0 ? seed : null });
  }

  set(values) {
    this.values = values;
    this.showValues();
    this.actions.onSampling(values);
  }

  showValues() {
    for (const { name, min, max } of SAMPLING) {
      const { number, slider } = this.rows.get(name);
      number.value = String(this.values[name]);
      slider.value = String(this.values[name]);
      slider.style.setProperty("--fill", `${(100 * (this.values[name] - min)) / (max - min)}%`);
    }
    this.seed.value = this.values.seed === null ? "" : String(this.values.seed);
  }

  keySection(key) {
    const input = el("input", {
      id: "api-key",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "none",
    });
    input.value = key;
    input.addEventListener("change", () => this.actions.onKey(input.value.trim()));
    this.keyInput = input;
    // A form of its own, so that password managers leave the rest of the page alone.
    return el(
      "form",
      { onsubmit: (event) => event.preventDefault() },
      el("label", { class: "section-label", for: "api-key", text: "API key" }),
      input,
      el("p", {
        class: "hint",
        text: "Only if the server asks for one. Forgotten when this tab closes.",
      }),
    );
  }

  showSystem(text) {
    if (this.system.value !== text) this.system.value = text;
  }

  focusKey() {
    this.keyInput.focus();
  }
}

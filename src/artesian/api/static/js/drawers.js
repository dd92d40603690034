// The two side panels: beside the conversation where there is room, over it on a small screen.

import { byId } from "./dom.js";
import { icon } from "./icons.js";

const wide = {
  sidebar: window.matchMedia("(min-width: 56rem)"),
  settings: window.matchMedia("(min-width: 76rem)"),
};

export class Drawers {
  constructor() {
    this.scrim = byId("scrim");
    this.open = { sidebar: wide.sidebar.matches, settings: false };
    for (const [name, iconName] of [
      ["sidebar", "menu"],
      ["settings", "sliders"],
    ]) {
      const toggle = byId(`toggle-${name}`);
      toggle.append(icon(iconName));
      toggle.addEventListener("click", () => this.set(name, !this.open[name]));
      wide[name].addEventListener("change", ({ matches }) =>
        this.set(name, name === "sidebar" && matches),
      );
    }
    this.scrim.addEventListener("click", () => this.closeOverlay());
    this.show();
  }

  set(name, isOpen) {
    const other = name === "sidebar" ? "settings" : "sidebar";
    if (isOpen && !wide[name].matches && !wide[other].matches) this.open[other] = false;
    const hadFocus = byId(name).contains(document.activeElement);
    this.open[name] = isOpen;
    this.show();
    if (!isOpen && hadFocus) byId(`toggle-${name}`).focus();
    if (isOpen && !wide[name].matches) byId(name).querySelector("button, input, textarea").focus();
  }

  show() {
    let overlay = false;
    for (const name of Object.keys(this.open)) {
      const isOpen = this.open[name];
      document.body.classList.toggle(`${name}-open`, isOpen);
      byId(name).inert = !isOpen;
      byId(`toggle-${name}`).setAttribute("aria-expanded", String(isOpen));
      if (isOpen && !wide[name].matches) overlay = true;
    }
    this.scrim.hidden = !overlay;
  }

  /** Closes whatever lies over the conversation; true if something did. */
  closeOverlay() {
    const over = Object.keys(this.open).filter((name) => this.open[name] && !wide[name].matches);
    for (const name of over) this.set(name, false);
    return over.length > 0;
  }
}

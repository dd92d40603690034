// What an empty conversation shows: the well, a line, and a few things to try.

import { el } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

const EXAMPLES = [
  ["Explain", "Why is the sky blue? Explain it to a curious ten-year-old."],
  ["Write", "Write a short poem about water rising from deep rock."],
  ["Compare", "Compare tea and coffee in a small table."],
  ["Code", "Write a Python function that reverses a string, with an example."],
];

// An artesian basin in section: bent strata, a bore through them, water above the ground.
const DRAWING = [
  ["aquifer", "M4 92c64 0 84 46 156 46s92-46 156-46v18c-64 0-84 46-156 46s-92-46-156-46z"],
  ["stratum", "M4 74c64 0 84 46 156 46s92-46 156-46"],
  ["ground", "M4 56c64 0 80 44 151 44M316 56c-64 0-80 44-151 44"],
  ["bore", "M155 100v44M165 100v44"],
  ["water", "M160 144V44"],
  ["water", "M160 44c-3-15-9-22-16-22s-14 12-17 30M160 44c3-15 9-22 16-22s14 12 17 30"],
  ["water", "M160 40c-4-24-14-34-26-34s-22 16-26 40M160 40c4-24 14-34 26-34s22 16 26 40"],
];

function drawing() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 320 160");
  svg.setAttribute("class", "well");
  svg.setAttribute("aria-hidden", "true");
  for (const [name, d] of DRAWING) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    path.setAttribute("class", name);
    svg.append(path);
  }
  return svg;
}

/** `onExample(text)` is called with the example the user picks. */
export function welcome(onExample) {
  const examples = EXAMPLES.map(([kind, text]) =>
    el(
      "button",
      { class: "example", type: "button", onclick: () => onExample(text) },
      el("span", { class: "example-kind", text: kind }),
      el("span", { text }),
    ),
  );
  return el(
    "section",
    { class: "welcome" },
    drawing(),
    el("h2", { text: "Draw from the well" }),
    el("p", { text: "Ask something, or begin with one of these." }),
    el("div", { class: "examples" }, ...examples),
  );
}

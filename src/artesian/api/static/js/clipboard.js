// Copies text, also where the asynchronous clipboard is missing (plain http on a local network).

import { el } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 1600;

async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = el("textarea", { class: "visually-hidden", aria: { hidden: "true" } });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser refused to copy");
}

/** A button that copies what `getText()` returns and says whether it did. */
export function copyButton(getText, label) {
  const button = el("button", {
    class: "icon-button small",
    type: "button",
    title: label,
    aria: { label },
  });
  button.append(icon("copy"));
  button.addEventListener("click", async () => {
    let done = "Copied";
    try {
      await copyText(getText());
    } catch {
      done = "Could not copy";
    }
    button.replaceChildren(icon(done === "Copied" ? "check" : "close"));
    button.setAttribute("aria-label", done);
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", label);
    }, SHOWN_MS);
  });
  return button;
}

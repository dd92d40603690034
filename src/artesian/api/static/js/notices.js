// Short notices above the message box, with at most one action each.

import { byId, el } from "./dom.js";

const SHOWN_MS = 8000;
const MAX_SHOWN = 3;

/** Shows `text`; a notice with the same text is replaced. `action` is {label, onAction}. */
export function notify(text, action = null) {
  const root = byId("notices");
  for (const old of root.children) {
    if (old.dataset.text === text) old.remove();
  }
  const notice = el("div", { class: "notice", data: { text } }, el("span", { text }));
  if (action) {
    notice.append(
      el("button", {
        class: "quiet-button",
        type: "button",
        text: action.label,
        onclick: () => {
          notice.remove();
          action.onAction();
        },
      }),
    );
  }
  root.append(notice);
  while (root.children.length > MAX_SHOWN) root.firstChild.remove();
  setTimeout(() => notice.remove(), SHOWN_MS);
}

// A failed answer's box: what happened, what the server said, and a way on.

import { el } from "./dom.js";

const TICK_MS = 1000;

/** `onRetry()` asks again; `onKey()` opens the API key field. */
export function failureView(failure, { onRetry, onKey }) {
  const retry = el("button", {
    class: "button",
    type: "button",
    text: "Try again",
    onclick: onRetry,
  });
  const actions = el("div", { class: "failure-actions" }, retry);
  if (failure.status === 401 || failure.status === 403) {
    actions.prepend(
      el("button", {
        class: "button primary",
        type: "button",
        text: "Enter API key",
        onclick: onKey,
      }),
    );
  }
  if (failure.retryAfterS > 0) countDown(retry, failure.retryAfterS);
  return el(
    "div",
    { class: "failure", role: "alert", data: { status: failure.status } },
    el("strong", { text: failure.title }),
    el("p", { text: failure.detail }),
    actions,
  );
}

/** Holds the button back for as long as the server asked, once: a shown-again failure is old. */
function countDown(button, seconds) {
  let left = seconds;
  const show = () => {
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
  };
  const timer = setInterval(() => {
    left -= 1;
    show();
    if (left <= 0) clearInterval(timer);
  }, TICK_MS);
  show();
}

// One message on the page: the user's (editable) or the model's (streams, shows its numbers).

import { copyButton } from "./clipboard.js";
import { el } from "./dom.js";
import { failureView } from "./failure_view.js";
import { icon } from "./icons.js";
import { MarkdownView } from "./markdown/index.js";
import { statsLine } from "./stats_line.js";

function actionButton(name, label, onclick) {
  return el(
    "button",
    {
      class: "icon-button small",
      type: "button",
      title: label,
      aria: { label },
      data: { action: name },
      onclick,
    },
    icon(name),
  );
}

export class UserMessage {
  /** `actions.onEdit(id, text)` replaces the message and asks again. */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.node = el("article", { class: "message user", data: { id: message.id } });
    this.show();
  }

  show() {
    this.node.replaceChildren(
      el("h2", { class: "visually-hidden", text: "You" }),
      el("div", { class: "bubble", text: this.message.content }),
      el(
        "div",
        { class: "message-actions" },
        actionButton("edit", "Edit and send again", () => this.edit()),
        copyButton(() => this.message.content, "Copy message"),
      ),
    );
  }

  edit() {
    const area = el("textarea", { rows: "3", aria: { label: "Edit message" } });
    area.value = this.message.content;
    const note = this.node.nextElementSibling?.nextElementSibling
      ? "The turns after this one will be replaced."
      : "";
    const form = el(
      "form",
      { class: "edit-form" },
      area,
      el("span", { class: "edit-note", text: note }),
      el("button", { class: "button", type: "button", text: "Cancel", onclick: () => this.show() }),
      el("button", { class: "button primary", type: "submit", text: "Send" }),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (area.value.trim()) this.actions.onEdit(this.message.id, area.value.trim());
    });
    area.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        this.show();
        this.node.querySelector("button").focus();
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.node.replaceChildren(form);
    area.style.height = `${area.scrollHeight}px`;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

export class AssistantMessage {
  /** `actions`: onRegenerate(id), onRetry(id), onKey(). */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.prose = el("div", { class: "prose" });
    this.markdown = new MarkdownView(this.prose);
    this.failure = el("div", { class: "failure-slot" });
    this.stats = el("div", { class: "stats" });
    this.buttons = el(
      "div",
      { class: "message-actions" },
      copyButton(() => this.message.content, "Copy answer"),
      actionButton("refresh", "Answer again", () => actions.onRegenerate(message.id)),
    );
    this.node = el(
      "article",
      { class: "message assistant", data: { id: message.id } },
      el("h2", { class: "visually-hidden", text: "Answer" }),
      this.prose,
      el("div", { class: "waiting", aria: { hidden: "true" } }, el("i"), el("i"), el("i")),
      this.failure,
      el("footer", { class: "message-foot" }, this.stats, this.buttons),
    );
    this.update();
  }

  update() {
    const { message, node } = this;
    const streaming = message.state === "streaming";
    node.dataset.state = message.state;
    node.classList.toggle("empty", !message.content);
    node.setAttribute("aria-busy", String(streaming));
    this.markdown.update(message.content);
    this.stats.replaceChildren(...statsLine(message));
    this.failure.replaceChildren();
    if (message.failure) {
      this.failure.append(
        failureView(message.failure, {
          onRetry: () => this.actions.onRetry(message.id),
          onKey: this.actions.onKey,
        }),
      );
    }
  }
}

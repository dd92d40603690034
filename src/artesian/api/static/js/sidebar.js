// The list of conversations: open, rename, export, delete (with undo).

import { byId, el } from "./dom.js";
import { icon } from "./icons.js";

const DAY_MS = 24 * 60 * 60 * 1000;

function ageGroup(updatedMs, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (updatedMs >= midnight) return "Today";
  if (updatedMs >= midnight - DAY_MS) return "Yesterday";
  return updatedMs >= midnight - 6 * DAY_MS ? "This week" : "Earlier";
}

export class Sidebar {
  /** `actions`: onNew, onOpen(id), onRename(id, title), onExport(id), onExportAll, onDelete(id). */
  constructor(actions) {
    this.actions = actions;
    this.renaming = false;
    this.list = byId("conversation-list");
    const fresh = byId("new-chat");
    fresh.append(icon("plus"), el("span", { text: "New chat" }));
    fresh.addEventListener("click", actions.onNew);
    byId("export-all").addEventListener("click", actions.onExportAll);
  }

  /** `running` is the set of ids whose answer is on its way. */
  show(conversations, currentId, running) {
    // The list is built again when the title is done; not under the user's fingers.
    if (this.renaming) return;
    const nodes = [];
    let group = "";
    for (const conversation of conversations) {
      const name = ageGroup(conversation.updatedMs, Date.now());
      if (name !== group) nodes.push(el("li", { class: "conversation-group", text: name }));
      group = name;
      nodes.push(
        this.item(conversation, conversation.id === currentId, running.has(conversation.id)),
      );
    }
    this.list.replaceChildren(...nodes);
    byId("export-all").disabled = conversations.length === 0;
  }

  item(conversation, isCurrent, isRunning) {
    const { id } = conversation;
    const { actions } = this;
    const title = conversation.title || "New chat";
    const open = el(
      "button",
      {
        class: "conversation-open",
        type: "button",
        title,
        aria: { current: isCurrent ? "page" : undefined },
        onclick: () => actions.onOpen(id),
      },
      title,
    );
    const button = (name, label, onclick) =>
      el(
        "button",
        {
          class: "icon-button small",
          type: "button",
          title: label,
          aria: { label: `${label}: ${title}` },
          onclick,
        },
        icon(name),
      );
    const item = el(
      "li",
      { class: "conversation", data: { id } },
      open,
      el(
        "span",
        { class: "conversation-actions" },
        button("edit", "Rename", () => this.rename(item, conversation)),
        button("download", "Export", () => actions.onExport(id)),
        button("trash", "Delete", () => actions.onDelete(id)),
      ),
    );
    item.classList.toggle("current", isCurrent);
    item.classList.toggle("running", isRunning);
    return item;
  }

  rename(item, conversation) {
    const input = el("input", { class: "rename", maxlength: "120", aria: { label: "Title" } });
    input.value = conversation.title;
    this.renaming = true;
    const finish = (keep) => {
      if (!this.renaming) return;
      this.renaming = false;
      const title = input.value.trim();
      this.actions.onRename(conversation.id, keep && title ? title : conversation.title);
    };
    input.addEventListener("blur", () => finish(true));
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.stopPropagation();
      finish(event.key === "Enter");
    });
    item.replaceChildren(input);
    input.focus();
    input.select();
  }
}

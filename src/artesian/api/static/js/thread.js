// The open conversation: its messages, or a welcome while it has none.

import { Autoscroll } from "./autoscroll.js";
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { AssistantMessage, UserMessage } from "./messages.js";
import { welcome } from "./welcome.js";

export class Thread {
  /** `actions`: onEdit, onRegenerate, onRetry, onKey, onExample. */
  constructor(actions) {
    this.actions = actions;
    this.root = byId("messages");
    this.views = new Map();
    this.frame = 0;
    this.dirty = new Set();
    const jump = byId("jump-latest");
    this.scroll = new Autoscroll(byId("thread"), this.root, (detached) => {
      jump.hidden = !detached;
    });
    jump.prepend(icon("down"));
    jump.addEventListener("click", () => this.scroll.jump());
  }

  show(conversation) {
    this.views.clear();
    const { messages } = conversation;
    const nodes = messages.map((message) => this.build(message));
    this.root.replaceChildren(...nodes);
    if (!messages.length) this.root.append(welcome(this.actions.onExample));
    this.scroll.jump();
  }

  build(message) {
    const View = message.role === "user" ? UserMessage : AssistantMessage;
    const view = new View(message, this.actions);
    this.views.set(message.id, view);
    return view.node;
  }

  append(message) {
    this.root.querySelector(".welcome")?.remove();
    this.root.append(this.build(message));
    this.scroll.jump();
  }

  /** Shows a changed answer at the next frame; many tokens can share one. */
  update(message) {
    if (!this.views.has(message.id)) return;
    this.dirty.add(message.id);
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    for (const id of this.dirty) this.views.get(id)?.update();
    this.dirty.clear();
  }
}

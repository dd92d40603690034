// The open conversation: its messages, or a welcome while it has none.

import { Autoscroll } from "./autoscroll.js";
import { byId } from "./dom.js";
import { icon } from "./icons.js";
import { AssistantMessage, UserMessage } from "./messages.js";
import { welcome } from "./welcome.js";

// Layout and painting cost more than a fast model's token, and the model may be computing on the
// same cores: sixteen times a second looks steady and leaves them to it.
const PAINT_EVERY_MS = 60;

export class Thread {
  /** `actions`: onEdit, onRegenerate, onRetry, onKey, onExample. */
  constructor(actions) {
    this.actions = actions;
    this.root = byId("messages");
    this.views = new Map();
    this.timer = 0;
    this.paintedMs = 0;
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

  /** Shows a changed answer: at once, or with the others of the next PAINT_EVERY_MS. */
  update(message) {
    if (!this.views.has(message.id)) return;
    this.dirty.add(message.id);
    if (this.timer) return;
    const waitMs = Math.max(0, this.paintedMs + PAINT_EVERY_MS - performance.now());
    this.timer = setTimeout(() => this.paint(), waitMs);
  }

  paint() {
    this.timer = 0;
    this.paintedMs = performance.now();
    for (const id of this.dirty) this.views.get(id)?.update();
    this.dirty.clear();
  }
}

// Conversations in localStorage, one key each, so that tabs do not overwrite one another's.

const PREFIX = "artesian.conversation.";
const TITLE_CHARS = 60;

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function titleFrom(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  return line.length > TITLE_CHARS
    ? `${line.slice(0, TITLE_CHARS - 1).trimEnd()}…`
    : line || "New chat";
}

export function newConversation(system = "") {
  const now = Date.now();
  return { id: newId(), title: "", system, createdMs: now, updatedMs: now, messages: [] };
}

/** Null unless `value` has a conversation's shape: storage can hold anything. */
function checked(value) {
  const sound =
    value &&
    typeof value.id === "string" &&
    typeof value.title === "string" &&
    Array.isArray(value.messages) &&
    value.messages.every(
      (message) =>
        typeof message?.content === "string" &&
        (message.role === "user" || message.role === "assistant"),
    );
  if (!sound) return null;
  value.system = typeof value.system === "string" ? value.system : "";
  value.updatedMs = Number(value.updatedMs) || 0;
  for (const message of value.messages) {
    message.id ??= newId();
    // Its page was closed in mid-answer: nothing is coming any more.
    if (message.state === "streaming") message.state = "stopped";
  }
  return value;
}

export class ConversationStore {
  /** `onFull(error)` is told when the browser refuses to keep more. */
  constructor(onFull) {
    this.onFull = onFull;
    this.byId = new Map();
    for (const key of storedKeys()) this.load(key);
  }

  load(key) {
    let conversation = null;
    try {
      conversation = checked(JSON.parse(localStorage.getItem(key)));
    } catch {
      return;
    }
    if (conversation) this.byId.set(conversation.id, conversation);
  }

  /** Newest first. */
  list() {
    return [...this.byId.values()].sort((a, b) => b.updatedMs - a.updatedMs);
  }

  get(id) {
    return this.byId.get(id) ?? null;
  }

  save(conversation) {
    this.byId.set(conversation.id, conversation);
    try {
      localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
    } catch (error) {
      this.onFull(error);
    }
  }

  remove(id) {
    this.byId.delete(id);
    try {
      localStorage.removeItem(PREFIX + id);
    } catch {
      // Forbidden storage holds nothing to remove.
    }
  }

  /** Calls `listener(id)` after another tab changed or removed a conversation. */
  onOtherTab(listener, isBusy) {
    window.addEventListener("storage", ({ key, newValue }) => {
      if (!key?.startsWith(PREFIX)) return;
      const id = key.slice(PREFIX.length);
      if (isBusy(id)) return;
      if (newValue === null) this.byId.delete(id);
      else this.load(key);
      listener(id);
    });
  }
}

function storedKeys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}

/** Downloads conversations as one JSON file. */
export function exportConversations(conversations, name) {
  const body = JSON.stringify(
    { format: "artesian-conversations", version: 1, conversations },
    null,
    2,
  );
  const url = URL.createObjectURL(new Blob([body], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${
    name
      .replace(/[^\p{L}\p{N}]+/gu, "-")
      .replace(/^-|-$/g, "")
      .slice(0, 60) || "conversation"
  }.json`;
  link.click();
  URL.revokeObjectURL(url);
}

// Ties the parts together: which conversation is open, which answers run, what a click does.

import { Api } from "./api.js";
import { newAnswer, runAnswer, turnsToSend } from "./answer.js";
import { Composer } from "./composer.js";
import {
  ConversationStore,
  exportConversations,
  newConversation,
  newId,
  titleFrom,
} from "./conversations.js";
import { announce, byId } from "./dom.js";
import { Drawers } from "./drawers.js";
import { ModelPicker } from "./models.js";
import { notify } from "./notices.js";
import { readPreference, writePreference } from "./preferences.js";
import { loadSampling, samplingFields, saveSampling } from "./sampling.js";
import { SettingsPanel } from "./settings_panel.js";
import { Sidebar } from "./sidebar.js";
import { Thread } from "./thread.js";

const KEY = "artesian.api-key";
const SAVE_EVERY_MS = 1000;

export class App {
  constructor() {
    this.running = new Map(); // conversation id -> AbortController
    this.sampling = loadSampling();
    this.key = sessionStorage.getItem(KEY) ?? "";
    this.api = new Api(() => this.key);
    this.store = new ConversationStore(() =>
      notify("The browser's storage is full. Export and delete a conversation to keep new ones."),
    );
    this.drawers = new Drawers();
    this.buildViews();
    this.store.onOtherTab(
      (id) => this.onOtherTab(id),
      (id) => this.running.has(id),
    );
    window.addEventListener("pagehide", () => this.saveRunning());
    this.open(this.store.list()[0] ?? this.fresh());
    this.models.load();
  }

  buildViews() {
    this.composer = new Composer({ onSend: (text) => this.send(text), onStop: () => this.stop() });
    this.thread = new Thread({
      onEdit: (id, text) => this.edit(id, text),
      onRegenerate: (id) => this.regenerate(id),
      onRetry: (id) => this.regenerate(id),
      onKey: () => this.askKey(),
      onExample: (text) => {
        this.send(text);
        this.composer.focus();
      },
    });
    this.sidebar = new Sidebar({
      onNew: () => this.newChat(),
      onOpen: (id) => this.openById(id),
      onRename: (id, title) => this.rename(id, title),
      onExport: (id) => this.export([this.store.get(id)]),
      onExportAll: () => this.export(this.store.list()),
      onDelete: (id) => this.remove(id),
    });
    this.settings = new SettingsPanel(
      {
        onSystem: (text) => this.setSystem(text),
        onSampling: (values) => this.setSampling(values),
        onKey: (key) => this.setKey(key),
        onClose: () => this.drawers.set("settings", false),
      },
      this.sampling,
      this.key,
    );
    this.models = new ModelPicker(this.api, (failure) => this.onModelProblem(failure));
  }

  // Conversations

  fresh() {
    return newConversation(readPreference("system") ?? "");
  }

  open(conversation) {
    this.current = conversation;
    this.thread.show(conversation);
    this.settings.showSystem(conversation.system);
    this.refresh();
  }

  openById(id) {
    this.open(this.store.get(id));
    if (this.drawers.closeOverlay()) return;
    this.composer.focus();
  }

  newChat() {
    if (this.current.messages.length) this.open(this.fresh());
    this.drawers.closeOverlay();
    this.composer.focus();
  }

  refresh() {
    const title = this.current.title || "New chat";
    byId("conversation-title").textContent = title;
    document.title = this.current.title ? `${title} · Artesian` : "Artesian";
    this.composer.setRunning(this.running.has(this.current.id));
    this.sidebar.show(this.store.list(), this.current.id, new Set(this.running.keys()));
  }

  rename(id, title) {
    const conversation = this.store.get(id);
    if (conversation.title !== title) {
      conversation.title = title;
      this.store.save(conversation);
    }
    this.refresh();
  }

  export(conversations) {
    const name = conversations.length === 1 ? conversations[0].title : "artesian-conversations";
    exportConversations(conversations, name);
  }

  remove(id) {
    const conversation = this.store.get(id);
    this.running.get(id)?.abort();
    this.store.remove(id);
    if (id === this.current.id) this.open(this.store.list()[0] ?? this.fresh());
    else this.refresh();
    notify(`Deleted “${conversation.title}”`, {
      label: "Undo",
      onAction: () => {
        this.store.save(conversation);
        this.open(conversation);
      },
    });
  }

  onOtherTab(id) {
    if (id !== this.current.id) this.refresh();
    else this.open(this.store.get(id) ?? this.store.list()[0] ?? this.fresh());
  }

  // Settings

  setSystem(text) {
    this.current.system = text;
    writePreference("system", text);
    if (this.current.messages.length) this.store.save(this.current);
  }

  setSampling(values) {
    this.sampling = values;
    saveSampling(values);
  }

  /** Takes the key, and asks again what failed for want of it. */
  async setKey(key) {
    this.key = key;
    sessionStorage.setItem(KEY, key);
    await this.models.load();
    const last = this.current.messages.at(-1);
    if (this.models.current && last?.failure?.status === 401) this.regenerate(last.id);
  }

  askKey() {
    this.drawers.set("settings", true);
    this.settings.focusKey();
  }

  onModelProblem({ status, title, detail }) {
    if (status === 401)
      notify("This server asks for an API key.", {
        label: "Enter it",
        onAction: () => this.askKey(),
      });
    else notify(`${title}. ${detail}`, { label: "Try again", onAction: () => this.models.load() });
  }

  // Turns

  send(text) {
    const { current } = this;
    if (this.running.has(current.id)) return;
    const message = { id: newId(), role: "user", content: text };
    current.messages.push(message);
    current.title ||= titleFrom(text);
    this.thread.append(message);
    this.answer();
  }

  edit(id, text) {
    const at = this.indexOf(id);
    this.stop();
    this.current.messages.splice(at);
    this.thread.show(this.current);
    this.send(text);
    this.composer.focus();
  }

  regenerate(id) {
    const at = this.indexOf(id);
    this.stop();
    this.current.messages.splice(at);
    this.thread.show(this.current);
    this.answer();
  }

  indexOf(id) {
    return this.current.messages.findIndex((message) => message.id === id);
  }

  stop() {
    this.running.get(this.current.id)?.abort();
    this.running.delete(this.current.id);
  }

  async answer() {
    const conversation = this.current;
    const controller = new AbortController();
    this.running.set(conversation.id, controller);
    const answer = newAnswer();
    const body = { messages: turnsToSend(conversation), ...samplingFields(this.sampling) };
    conversation.messages.push(answer);
    conversation.updatedMs = Date.now();
    this.store.save(conversation);
    if (conversation === this.current) this.thread.append(answer);
    this.refresh();
    announce("Answering");
    let savedMs = performance.now();
    await runAnswer({
      api: this.api,
      getModel: () => this.models.name(),
      body,
      answer,
      signal: controller.signal,
      onChange: () => {
        this.thread.update(answer);
        if (performance.now() - savedMs < SAVE_EVERY_MS) return;
        savedMs = performance.now();
        this.keep(conversation);
      },
    });
    if (this.running.get(conversation.id) === controller) this.running.delete(conversation.id);
    this.keep(conversation);
    this.refresh();
    announce(
      { done: "Answer complete", stopped: "Answer stopped", failed: "The answer failed" }[
        answer.state
      ],
    );
  }

  /** Saves, unless the conversation was deleted while its answer ran. */
  keep(conversation) {
    if (this.store.get(conversation.id) === conversation) this.store.save(conversation);
  }

  saveRunning() {
    for (const id of this.running.keys()) {
      const conversation = this.store.get(id);
      if (conversation) this.store.save(conversation);
    }
  }
}

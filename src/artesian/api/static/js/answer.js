// Runs one answer: sends the turns so far, grows the message, measures what it took.

import { ApiError } from "./api.js";
import { newId } from "./conversations.js";
import { describeFailure } from "./failures.js";

export function newAnswer() {
  return {
    id: newId(),
    role: "assistant",
    content: "",
    model: "",
    state: "streaming",
    stats: null,
    failure: null,
  };
}

/**
 * The turns to send. Empty answers (failed, stopped at once) are left out, and two user turns that
 * then touch are joined, because many chat templates insist on alternating roles.
 */
export function turnsToSend(conversation) {
  const turns = [];
  if (conversation.system.trim()) turns.push({ role: "system", content: conversation.system });
  for (const { role, content } of conversation.messages) {
    if (!content) continue;
    const last = turns.at(-1);
    if (last?.role === role) last.content += `\n\n${content}`;
    else turns.push({ role, content });
  }
  return turns;
}

/** Streams into `answer` and calls `onChange()` after each change. Never throws. */
export async function runAnswer({ api, getModel, body, answer, signal, onChange }) {
  const clock = { sentMs: performance.now(), firstMs: null, lastMs: null, numPieces: 0 };
  let usage = null;
  try {
    answer.model = await getModel();
    for await (const chunk of api.chat({ ...body, model: answer.model }, signal)) {
      usage = chunk.usage ?? usage;
      takeChoice(answer, chunk.choices?.[0], clock);
      onChange();
    }
    if (!answer.finishReason) throw new ApiError(0, "The answer ended without saying why.");
    answer.state = "done";
  } catch (error) {
    if (signal.aborted) answer.state = "stopped";
    else {
      answer.state = "failed";
      answer.failure = describeFailure(error);
    }
  }
  answer.stats = measure(clock, usage);
  onChange();
}

function takeChoice(answer, choice, clock) {
  if (choice?.finish_reason) answer.finishReason = choice.finish_reason;
  const text = choice?.delta?.content;
  if (!text) return;
  clock.lastMs = performance.now();
  clock.firstMs ??= clock.lastMs;
  clock.numPieces += 1;
  answer.content += text;
}

/**
 * {ttftMs, tokensPerS, completionTokens, promptTokens, cachedTokens, estimated} or null before the
 * first token. The rate leaves out the first token, whose time is the TTFT. A stopped answer has no
 * usage: its tokens are then counted in stream pieces, and `estimated` says so.
 */
function measure(clock, usage) {
  if (clock.firstMs === null) return null;
  const completionTokens = usage?.completion_tokens ?? clock.numPieces;
  const decodeS = (clock.lastMs - clock.firstMs) / 1000;
  return {
    ttftMs: clock.firstMs - clock.sentMs,
    tokensPerS: completionTokens > 1 && decodeS > 0 ? (completionTokens - 1) / decodeS : null,
    completionTokens,
    promptTokens: usage?.prompt_tokens ?? null,
    cachedTokens: usage ? (usage.prompt_tokens_details?.cached_tokens ?? 0) : null,
    estimated: !usage,
  };
}

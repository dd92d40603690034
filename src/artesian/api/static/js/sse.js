// Server-sent events from a fetch response: yields the text of each event's data.

const MAX_EVENT_CHARS = 4 * 1024 * 1024;

/**
 * Async generator over `stream` (a ReadableStream of bytes). Comments (": keep-alive") are skipped,
 * lines may end in LF, CRLF or CR, and a character split between two chunks is kept whole.
 */
export async function* readEvents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      pending += value ?? "";
      const lines = takeLines(pending, done);
      pending = lines.rest;
      for (const line of lines.complete) {
        if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      if (pending.length > MAX_EVENT_CHARS)
        throw new Error("the server sent an event without an end");
      if (done) break;
    }
    if (data.length) yield data.join("\n");
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Splits at line ends. A CR at the very end waits: an LF may follow in the next chunk. */
function takeLines(text, isLast) {
  const held = !isLast && text.endsWith("\r") ? "\r" : "";
  const parts = text.slice(0, text.length - held.length).split(/\r\n|\n|\r/);
  const rest = isLast ? "" : parts.pop() + held;
  return { complete: parts, rest };
}

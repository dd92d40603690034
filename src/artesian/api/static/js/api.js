// The server's OpenAI face: /v1/models and streamed /v1/chat/completions.

import { readEvents } from "./sse.js";

const MODELS_TIMEOUT_MS = 10_000;
const MAX_DETAIL_CHARS = 2000;

/** An answer the server refused or broke off. `status` is 0 when it could not be reached at all. */
export class ApiError extends Error {
  constructor(status, message, { retryAfterS = null, cause } = {}) {
    super(message, { cause });
    this.name = "ApiError";
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export class Api {
  /** `getKey()` returns the API key to send as a bearer token, or "". */
  constructor(getKey) {
    this.getKey = getKey;
    this.base = new URL("v1/", document.baseURI);
  }

  headers() {
    const key = this.getKey();
    return key ? { Authorization: `Bearer ${key}` } : {};
  }

  /** Model cards: [{id, max_model_len?}, ...]. Throws ApiError. */
  async models() {
    const response = await this.request("models", {
      signal: AbortSignal.timeout(MODELS_TIMEOUT_MS),
    });
    const list = await response.json().catch(() => null);
    if (!Array.isArray(list?.data))
      throw new ApiError(response.status, "The list of models is not in OpenAI's form.");
    return list.data;
  }

  /** Yields the chunks of a streamed chat completion. Throws ApiError; an abort passes through. */
  async *chat(body, signal) {
    const response = await this.request("chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
      signal,
    });
    try {
      for await (const data of readEvents(response.body)) {
        if (data === "[DONE]") return;
        yield parseChunk(data);
      }
    } catch (error) {
      if (signal.aborted || error instanceof ApiError) throw error;
      throw new ApiError(0, "The connection broke before the answer was complete.", {
        cause: error,
      });
    }
    throw new ApiError(0, "The connection closed before the answer was complete.");
  }

  async request(path, options) {
    let response;
    try {
      const headers = { ...options.headers, ...this.headers() };
      response = await fetch(new URL(path, this.base), { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      const reason =
        error.name === "TimeoutError" ? "It did not answer in time." : "It does not answer.";
      throw new ApiError(0, `The server at ${this.base.host} cannot be reached. ${reason}`, {
        cause: error,
      });
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

function parseChunk(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ApiError(0, `The server sent something that is not JSON: ${data.slice(0, 80)}`);
  }
  if (chunk.error)
    throw new ApiError(
      Number(chunk.error.code) || 500,
      chunk.error.message ?? "The answer broke off.",
    );
  return chunk;
}

async function refusal(response) {
  const text = (await response.text().catch(() => "")).slice(0, MAX_DETAIL_CHARS);
  let message = text;
  try {
    const body = JSON.parse(text);
    message = body.error?.message ?? body.detail ?? text;
  } catch {
    // A proxy's plain-text or HTML page: its text says more than nothing.
  }
  if (typeof message !== "string") message = JSON.stringify(message);
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const retryAfterS = Number.isFinite(retryAfter) ? retryAfter : null;
  return new ApiError(response.status, message || response.statusText, { retryAfterS });
}

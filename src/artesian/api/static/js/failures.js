// Words for what can go wrong: a title, what the server said, and what to do about it.

const TITLES = {
  0: "No connection",
  400: "The server could not use this request",
  401: "An API key is needed",
  403: "This API key is not allowed to do that",
  404: "Not found",
  413: "The conversation is too long",
  429: "The server is busy",
  503: "The server is not ready",
};

const MAX_RETRY_WAIT_S = 120;

/** A plain object that can be stored: {status, title, detail, retryAfterS}. */
export function describeFailure(error) {
  const status = Number.isInteger(error.status) ? error.status : -1;
  const title = TITLES[status] ?? (status >= 500 ? "The server failed" : "Something went wrong");
  const retryAfterS = error.retryAfterS
    ? Math.min(Math.ceil(error.retryAfterS), MAX_RETRY_WAIT_S)
    : 0;
  return { status, title, detail: error.message, retryAfterS };
}

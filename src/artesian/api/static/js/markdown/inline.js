// Inline markdown to a tree of plain objects: text, break, code, strong, em, del, link.
// Emphasis follows CommonMark's delimiter stack; HTML is text; links are http(s) only.

const PUNCTUATION = /[!-/:-@[-`{-~\p{P}\p{S}]/u;
const SPACE = /\s/;
const MAX_LABEL_CHARS = 1000;
const MAX_NESTED_LABELS = 4;

/** The address as an absolute http(s) URL, or null. */
export function safeUrl(address) {
  if (!/^https?:\/\//i.test(address)) return null;
  try {
    return new URL(address).href;
  } catch {
    return null;
  }
}

export function parseInline(source, depth = 0) {
  const scanner = { source, at: 0, nodes: [], delimiters: [], depth };
  while (scanner.at < source.length) step(scanner);
  closeEmphasis(scanner);
  return mergeText(scanner.nodes);
}

function step(scanner) {
  const char = scanner.source[scanner.at];
  const reader = READERS[char];
  if (reader?.(scanner)) return;
  pushText(scanner, char);
  scanner.at += 1;
}

const READERS = {
  "\\": readEscape,
  "`": readCode,
  "*": readDelimiter,
  _: readDelimiter,
  "~": readDelimiter,
  "[": readLink,
  "!": readImage,
  "<": readAngle,
  h: readBareUrl,
  "\n": readBreak,
};

function pushText(scanner, text) {
  const last = scanner.nodes.at(-1);
  if (last && last.kind === "text" && !last.delimiter) last.text += text;
  else scanner.nodes.push({ kind: "text", text });
}

function readEscape(scanner) {
  const next = scanner.source[scanner.at + 1];
  if (next === "\n") {
    scanner.at += 1;
    return true;
  }
  if (!next || !/[!-/:-@[-`{-~]/.test(next)) return false;
  pushText(scanner, next);
  scanner.at += 2;
  return true;
}

function readBreak(scanner) {
  const last = scanner.nodes.at(-1);
  if (last && last.kind === "text" && !last.delimiter) last.text = last.text.trimEnd();
  scanner.nodes.push({ kind: "break" });
  scanner.at += 1;
  return true;
}

function runLength(source, at) {
  let end = at;
  while (source[end] === source[at]) end += 1;
  return end - at;
}

function readCode(scanner) {
  const { source, at } = scanner;
  const length = runLength(source, at);
  let close = source.indexOf("`", at + length);
  while (close !== -1) {
    const closeLength = runLength(source, close);
    if (closeLength === length) {
      const inside = source.slice(at + length, close).replaceAll("\n", " ");
      const padded = /^ .*[^ ].* $/.test(inside);
      scanner.nodes.push({ kind: "code", text: padded ? inside.slice(1, -1) : inside });
      scanner.at = close + length;
      return true;
    }
    close = source.indexOf("`", close + closeLength);
  }
  pushText(scanner, source.slice(at, at + length));
  scanner.at += length;
  return true;
}

function readDelimiter(scanner) {
  const { source, at } = scanner;
  const char = source[at];
  const count = runLength(source, at);
  const before = source[at - 1] ?? " ";
  const after = source[at + count] ?? " ";
  const spaceAfter = SPACE.test(after);
  const spaceBefore = SPACE.test(before);
  const left = !spaceAfter && (!PUNCTUATION.test(after) || spaceBefore || PUNCTUATION.test(before));
  const right =
    !spaceBefore && (!PUNCTUATION.test(before) || spaceAfter || PUNCTUATION.test(after));
  const node = { kind: "text", text: source.slice(at, at + count), delimiter: true };
  scanner.nodes.push(node);
  scanner.at += count;
  if (char === "~" && count !== 2) return true;
  const word = char === "_";
  scanner.delimiters.push({
    char,
    count,
    node,
    canOpen: left && (!word || !right || PUNCTUATION.test(before)),
    canClose: right && (!word || !left || PUNCTUATION.test(after)),
  });
  return true;
}

function matchingBracket(source, at) {
  const limit = Math.min(source.length, at + MAX_LABEL_CHARS);
  let depth = 0;
  for (let i = at; i < limit; i += 1) {
    if (source[i] === "\\") i += 1;
    else if (source[i] === "[") depth += 1;
    else if (source[i] === "]") depth -= 1;
    if (depth === 0) return i;
  }
  return -1;
}

/** End of the address that starts at `at`: a space or an unbalanced ")". */
function addressEnd(source, at) {
  let depth = 0;
  for (let i = at; i < source.length; i += 1) {
    if (SPACE.test(source[i])) return i;
    if (source[i] === "(") depth += 1;
    if (source[i] === ")") depth -= 1;
    if (depth < 0) return i;
  }
  return -1;
}

function linkAt(scanner, at) {
  const { source } = scanner;
  const close = matchingBracket(source, at);
  if (close === -1 || source[close + 1] !== "(") return null;
  const end = addressEnd(source, close + 2);
  if (end === -1) return null;
  const title = /^\s+(?:"[^"\n]*"|'[^'\n]*')?\s*\)|^\)/.exec(
    source.slice(end, end + MAX_LABEL_CHARS),
  );
  if (!title) return null;
  const address = source.slice(close + 2, end).replace(/^<|>$/g, "");
  return { label: source.slice(at + 1, close), address, end: end + title[0].length };
}

function readLink(scanner) {
  const found = linkAt(scanner, scanner.at);
  if (!found || scanner.depth >= MAX_NESTED_LABELS) return false;
  const children = parseInline(found.label, scanner.depth + 1);
  const href = safeUrl(found.address);
  if (href) scanner.nodes.push({ kind: "link", href, children });
  else scanner.nodes.push(...children);
  scanner.at = found.end;
  return true;
}

/** Images become links: the page never loads anything from another site by itself. */
function readImage(scanner) {
  if (scanner.source[scanner.at + 1] !== "[") return false;
  const found = linkAt(scanner, scanner.at + 1);
  if (!found) return false;
  const href = safeUrl(found.address);
  const children = [{ kind: "text", text: found.label || found.address }];
  if (href) scanner.nodes.push({ kind: "link", href, children });
  else scanner.nodes.push(...children);
  scanner.at = found.end;
  return true;
}

function readAngle(scanner) {
  const rest = scanner.source.slice(scanner.at, scanner.at + MAX_LABEL_CHARS);
  const newline = /^<br\s?\/?>/i.exec(rest);
  if (newline) {
    scanner.nodes.push({ kind: "break" });
    scanner.at += newline[0].length;
    return true;
  }
  const address = /^<(https?:\/\/[^\s<>]+)>/i.exec(rest);
  const href = address && safeUrl(address[1]);
  if (!href) return false;
  scanner.nodes.push({ kind: "link", href, children: [{ kind: "text", text: address[1] }] });
  scanner.at += address[0].length;
  return true;
}

function readBareUrl(scanner) {
  const { source, at } = scanner;
  if (scanner.depth > 0 || /\w/.test(source[at - 1] ?? " ")) return false;
  const found = /^https?:\/\/[^\s<>"`]+/.exec(source.slice(at, at + 2 * MAX_LABEL_CHARS));
  if (!found) return false;
  let text = found[0].replace(/[.,;:!?'*_~\]]+$/, "");
  while (text.endsWith(")") && text.split(")").length > text.split("(").length)
    text = text.slice(0, -1);
  const href = safeUrl(text);
  if (!href) return false;
  scanner.nodes.push({ kind: "link", href, children: [{ kind: "text", text }] });
  scanner.at += text.length;
  return true;
}

function closeEmphasis(scanner) {
  const stack = [];
  for (const delimiter of scanner.delimiters) {
    while (delimiter.canClose && delimiter.count > 0) {
      const opener = findOpener(stack, delimiter);
      if (!opener) break;
      wrap(scanner, opener, delimiter);
      while (stack.length && stack.at(-1) !== opener) stack.pop();
      if (opener.count === 0) stack.pop();
    }
    if (delimiter.canOpen && delimiter.count > 0) stack.push(delimiter);
  }
}

function findOpener(stack, closer) {
  for (let i = stack.length - 1; i >= 0; i -= 1) {
    if (stack[i].char === closer.char) return stack[i];
  }
  return null;
}

function wrap(scanner, opener, closer) {
  const { nodes } = scanner;
  const width = Math.min(2, opener.count, closer.count);
  const from = nodes.indexOf(opener.node);
  const to = nodes.indexOf(closer.node, from + 1);
  const kind = closer.char === "~" ? "del" : width === 2 ? "strong" : "em";
  const children = mergeText(nodes.slice(from + 1, to));
  nodes.splice(from + 1, to - from - 1, { kind, children });
  for (const end of [opener, closer]) {
    end.count -= width;
    end.node.text = end.node.text.slice(width);
  }
}

/** Joins neighbouring texts and drops the delimiters that were used up. */
function mergeText(nodes) {
  const merged = [];
  for (const node of nodes) {
    const last = merged.at(-1);
    if (node.kind !== "text") merged.push(node);
    else if (!node.text) continue;
    else if (last?.kind === "text") last.text += node.text;
    else merged.push({ kind: "text", text: node.text });
  }
  return merged;
}

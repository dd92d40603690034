// Block structure of markdown: lines to a list of plain objects, each with its own `raw` source.
// Inline text stays a string here. Half-written input (a stream) gives its best reading so far.

import { isTableStart, readTable } from "./tables.js";

const MAX_DEPTH = 8;
const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*))?$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( {1,4})(?=\S)|(?= *$)|(?= {5}))/;

export function parseBlocks(source) {
  return parseLines(source.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"), 0);
}

function parseLines(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const found = readBlock(lines, at, depth);
    blocks.push({ ...found.block, raw: lines.slice(at, found.next).join("\n") });
    at = found.next;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const readers =
    depth < MAX_DEPTH
      ? [readFence, readHeading, readRule, readQuote, readList, readTable]
      : [readFence];
  for (const reader of readers) {
    const found = reader(lines, at, depth);
    if (found) return found;
  }
  return readParagraph(lines, at);
}

function readFence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const [, indent, marks, language] = open;
  const body = [];
  let next = at + 1;
  while (next < lines.length && !closesFence(lines[next], marks)) {
    body.push(lines[next].replace(new RegExp(`^ {0,${indent.length}}`), ""));
    next += 1;
  }
  return {
    block: { kind: "code", language, text: body.join("\n") },
    next: Math.min(next + 1, lines.length),
  };
}

function closesFence(line, marks) {
  const text = line.trim();
  return text.length >= marks.length && text === marks[0].repeat(text.length);
}

function readHeading(lines, at) {
  const found = HEADING.exec(lines[at]);
  if (!found) return null;
  let text = (found[2] ?? "").trim();
  if (text.endsWith("#")) text = text.replace(/#+$/, "").trimEnd();
  return { block: { kind: "heading", level: found[1].length, text }, next: at + 1 };
}

function readRule(lines, at) {
  return RULE.test(lines[at]) ? { block: { kind: "rule" }, next: at + 1 } : null;
}

function readQuote(lines, at, depth) {
  let next = at;
  while (next < lines.length && QUOTE.test(lines[next])) next += 1;
  if (next === at) return null;
  const inner = lines.slice(at, next).map((line) => line.replace(QUOTE, ""));
  return { block: { kind: "quote", blocks: parseLines(inner, depth + 1) }, next };
}

function itemAt(line) {
  const found = RULE.test(line) ? null : ITEM.exec(line);
  if (!found) return null;
  const [, indent, marker, gap] = found;
  const ordered = marker.length > 1;
  const family = ordered ? marker.at(-1) : "bullet";
  const width = indent.length + marker.length + (gap ? gap.length : 1);
  return {
    indent: indent.length,
    ordered,
    family,
    width,
    start: ordered ? parseInt(marker, 10) : 1,
  };
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

function readList(lines, at, depth) {
  const first = itemAt(lines[at]);
  if (!first) return null;
  const items = [];
  let next = at;
  let loose = false;
  while (next < lines.length) {
    const item = itemAt(lines[next]);
    if (!item || item.family !== first.family || item.indent > first.indent + 1) break;
    const end = itemEnd(lines, next, item);
    items.push(parseLines(itemLines(lines, next, end.text, item.width), depth + 1));
    if (end.next > end.text && itemAt(lines[end.next] ?? "")?.family === first.family) loose = true;
    next = end.next;
  }
  const { ordered, start } = first;
  return { block: { kind: "list", ordered, start, loose, items }, next };
}

/** Where an item ends: `text` is after its last line, `next` after the blanks that follow. */
function itemEnd(lines, at, item) {
  let text = at + 1;
  let next = at + 1;
  while (next < lines.length) {
    const line = lines[next];
    if (!line.trim()) {
      next += 1;
      continue;
    }
    const deeper = indentOf(line) >= item.indent + 2;
    const lazy = next === text && !itemAt(line) && !startsBlock(line);
    if (!deeper && !lazy) break;
    next += 1;
    text = next;
  }
  return { text, next };
}

function itemLines(lines, from, to, width) {
  const dedent = (line) => line.slice(Math.min(width, indentOf(line)));
  return [lines[from].slice(width), ...lines.slice(from + 1, to).map(dedent)];
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line);
}

function interruptsParagraph(lines, at) {
  const line = lines[at];
  if (!line.trim() || startsBlock(line) || isTableStart(lines, at)) return true;
  const item = itemAt(line);
  return Boolean(item) && item.start === 1;
}

function readParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && !interruptsParagraph(lines, next)) next += 1;
  const text = lines
    .slice(at, next)
    .map((line) => line.trimStart())
    .join("\n")
    .trimEnd();
  return { block: { kind: "paragraph", text }, next };
}

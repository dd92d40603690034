// Markdown trees to DOM nodes. Model text only ever becomes text nodes and checked http(s) links.

import { copyButton } from "../clipboard.js";
import { el } from "../dom.js";
import { parseInline } from "./inline.js";

const INLINE = {
  text: (node) => document.createTextNode(node.text),
  break: () => document.createElement("br"),
  code: (node) => el("code", { text: node.text }),
  strong: (node) => el("strong", {}, ...node.children.map(renderInline)),
  em: (node) => el("em", {}, ...node.children.map(renderInline)),
  del: (node) => el("del", {}, ...node.children.map(renderInline)),
  link: (node) =>
    el(
      "a",
      { href: node.href, target: "_blank", rel: "noopener noreferrer nofollow" },
      ...node.children.map(renderInline),
    ),
};

function renderInline(node) {
  return INLINE[node.kind](node);
}

function inline(text) {
  return parseInline(text).map(renderInline);
}

const BLOCK = {
  paragraph: (block) => el("p", {}, ...inline(block.text)),
  // Two levels down: the page's own headings stay above the model's.
  heading: (block) =>
    el(`h${Math.min(6, block.level + 2)}`, { data: { level: block.level } }, ...inline(block.text)),
  rule: () => el("hr"),
  quote: (block) => el("blockquote", {}, ...block.blocks.map(renderBlock)),
  code: renderCode,
  list: renderList,
  table: renderTable,
};

export function renderBlock(block) {
  return BLOCK[block.kind](block);
}

function renderCode(block) {
  return el(
    "figure",
    { class: "code-block" },
    el(
      "figcaption",
      {},
      el("span", { class: "code-language", text: block.language || "text" }),
      copyButton(() => block.text, "Copy code"),
    ),
    el("pre", { tabindex: "0" }, el("code", { text: block.text })),
  );
}

function renderList(block) {
  const items = block.items.map((blocks) => {
    const tight = !block.loose && blocks.filter((child) => child.kind === "paragraph").length === 1;
    const render = (child) =>
      tight && child.kind === "paragraph" ? inline(child.text) : [renderBlock(child)];
    return el("li", {}, ...blocks.flatMap(render));
  });
  if (!block.ordered) return el("ul", {}, ...items);
  return el("ol", { start: block.start === 1 ? undefined : String(block.start) }, ...items);
}

function renderTable(block) {
  const row = (cells, tag) =>
    el(
      "tr",
      {},
      ...cells.map((cell, column) =>
        el(
          tag,
          { class: `align-${block.align[column]}`, scope: tag === "th" ? "col" : undefined },
          ...inline(cell),
        ),
      ),
    );
  const table = el(
    "table",
    {},
    el("thead", {}, row(block.header, "th")),
    el("tbody", {}, ...block.rows.map((cells) => row(cells, "td"))),
  );
  return el(
    "div",
    { class: "table-scroll", tabindex: "0", role: "region", aria: { label: "Table" } },
    table,
  );
}

// Builds elements without ever parsing a string as HTML.

/**
 * el("button", {class: "x", onclick: f, aria: {label: "Go"}, data: {id: 1}}, ...children)
 * Children are nodes or strings; null and undefined are skipped.
 */
export function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "aria") setAll(node, "aria-", value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function setAll(node, prefix, values) {
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) node.setAttribute(prefix + name, value);
  }
}

export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no element with id "${id}"`);
  return node;
}

/** Tells screen readers something without showing it. */
export function announce(text) {
  byId("announcer").textContent = text;
}

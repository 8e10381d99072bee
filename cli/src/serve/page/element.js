// Elements: made with `h`, put in their place with `fill`. Everything that comes from the server goes in as text, never
// as markup, and what would not be seen of it is made visible.

const SVG_TAGS = new Set(["svg", "title", "g", "rect", "line", "path", "text"]);
// What a reader would not see, or what would turn the text around it: controls, marks, half characters.
const UNSEEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
// Attributes that people read.
const READ = new Set(["title", "aria-label"]);

export const $ = (id) => document.getElementById(id);

/** Text with all of it seen. */
function visible(text) {
  const named = (mark) => mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return String(text).replace(UNSEEN, (mark) => `‹U+${named(mark)}›`);
}

/** Makes an element. Attributes and children that are nothing are left out. */
export function h(tag, attributes, ...children) {
  const isSvg = SVG_TAGS.has(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    const isNothing = value === null || value === undefined || value === false;
    if (!isNothing) element.setAttribute(name, READ.has(name) ? visible(value) : value);
  }
  element.append(...nodes(children));
  return element;
}

const isSomething = (child) => child !== null && child !== undefined && child !== false && child !== "";
const nodes = (children) => children.flat(Infinity).filter(isSomething)
  .map((child) => (child instanceof Node ? child : new Text(visible(child))));

/**
 * Makes the children of an element equal to these. What is equal already stays the same node, so focus, selection and
 * scroll positions survive, and a screen reader is told of changes only. Children with a `data-key` are known by it,
 * wherever they stand.
 */
export function fill(parent, ...children) {
  const wanted = nodes(children);
  const present = new Set(parent.childNodes);
  const keyed = new Map([...present].filter(keyOf).map((node) => [keyOf(node), node]));
  let place = parent.firstChild;
  for (const node of wanted) {
    const old = keyOf(node) ? keyed.get(keyOf(node)) : place;
    if (!old || !present.has(old) || old.nodeName !== node.nodeName || keyOf(old) !== keyOf(node)) {
      parent.insertBefore(node, place);
      continue;
    }
    if (old === place) place = old.nextSibling;
    else parent.insertBefore(old, place);
    present.delete(old);
    if (!old.isEqualNode(node)) adopt(old, node);
  }
  present.forEach((node) => node.remove());
}

const keyOf = (node) => node.dataset?.key;

function adopt(old, node) {
  if (old.nodeType === Node.TEXT_NODE) {
    old.data = node.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's word.
    if (name !== "open" && !node.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of node.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  fill(old, [...node.childNodes]);
}

/** Sets attributes that differ, and takes away those that are null. */
export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
}

export const code = (...text) => h("code", null, text);

/** Terms with what is said of each. */
export function terms(...rows) {
  return h("dl", null, rows.filter(isSomething).map(([term, ...details]) => h("div", null,
    h("dt", null, term),
    details.flat().filter(isSomething).map((detail) => h("dd", null, detail)))));
}

/** A table. On a narrow screen its rows are stacked, each cell with the head of its column; the roles keep it a table. */
export function table(label, heads, rows) {
  const cell = (content, index) =>
    h("td", { role: "cell", "data-label": heads[index + 1] }, h("div", null, content));
  return h("table", { role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      heads.map((head) => h("th", { role: "columnheader", scope: "col" }, head)))),
    h("tbody", { role: "rowgroup" }, rows.map(([first, ...others]) => h("tr", { role: "row" },
      h("th", { role: "rowheader", scope: "row", "data-label": heads[0] }, h("div", null, first)), others.map(cell)))));
}

const MARKS = {
  good: "M3 8.5l3.5 3.5L13 4.5",
  wait: "M8 3.5v5l3 2M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13",
  alert: "M8 2v7M8 12.2v1.3",
  lost: "M4 4l8 8M12 4l-8 8",
  off: "M3.5 8h9",
  due: "M4 8h.01M8 8h.01M12 8h.01",
  unknown: "M5.5 5.5a2.5 2.5 0 1 1 3.6 2.2C8.3 8.1 8 8.7 8 9.6M8 12.6h.01",
};

/** A small mark beside words that say the same. */
export function mark(name) {
  return h("svg", { class: "glyph", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    MARKS[name] && h("path", { d: MARKS[name] }));
}

/** Gives a text to be saved as a file. */
export function savedAs(name, text, type) {
  return URL.createObjectURL(new File([text], name, { type }));
}

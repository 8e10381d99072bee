// Bars over days, drawn for the width that they have: scaling would scale the text.

import { fill, h } from "./element.js";
import { shortDay } from "./words.js";

const drawn = new Map();
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => draw(target)));

export function chart(parent, bars, label) {
  drawn.set(parent, { bars, label });
  resized.observe(parent);
  draw(parent);
}

export function legend(parent, entries) {
  fill(parent, entries.map(([number, label]) => h("li", null,
    h("svg", { width: 16, height: 16, "aria-hidden": "true" }, bar(number, 1, 1, 14, 14)), label)));
}

function bar(fill, x, y, width, height, title) {
  const look = { class: `mark ink-${fill}`, fill: `url(#fill-${fill})` };
  return h("rect", { ...look, x, y, width, height }, title && h("title", null, title));
}

function draw(parent) {
  const { bars, label } = drawn.get(parent);
  const width = Math.floor(parent.clientWidth);
  if (bars.length === 0 || width === 0) {
    if (bars.length === 0) fill(parent);
    return;
  }
  const [top, bottom, left, height] = [12, 24, 32, 160];
  const highest = Math.max(...bars.map((bar) => bar.marks.reduce((sum, { value }) => sum + value, 0)));
  const step = niceStep(highest / 4);
  const limit = Math.max(step, Math.ceil(highest / step) * step);
  const y = (value) => height - bottom - (value / limit) * (height - bottom - top);
  const slot = (width - left) / bars.length;
  const thickness = Math.max(2, Math.min(24, Math.floor(slot * 0.75)));
  const x = (index) => Math.round((left + index * slot + (slot - thickness) / 2) * 2) / 2;
  const grid = Array.from({ length: Math.round(limit / step) + 1 }, (_, index) => index * step).map((value) => [
    h("line", { class: value === 0 ? "axis" : "grid", x1: left, x2: width, y1: y(value), y2: y(value) }),
    h("text", { class: "tick", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value),
  ]);
  const marks = bars.map(({ marks }, index) => {
    let sum = 0;
    return marks.map(({ value, fill, title }) => {
      const from = y(sum);
      sum += value;
      // A gap of one pixel between what stands on each other.
      return bar(fill, x(index), y(sum), thickness, Math.max(1, from - y(sum) - 1), title);
    });
  });
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  fill(parent, h("svg", { class: "bars", ...size, role: "img", "aria-label": label },
    grid, days(bars, { x, thickness, left, width, height }), marks));
}

function days(bars, { x, thickness, left, width, height }) {
  let labelled = -Infinity;
  return bars.map(({ day }, index) => {
    const middle = x(index) + thickness / 2;
    if (middle - labelled < 64 || middle > width - 22 || middle < left + 18) return null;
    labelled = middle;
    return h("text", { class: "tick", x: middle, y: height - 6, "text-anchor": "middle" }, shortDay(day));
  });
}

/** 1, 2 or 5 times a power of ten, at least this much. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

// Times, sizes and lists in words.

import { h } from "./element.js";

export const DAY_SECONDS = 86400;
// The last second that RFC 3339 can write.
const END_OF_TIME = 253402300799;

export const now = () => Date.now() / 1000;
export const isKnown = (value) => value !== null && value !== undefined;

/** A damaged memory may hold any number. */
const iso8601 = (unix) => new Date(Math.min(Math.max(Number(unix) || 0, 0), END_OF_TIME) * 1000).toISOString();
export const isoDay = (unix) => iso8601(unix).slice(0, 10);

export function utc(unix) {
  if (!isKnown(unix)) return "never";
  const iso = iso8601(unix);
  return h("time", { datetime: iso }, `${iso.slice(0, 10)} ${iso.slice(11, 16)}`);
}

/** How far away it is, coarse, so that a poll changes nothing most of the time. */
export function distance(unix) {
  const seconds = now() - unix;
  if (Math.abs(seconds) < 60) return seconds < 0 ? "in less than a minute" : "less than a minute ago";
  return seconds < 0 ? `in ${age(-seconds)}` : `${age(seconds)} ago`;
}

export function age(seconds) {
  const steps = [[DAY_SECONDS, "day"], [3600, "hour"], [60, "minute"]];
  const [length, unit] = steps.find(([length]) => seconds >= length) ?? [0, ""];
  return length ? count(Math.floor(seconds / length), unit) : "less than a minute";
}

export function size(bytes) {
  if (bytes < 1024) return count(bytes, "byte");
  const power = Math.min(6, Math.floor(Math.log2(bytes) / 10));
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][power]}`;
}

/** The exact number, and what it comes to. */
export const exactSize = (bytes) => (bytes < 1024 ? size(bytes) : `${bytes} bytes (${size(bytes)})`);

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
export const list = (words) => new Intl.ListFormat("en-GB").format(words);

/** Text from elsewhere, ended as a sentence. */
export function sentence(text) {
  // The name of a file or an address stays as it is.
  const start = /^[a-z]+\b(?!\.\w|:\/\/|[-_/]\w)/.test(text) ? text[0].toUpperCase() : text.slice(0, 1);
  return `${start}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
export const shortDay = (day) => dayFormat.format(new Date(`${day}T00:00:00Z`));

// The history of reports: the last days as a strip, and every try that is remembered.

import { $, fill, h, mark, table } from "./element.js";
import { state } from "./state.js";
import { count, exactSize, list, sentence, shortDay, utc } from "./words.js";

// Each with a shape of its own, for those who do not see the colours.
const STATES = {
  delivered: { glyph: "good", words: "delivered", about: "delivered on its day" },
  late: { glyph: "wait", words: "late", about: "delivered on a later day" },
  waiting: { glyph: "alert", words: "waiting", about: "made, and still to be delivered" },
  missing: { glyph: "lost", words: "missing", about: "due, and neither delivered nor stored" },
  off: { glyph: "off", words: "off", about: "turned off" },
  due: { glyph: "due", words: "not made yet", about: "today's is not made yet" },
  unknown: { glyph: "unknown", words: "not known", about: "no report is known, nor whether one was due" },
  before: { glyph: "", words: "not in use", about: "before this state directory was first used" },
};

export function showHistory() {
  const { reports, problems } = state;
  fill($("history-failed"), problems.reports && `The history cannot be shown: ${problems.reports}`);
  $("history-body").hidden = !reports;
  if (!reports) return;
  const days = reports.days ?? [];
  const number = (name) => days.filter(({ state }) => state === name).length;
  const present = Object.keys(STATES).filter((name) => number(name) > 0);
  const counted = present.filter((name) => name !== "before" && name !== "due");
  fill($("history-about"), counted.length === 0
    ? `No report within the last ${count(days.length, "day")}.`
    : `The last ${count(days.length, "day")}: ${list(counted.map((name) => `${number(name)} ${STATES[name].words}`))}.`);
  fill($("history-days"), days.map(dayCell));
  fill($("history-legend"), present.map((name) => h("li", null,
    h("span", { class: `day ${name}` }, mark(STATES[name].glyph)), `${STATES[name].about}: ${number(name)}`)));
  showTries();
}

function dayCell({ day, state }, index) {
  const { glyph, words } = STATES[state] ?? { glyph: "unknown", words: String(state) };
  const [number, month] = shortDay(day).split(" ");
  const isNamed = index === 0 || number === "1";
  return h("li", { title: `${day}: ${words}` },
    h("span", { class: `day ${STATES[state] ? state : "unknown"}` }, mark(glyph)),
    h("span", { class: "date", "aria-hidden": "true" }, number, isNamed && h("span", { class: "month" }, month)),
    h("span", { class: "unseen" }, `${shortDay(day)}: ${words}`));
}

function showTries() {
  const { tries, kept } = state.reports;
  $("history-details").hidden = tries.length === 0;
  const plain = kept.length === 0 ? "" : ` ${count(kept.length, "plaintext is", "plaintexts are")} kept in sent/.`;
  fill($("history-tries-about"),
    `The last ${count(tries.length, "try", "tries")}. Bytes are those of the sealed report.${plain}`);
  fill($("history-table"), tries.length > 0 && table("Tries to deliver reports",
    ["Time", "Report of", "Result", "Bytes", "To", "Proxy"],
    tries.toReversed().map((one) => [
      utc(one.at), one.day, sentence(one.result), exactSize(one.bytes), one.url, one.proxy ?? "none"])));
}

// Crashes: each report as it is sent, and how many there were of which ending.

import { chart, legend } from "./chart.js";
import { $, fill, h, table } from "./element.js";
import { SWITCHES, state } from "./state.js";
import { DAY_SECONDS, count, isoDay, list, now, utc } from "./words.js";

const DAYS = 30;
const MORE = 50;
// Each ending keeps its look, whatever else there is.
const ENDINGS = ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS", "exit code", "other"];

// How many are listed, and which of them the reader has opened or closed.
const listed = { most: MORE, open: new Map() };

const timeOf = (event) => Math.floor(Date.parse(event?.timestamp) / 1000) || 0;
const endingIn = (event) => event?.exception?.values?.[0]?.value;

/** All that are known, the latest first. */
function crashReports() {
  const { waiting, sent } = state.crashes;
  const marked = (events, where) => events.map((one) => ({ ...one, where }));
  return [...marked(sent, "sent"), ...marked(waiting, "waiting")].sort((a, b) => timeOf(b.event) - timeOf(a.event));
}

export function showCrashState() {
  const { crashes, switches, problems } = state;
  fill($("crash-about"),
    !switches.crash_reports.on &&
      h("p", { class: "notice plain" }, `${SWITCHES.crash_reports} is off: nothing is sent.`),
    h("p", null, "One event for each process that died, exactly as it is sent: no memory, stack, modules, ",
      "environment, arguments, host name or user."),
    problems.crashes && h("p", { class: "failed" }, `They cannot be shown: ${problems.crashes}`),
    crashes && crashes.waiting.length + crashes.sent.length === 0 && h("p", null, "No crash was reported yet."),
    crashes?.held_back > 0 && h("p", null,
      `${crashes.held_back} more like these ${crashes.held_back === 1 ? "was" : "were"} not sent: `,
      "at most five of one kind are, within an hour."));
}

export function showCrashReports() {
  showCrashState();
  if (!state.crashes) return;
  const all = crashReports();
  const isOpen = (one, index) => listed.open.get(one.id) ?? index === 0;
  fill($("crash-list"), all.slice(0, listed.most).map((one, index) => h("li", { "data-key": `${one.where} ${one.id}` },
    h("details", { "data-crash": one.id, open: isOpen(one, index) ? "" : null },
      h("summary", null, h("span", { class: "when" }, utc(timeOf(one.event)), ` · ${one.where}`), " ",
        h("span", { class: "what" }, String(endingIn(one.event) ?? "cannot be read"))),
      h("pre", { class: "raw whole" }, isOpen(one, index) && JSON.stringify(one.event, null, 2))))));
  $("crash-more").hidden = all.length <= listed.most;
  fill($("crash-more"), `Show ${Math.min(MORE, all.length - listed.most)} more of ${all.length}`);
}

/** Lets reports be opened, and more of them be listed. */
export function operateCrashes() {
  // An event that says that details were opened does not rise.
  $("crash-list").addEventListener("toggle", ({ target }) => {
    listed.open.set(target.dataset.crash, target.open);
    showCrashReports();
  }, true);
  $("crash-more").addEventListener("click", () => {
    const before = listed.most;
    listed.most += MORE;
    showCrashReports();
    $("crash-list").children[before]?.querySelector("summary").focus();
  });
}

function endingOf(event) {
  const tags = event?.tags ?? {};
  if (ENDINGS.includes(tags.signal)) return tags.signal;
  return tags.signal === "none" ? "exit code" : "other";
}

export function showCrashes() {
  const { crashes, problems } = state;
  $("crashes-body").hidden = !crashes;
  fill($("crashes-failed"), problems.crashes && `Crashes cannot be shown: ${problems.crashes}`);
  if (!crashes) return;
  const today = Math.floor(now() / DAY_SECONDS) * DAY_SECONDS;
  const days = Array.from({ length: DAYS }, (_, index) => isoDay(today - (DAYS - 1 - index) * DAY_SECONDS));
  const all = crashReports().map(({ event }) => ({ day: isoDay(timeOf(event)), ending: endingOf(event) }));
  const recent = all.filter(({ day }) => days.includes(day));
  const number = (day, ending) => recent.filter((one) => one.day === day && one.ending === ending).length;
  const bars = days.map((day) => ({
    day,
    marks: ENDINGS.map((ending, index) => ({ value: number(day, ending), fill: index + 1, ending }))
      .filter(({ value }) => value > 0)
      .map(({ value, fill, ending }) => ({ value, fill, title: `${day}: ${value} × ${ending}` })),
  }));
  const totals = ENDINGS
    .map((ending, index) => ({ ending, fill: index + 1, total: recent.filter((one) => one.ending === ending).length }))
    .filter(({ total }) => total > 0);
  const parts = list(totals.map(({ ending, total }) => `${total} × ${ending}`));
  const summary = recent.length === 0
    ? `No crash within the last ${DAYS} days.`
    : `${count(recent.length, "crash", "crashes")} within the last ${DAYS} days: ${parts}.`;
  const older = all.length - recent.length;
  fill($("crashes-about"), `${summary}${older > 0 ? ` ${older} of other days not shown.` : ""}`);
  $("crashes-details").hidden = recent.length === 0;
  chart($("crashes-chart"), recent.length === 0 ? [] : bars, `Crashes by day and ending. ${summary}`);
  legend($("crashes-legend"), totals.map(({ ending, fill, total }) => [fill, `${ending}: ${total}`]));
  fill($("crashes-table"), table("Crashes by day and ending", ["Day", ...totals.map(({ ending }) => ending)],
    days.toReversed().filter((day) => recent.some((one) => one.day === day))
      .map((day) => [day, ...totals.map(({ ending }) => number(day, ending))])));
}

// Where it goes: what the running processes say of themselves, what watches them, and what is left of those that ended.

import { $, code, fill, h, mark, table, terms } from "./element.js";
import { state } from "./state.js";
import { count, exactSize, isKnown, list, sentence, utc } from "./words.js";

const yesNo = (yes, no) => (value) => (value ? yes : no);
const withWhy = (why, words) => (value, settings) => [
  words[value] ?? String(value), settings[why] && `: ${settings[why]}`];
const host = (value) => (isKnown(value) ? code(value) : "not configured");
const keys = (what) => (value) => (value?.length > 0 ? value.map((key) => [code(key), " "]) : what);

/** What a process says of its settings: name, heading, and how a value is said. */
const SETTINGS = [
  ["report_host", "Daily reports go to", host],
  ["report_keys", "They are sealed for", keys("no key: nothing is sent")],
  ["sentry_host", "Crash reports go to", host],
  ["version_zone", "Versions are asked for in", host],
  ["version_keys", "Keys that sign answers", keys("none")],
  ["verifies_answers", "Answers", yesNo("are taken only with a valid signature",
    "are taken without a signature: anybody on the way may have written them")],
  ["seals_queries", "Queries", yesNo("are sealed: on the way only the version can be read", "can be read on the way")],
  ["monitor", "Crashes are seen by", withWhy("monitor_why", {
    running: "a crash monitor",
    supervisor: "exec, which started it",
    none: "nobody",
    "not installed": "nobody, as the crash handler is not installed",
  })],
  ["state_dir", "State directory", withWhy("state_dir_why", {
    own: "this one", subfolder: "a folder of its own in a directory of others", none: "none",
  })],
];

const settingsKnown = () => state.status.processes.filter((process) => process.settings);

/** The values of one setting, one for each that differs. */
export function said(name) {
  const values = settingsKnown().map((process) => process.settings[name]);
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
}

const named = ({ component, pid }) => `${component} (pid ${pid})`;

export function showProcesses() {
  const { status } = state;
  const known = settingsKnown();
  const { processes } = status;
  const differs = status.settings_differ ?? [];
  fill($("processes-about"), processes.length === 0
    ? "Where things would go is not known here: no process runs on this state directory that could say it."
    : known.length === 0
      ? "Where things go is not known here: the running processes are of a version that does not say it."
      : `By the word of ${known.length === 1 ? named(known[0]) : `${known.length} running processes`}.`);
  const headings = differs.map((name) => SETTINGS.find(([known]) => known === name)?.[1] ?? name.replaceAll("_", " "));
  fill($("processes-differ"), differs.length > 0 && [mark("alert"),
    h("p", null, `The running processes differ: ${list(headings.map((heading) => `“${heading}”`))}.`)]);
  fill($("processes-settings"), known.length > 0 && terms(...SETTINGS.map((setting) => settingRow(setting, known))));
  fill($("processes-list"), processes.length > 0 && [
    h("h3", null, "Running processes"),
    table("Running processes", ["Process", "Version", "Since", "Remarks"], processes.map((process) => [
      named(process), process.version, utc(process.at), remarks(process)]))]);
  showEndings();
}

function settingRow([name, heading, words], known) {
  const values = said(name);
  if (values.length === 1) return [heading, words(values[0], known[0].settings)];
  return [heading, known.map((process) => [h("span", { class: "quiet" }, `${named(process)}: `),
    words(process.settings[name], process.settings)]).map((parts) => h("span", { class: "one" }, parts))];
}

function remarks(process) {
  const remarks = [
    !process.is_seen && "in another container: whether it still runs cannot be seen",
    !process.settings && "does not say its settings",
    ...Object.entries(process.off_by).filter(([, sources]) => sources.length > 0)
      .map(([name, sources]) => `${name.replaceAll("_", " ")} off by ${list(sources)}`),
  ].filter(Boolean);
  return remarks.length > 0 ? sentence(remarks.join("; ")) : "none";
}

// ---------------------------------------------------------------- runs and core files

const WATCHED = {
  monitor: "watched by a crash monitor",
  supervisor: "started by exec, which watches it",
  supervised: "watched by exec",
};

function runState({ running, watched }) {
  if (!running) return "ended, and looked at when the next process starts";
  if (typeof watched === "string") return WATCHED[watched] ?? watched;
  return `no crash monitor: ${watched?.nobody ?? "not known why"}; reported when the next process starts`;
}

function showEndings() {
  const { crash_reports: crash } = state.status;
  const runs = crash.runs ?? [];
  const cores = crash.core_files ?? [];
  const last = crash.last_ending;
  fill($("runs"),
    runs.length > 0 && [h("h3", null, "Runs that are marked"),
      table("Runs that are marked", ["Run", "Version", "State"],
        runs.map((run) => [shortId(run.name), run.version, runState(run)]))],
    last && [h("h3", null, "The last ending that was reported"),
      h("p", null, `${last.component ?? "a process"}, `, utc(last.at))],
    cores.length > 0 && [h("h3", null, "Core files on this host"),
      h("p", { class: "quiet" }, `${count(cores.length, "file")}. They are never sent.`),
      table("Core files", ["File", "Component", "Signal", "Written", "Size"],
        cores.map((core) => [code(core.path), core.component, core.signal, utc(core.at), exactSize(core.bytes)]))]);
}

// ---------------------------------------------------------------- ids

// The ids that the reader has asked to see whole.
const whole = new Set();

/** An id by its first signs; the whole of it on demand, and in the clipboard then. */
export function shortId(id) {
  const text = String(id);
  if (text.length <= 16) return code(text);
  const isWhole = whole.has(text);
  return h("span", { class: "id" }, h("code", { title: text }, isWhole ? text : `${text.slice(0, 12)}…`), " ",
    h("button", { type: "button", class: "inline", "data-id": text, "aria-expanded": String(isWhole) },
      isWhole ? "shorten" : "copy", h("span", { class: "unseen" }, ` the id ${text.slice(0, 12)}…`)));
}

/** Lets ids be asked for; `again` shows them. */
export function offerIds(again) {
  document.addEventListener("click", ({ target }) => {
    const id = target.closest?.("[data-id]")?.dataset.id;
    if (!id) return;
    if (!whole.delete(id)) {
      whole.add(id);
      // Only where the browser trusts the connection is there a clipboard; the id can be selected without.
      navigator.clipboard?.writeText(id).catch(() => {});
    }
    again();
  });
}

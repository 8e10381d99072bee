// What is sent of a report: its fields as a table, and its exact bytes; for the last report, and for the one that would
// be made now.

import { $, code, fill, h, savedAs, setAttributes } from "./element.js";
import { sessionEnded } from "./login.js";
import { shortId } from "./processes.js";
import { Failure, ask, readStart } from "./server.js";
import { SWITCHES, state } from "./state.js";
import { count, exactSize, isKnown, sentence, size, utc } from "./words.js";

const RECORDS = 50;
const VALUE_SIGNS = 500;
// A process gathers in its own time.
const GATHER_MS = 120000;
const GROUPS = { nodes: "Node", volumes: "Volume" };

// ---------------------------------------------------------------- one report, shown

/** Shows a report in an element, as a table or as its bytes; gives the function that shows another one there. */
function reportView(parent, label) {
  const view = { report: null, lines: [], isBytes: false, record: { nodes: 0, volumes: 0 } };
  const buttons = ["As a table", "Exact bytes"].map((words, index) =>
    h("button", { type: "button", "data-bytes": index === 1 ? "true" : null }, words));
  const choice = h("div", { class: "views", role: "group", "aria-label": "How the report is shown" }, buttons);
  const fields = h("div", { class: "report" });
  const bytes = h("pre", { class: "raw", tabindex: "0", role: "region", "aria-label": `Exact bytes of ${label}` });
  parent.append(choice, fields, bytes);

  function draw() {
    const { report, isBytes } = view;
    parent.hidden = !report;
    for (const button of buttons) {
      setAttributes(button, { "aria-pressed": String(Boolean(button.dataset.bytes) === isBytes) });
    }
    fields.hidden = isBytes;
    bytes.hidden = !isBytes;
    fill(fields, report && fieldTable(view, label));
    // Up to a megabyte: only while it is looked at.
    fill(bytes, isBytes && report?.text);
  }
  choice.addEventListener("click", ({ target }) => {
    if (target.closest("button")) view.isBytes = Boolean(target.dataset.bytes);
    draw();
  });
  fields.addEventListener("change", ({ target }) => {
    view.record[target.name] = Number(target.value);
    draw();
  });
  return (report) => {
    if (report !== view.report) {
      Object.assign(view, { report, lines: report && parsedLines(report.text), record: { nodes: 0, volumes: 0 } });
    }
    draw();
  };
}

/** Whole lines of the report, null where it is something else. Numbers keep the digits that a double does not have. */
function parsedLines(text) {
  const canBeExact = (value, context) => typeof value === "number" && context?.source && JSON.rawJSON;
  const exact = (key, value, context) => (canBeExact(value, context) ? JSON.rawJSON(context.source) : value);
  try {
    // What comes after the last line break was cut off, or is nothing.
    const lines = text.split("\n").slice(0, -1).map((line) => JSON.parse(line, exact));
    return lines.every(isObject) ? lines : null;
  } catch {
    return null;
  }
}

const isRaw = (value) => Boolean(JSON.isRawJSON?.(value));
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value) && !isRaw(value);
const isNumber = (value) => typeof value === "number" || isRaw(value);

function fieldTable({ report, lines, record }, label) {
  if (!lines) return h("p", { class: "failed" }, "This report cannot be read as JSON lines; its bytes can be shown.");
  const [cluster, ...groups] = lines;
  if (!cluster) return h("p", null, "Not even the first line is within what is shown here.");
  const end = groups.find((group) => isObject(group.end))?.end;
  // The roles say that it is a table where a narrow screen has a name above its value.
  return h("table", { class: "fields", role: "table", "aria-label": `The fields of ${label}` },
    h("thead", { class: "unseen", role: "rowgroup" }, h("tr", { role: "row" },
      ["Field", "Value"].map((head) => h("th", { scope: "col", role: "columnheader" }, head)))),
    fieldGroup("The cluster", null, Object.entries(cluster)),
    Object.keys(GROUPS).map((name) => recordGroup(name, groups.map((group) => group[name]).filter(isObject), {
      total: end?.[name], isCut: report.isCut, chosen: record[name],
    })));
}

function fieldGroup(title, about, fields) {
  return h("tbody", { role: "rowgroup" },
    h("tr", { class: "group", role: "row" },
      h("th", { colspan: "2", scope: "rowgroup", role: "rowheader" }, h("span", null, title), about)),
    fields.map(([field, value]) => h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, fieldName(field)),
      h("td", { role: "cell" }, shown(value, field)))));
}

/** Row groups have a list for each field; one record of them is shown at a time. */
function recordGroup(name, groups, { total, isCut, chosen }) {
  const title = GROUPS[name];
  const fields = Object.keys(groups[0] ?? {});
  const values = (field) => groups.flatMap((group) => group[field] ?? []);
  const known = fields.length === 0 ? 0 : values(fields[0]).length;
  if (known === 0) {
    const none = isCut && !total ? "beyond what is shown here" : "none";
    return fieldGroup(`${title}s`, h("span", { class: "quiet" }, ` ${none}`), []);
  }
  const choices = Math.min(known, RECORDS);
  const of = isKnown(total) ? ` of ${JSON.stringify(total)}` : isCut ? " of those shown" : ` of ${known}`;
  const about = choices === 1 && known === 1 ? h("span", { class: "quiet" }, ` 1${of}`) : [" ",
    h("select", { name, "aria-label": `Which ${title.toLowerCase()} is shown` },
      Array.from({ length: choices }, (_, index) =>
        h("option", { value: index, selected: index === chosen ? "" : null }, index + 1))),
    h("span", { class: "paper quiet" }, chosen + 1),
    h("span", { class: "quiet" }, of, known > choices && `, the first ${choices} can be chosen`)];
  return fieldGroup(title, about, fields.map((field) => [field, values(field)[chosen]]));
}

/** The name of a field, which may be broken after each of its words. */
const fieldName = (field) => code(field.split(/(?<=_)/).map((word) => [word, h("wbr")]));

/** A value as it is sent; strings without their quotes, bytes also with a unit. */
function shown(value, field) {
  if (!isKnown(value)) return h("span", { class: "null" }, "null");
  if (isNumber(value)) {
    const digits = JSON.stringify(value);
    const isLarge = isBytes(field) && Number(digits) >= 1024;
    return [code(digits), isLarge && h("span", { class: "quiet" }, ` ${size(Number(digits))}`)];
  }
  if (isObject(value)) {
    const members = Object.entries(value);
    if (members.length === 0) return code("{}");
    return h("ul", { class: "members" }, members.map(([name, member]) =>
      h("li", null, code(cut(name), ": "), shown(member, field === "node_capacity" ? `${name}_bytes` : ""))));
  }
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (text === "") return h("span", { class: "null" }, "empty");
  const isCut = text.length > VALUE_SIGNS;
  return [code(cut(text)), isCut && h("span", { class: "quiet" }, ` ${text.length} signs; all are in the bytes`)];
}

const isBytes = (field) => field.endsWith("_bytes");
const cut = (text) => (text.length > VALUE_SIGNS ? `${text.slice(0, VALUE_SIGNS)}…` : text);

// ---------------------------------------------------------------- the last report

let showLast = () => {};

export function showReport() {
  const { report } = state;
  showReportState();
  showLast(report);
}

export function showReportState() {
  const { report, problems } = state;
  const off = !state.switches.daily_report.on && h("p", { class: "notice plain" },
    `${SWITCHES.daily_report} is off: nothing is sent.${report ? " This is the last report that was made." : ""}`);
  if (!report) {
    fill($("report-about"), off, problems.report
      ? h("p", { class: "failed" }, `The last report cannot be shown: ${problems.report}`)
      : h("p", null, "No report was made yet, or none is kept here."));
    return;
  }
  fill($("report-about"),
    off,
    h("p", null, "The last report that was made, before it is packed and sealed. These bytes and the report's id and ",
      "day are all that the vendor gets. Ids are anonymised."),
    h("p", null, report.total !== null && `${exactSize(report.total)}. `, nameInWords(report.name), " ",
      report.isCut && `The first 1 MiB of ${report.total === null ? "a longer report" : size(report.total)} is shown. `,
      h("a", { href: "/v1/report/preview", download: `${report.name}.jsonl` }, "Download it all")));
}

/** Its day and its id, where it is named by them. */
function nameInWords(name) {
  const [, day, id] = /^(\d{4}-\d\d-\d\d)-([0-9a-f]{32})$/.exec(name) ?? [];
  return id ? [`Report of ${day}, id `, shortId(id)] : code(name);
}

export async function readReport() {
  let [report, problem] = [null, null];
  if (state.reports.kept.length > 0) {
    try {
      const response = await ask("GET", "/v1/report/preview");
      const name = response.headers.get("Ondat-Telemetry-Report") ?? "report";
      report = { name, ...await readStart(response) };
    } catch (failure) {
      if (!(failure instanceof Failure) || failure.status === 401 || failure.status === 0) throw failure;
      // All copies may have gone meanwhile.
      if (failure.status !== 404) problem = sentence(failure.message);
    }
  }
  state.report = report;
  state.problems.report = problem;
  showReport();
}

// ---------------------------------------------------------------- the next report

const next = { isBusy: false, failed: "", report: null, url: "" };
let showNextReport = () => {};

/** Has a running process gather what it would send now. */
async function gather() {
  if (next.isBusy) return;
  Object.assign(next, { isBusy: true, failed: "" });
  showNext();
  try {
    const response = await ask("GET", "/v1/report/next", undefined, GATHER_MS);
    const id = response.headers.get("Ondat-Telemetry-Report");
    const sealed = Number(response.headers.get("Ondat-Telemetry-Sealed-Bytes")) || null;
    const report = { id, sealed, at: Date.now() / 1000, ...await readStart(response) };
    URL.revokeObjectURL(next.url);
    Object.assign(next, { report, url: savedAs(`${id ?? "next-report"}.jsonl`, report.text, "application/jsonl") });
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    if (failure.status === 401) sessionEnded();
    Object.assign(next, { failed: sentence(failure.message), report: null });
  } finally {
    next.isBusy = false;
    showNext();
  }
}

export function showNext() {
  const { isBusy, failed, report, url } = next;
  setAttributes($("gather"), { "aria-busy": isBusy ? "true" : null });
  fill($("gather"), isBusy ? "Gathering…" : report ? "Gather again" : "Gather now");
  fill($("next-failed"), failed && `${failed} Nothing was gathered.`);
  fill($("next-about"), report && [
    h("p", null, "Gathered ", utc(report.at), ". Nothing of it was sent or stored."),
    h("dl", null, [
      ["Report id", report.id ? shortId(report.id) : "not told"],
      ["Plain", report.total === null ? "longer than the 1 MiB that is shown" : exactSize(report.total)],
      ["Sealed, as it would be sent", report.sealed === null ? "not told" : exactSize(report.sealed)],
    ].map(([term, detail]) => h("div", null, h("dt", null, term), h("dd", null, detail)))),
    !report.isCut && h("p", null, h("a", { href: url, download: `${report.id ?? "next-report"}.jsonl` },
      `Save these ${count(report.total, "byte")}`)),
  ]);
  showNextReport(report);
}

export function operateReports() {
  showLast = reportView($("report-view"), "the last report");
  showNextReport = reportView($("next-view"), "the next report");
  $("gather").addEventListener("click", gather);
  showNext();
}

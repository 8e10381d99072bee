// The page of `ondat-telemetry serve`: it asks the server for one state, and shows what that says. Each part of it has a
// module of its own; what there is to know stands in state.js.

import { operateDiagnostics, showAbout, showNode } from "./about.js";
import { operateCrashes, showCrashReports, showCrashState, showCrashes } from "./crashes.js";
import { $, fill, setAttributes } from "./element.js";
import { showHistory } from "./history.js";
import { askForLogin, isOpen, sessionEnded, start } from "./login.js";
import { offerIds, showProcesses } from "./processes.js";
import { operateReports, readReport, showNext, showReport, showReportState } from "./report.js";
import { Failure, askJson } from "./server.js";
import { state } from "./state.js";
import { changesSoFar, operateSwitches, showSwitches } from "./switches.js";
import { showUpgrade, showVersion } from "./version.js";
import { sentence } from "./words.js";

const POLL_MS = 5000;
const LONGEST_PAUSE_MS = 60000;
// What changes seldom (tries, crashes) is asked for with every so many polls, and when the status has changed.
const POLLS_BETWEEN_LISTS = 6;

// ---------------------------------------------------------------- polling

let timer = 0;
let polls = 0;
let lastShape = "";

async function poll(isFirst = false) {
  clearTimeout(timer);
  if (!isOpen() || document.hidden) return;
  let pause = POLL_MS;
  try {
    const changesBefore = changesSoFar();
    const status = await askJson("GET", "/v1/status");
    state.status = status;
    if (changesBefore === changesSoFar() || !state.administrator) {
      state.administrator = status.administrator;
      state.switches = status.switches;
    }
    fill($("connection"));
    showStatus();
    if ($("page").hidden) showPage();
    const waiting = Object.values(status.spool).map((spool) => spool.items.map((item) => item.name));
    const shape = JSON.stringify([status.daily_report.last, status.crash_reports.runs, waiting]);
    if (isFirst || shape !== lastShape || ++polls % POLLS_BETWEEN_LISTS === 0) {
      await readLists();
      lastShape = shape;
    }
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    pause = Math.min(Math.max(POLL_MS, failure.after * 1000), LONGEST_PAUSE_MS);
    if (failure.status === 401) sessionEnded();
    else if ($("page").hidden) askForLogin(sentence(failure.message));
    else fill($("connection"), `${sentence(failure.message)} This is what was known before.`);
  } finally {
    clearTimeout(timer);
    timer = setTimeout(poll, pause);
  }
}

function showPage() {
  for (const id of ["page", "session", "sections"]) $(id).hidden = false;
  $("asking").hidden = true;
  $("title").focus({ preventScroll: true });
}

function showStatus() {
  showNode();
  showUpgrade();
  showSwitches();
  showReportState();
  showCrashState();
  showVersion();
  showProcesses();
  showAbout();
}

/** Each list by itself: one that cannot be read does not take the others with it. */
async function readLists() {
  await Promise.all([
    readList("reports", async () => {
      showHistory();
      if (state.reports) await readReport();
    }),
    readList("crashes", () => {
      showCrashes();
      showCrashReports();
    }),
  ]);
}

async function readList(name, show) {
  const before = JSON.stringify([state[name], state.problems[name]]);
  try {
    state[name] = await askJson("GET", `/v1/${name}`);
    state.problems[name] = null;
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.status === 401 || failure.status === 0) throw failure;
    state[name] = null;
    state.problems[name] = sentence(failure.message);
  }
  if (JSON.stringify([state[name], state.problems[name]]) !== before) await show();
}

// ---------------------------------------------------------------- tabs, sections and print

/** Tabs as the ARIA Authoring Practices have them: one stop for Tab, arrows between them. */
function chooseTab(tab) {
  for (const one of document.querySelectorAll("[role=tab]")) {
    const isChosen = one === tab;
    setAttributes(one, { "aria-selected": String(isChosen), tabindex: isChosen ? null : "-1" });
    $(one.getAttribute("aria-controls")).hidden = !isChosen;
  }
}

function onTabKey(event) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const index = tabs.indexOf(event.target);
  const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (index < 0 || next === undefined) return;
  event.preventDefault();
  const tab = tabs[(next + tabs.length) % tabs.length];
  chooseTab(tab);
  tab.focus();
}

/** A link to a section opens it, and the tab that it names. */
function follow({ target }) {
  const link = target.closest("a[href^='#']");
  if (!link) return;
  $(link.hash.slice(1))?.querySelector(":scope > details")?.setAttribute("open", "");
  if (link.dataset.tab) chooseTab($(link.dataset.tab));
}

// What the reader had left closed: it is opened for the paper.
let opened = [];

function openForPrint() {
  opened.push(...document.querySelectorAll("details.printed:not([open])"));
  opened.forEach((details) => (details.open = true));
}

function closeAfterPrint() {
  opened.forEach((details) => (details.open = false));
  opened = [];
}

const paper = matchMedia("print");
paper.addEventListener("change", () => (paper.matches ? openForPrint() : closeAfterPrint()));
addEventListener("beforeprint", openForPrint);
addEventListener("afterprint", closeAfterPrint);

for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => chooseTab(tab));
  tab.addEventListener("keydown", onTabKey);
}
document.addEventListener("click", follow);
document.addEventListener("visibilitychange", () => poll());
operateSwitches(() => poll());
operateReports();
operateCrashes();
operateDiagnostics();
offerIds(() => {
  showProcesses();
  showReport();
  showNext();
});
start((session) => {
  state.session = session;
  poll(true);
});

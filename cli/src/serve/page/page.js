// The page of `ondat-telemetry serve`: one state, plain functions that make elements out of it, and `fill`, which
// changes only what differs. Everything that comes from the server goes in as text, never as markup.

const POLL_MS = 5000;
// What changes seldom (tries, crashes) is asked for with every so many polls, and when the status has changed.
const POLLS_BETWEEN_LISTS = 6;
const ANSWER_MS = 15000;
const PREVIEW_BYTES = 1024 * 1024;
const PREVIEW_RECORDS = 50;
const DAY_SECONDS = 86400;
const CRASH_DAYS = 30;
// The last second that RFC 3339 can write.
const END_OF_TIME = 253402300799;

const ADMINISTRATOR = "the administrator (switches.json)";
// The product's words, in the product's order.
const SWITCHES = { daily_report: "Telemetry", crash_reports: "Crash reporting", version_check: "Version check" };
const VERDICTS = ["upgrade_required", "upgrade_recommended", "outdated", "unknown", "current"];

const session = { csrf: "", isOpen: false };
const state = {
  status: null,
  // The last that the server has confirmed: `administrator` is his own word, `switches` is what is true.
  administrator: null,
  switches: null,
  saving: {},
  said: {},
  failed: {},
  reports: null,
  crashes: null,
  report: null,
  chosenCrash: null,
};

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------- elements

const SVG_TAGS = new Set(["svg", "title", "g", "rect", "line", "path", "text"]);

/** Makes an element. Attributes and children that are nothing are left out. */
function h(tag, attributes, ...children) {
  const isSvg = SVG_TAGS.has(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (isSomething(value)) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter(isSomething));
  return element;
}

const isSomething = (child) => child !== null && child !== undefined && child !== false && child !== "";

/**
 * Makes the children of an element equal to these. What is equal already stays the same node, so focus, selection and
 * scroll positions survive, and a screen reader is told of changes only.
 */
function fill(parent, ...children) {
  const wanted = children.flat(Infinity).filter(isSomething);
  const present = [...parent.childNodes];
  wanted.forEach((child, index) => {
    const node = child instanceof Node ? child : document.createTextNode(child);
    const old = present[index];
    if (!old) parent.append(node);
    else if (old.nodeName !== node.nodeName) old.replaceWith(node);
    else if (!old.isEqualNode(node)) adopt(old, node);
  });
  present.slice(wanted.length).forEach((node) => node.remove());
}

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

/** Terms with what is said of each. */
function terms(...rows) {
  return h("dl", null, rows.filter(isSomething).map(([term, ...details]) => h("div", null,
    h("dt", null, term),
    details.flat().map((detail) => h("dd", null, detail)))));
}

function table(heads, rows, attributes) {
  return h("table", attributes,
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", null, rows.map(([first, ...others]) => h("tr", null,
      h("th", { scope: "row" }, first), others.map((content) => h("td", null, content))))));
}

/** Scrolls by itself where it is wider than the page, by the keyboard too. */
const scrolling = (label, content) =>
  h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);
const code = (...text) => h("code", null, text);

// ---------------------------------------------------------------- words and numbers

/** A damaged memory may hold any number. */
const iso8601 = (unix) => new Date(Math.min(Math.max(unix || 0, 0), END_OF_TIME) * 1000).toISOString();
const isoDay = (unix) => iso8601(unix).slice(0, 10);

function utc(unix) {
  if (unix === null || unix === undefined) return "never";
  const iso = iso8601(unix);
  return h("time", { datetime: iso }, `${iso.slice(0, 10)} ${iso.slice(11, 16)}`);
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${["", "KiB", "MiB", "GiB"][power]}`;
}


/** Coarse, so that a poll changes nothing most of the time. */
function age(seconds) {
  const steps = [[DAY_SECONDS, "day"], [3600, "hour"], [60, "minute"]];
  const [length, unit] = steps.find(([length]) => seconds >= length) ?? [0, ""];
  return length ? count(Math.floor(seconds / length), unit) : "less than a minute";
}

const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
const list = (words) => new Intl.ListFormat("en-GB").format(words);

/** Text from elsewhere, ended as a sentence. */
function sentence(text) {
  // The name of a file stays as it is.
  const start = /^[a-z]+\b(?!\.\w)/.test(text) ? text[0].toUpperCase() : text.slice(0, 1);
  return `${start}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

// ---------------------------------------------------------------- talking to the server

class Failure extends Error {
  /** HTTP status, 0 where there was no answer. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session.csrf) headers["X-CSRF-Token"] = session.csrf;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
  } catch {
    throw new Failure(0, "the server does not answer");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  throw new Failure(response.status, String(problem?.error ?? `HTTP ${response.status}`));
}

async function askJson(method, path, body) {
  const response = await ask(method, path, body);
  return response.json().catch(() => {
    throw new Failure(0, "the server broke off its answer");
  });
}

// ---------------------------------------------------------------- session

async function start() {
  try {
    opened(await askJson("GET", "/v1/session"));
  } catch (failure) {
    askForLogin(failure.status === 401 ? "" : sentence(failure.message));
  }
}

function opened(answer) {
  session.csrf = answer.csrf;
  $("plain").hidden = !answer.plain_http;
  session.isOpen = true;
  $("user").textContent = answer.username;
  poll(true);
}

function askForLogin(why) {
  session.isOpen = false;
  session.csrf = "";
  $("login-why").textContent = why;
  $("login-error").textContent = "";
  // What was on the page stays there, behind a modal dialog; without a page the same form is the content.
  if ($("login").open) return;
  if ($("page").hidden) $("login").show();
  else $("login").showModal();
  $("username").focus();
}

function sessionEnded() {
  // Several requests may find that out at once.
  if (session.isOpen) askForLogin("Your session has ended. Log in to go on where you were.");
}

async function logIn(event) {
  event.preventDefault();
  const form = $("login-form");
  const button = form.querySelector("button");
  // Not disabled: that would lose the focus.
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  $("login-error").textContent = "";
  try {
    const answer = await askJson("POST", "/v1/session", {
      username: $("username").value,
      password: $("password").value,
    });
    form.reset();
    markInvalid(false);
    // Gives the focus back to where it was on the page.
    $("login").close();
    opened(answer);
  } catch (failure) {
    const isWrong = failure.status === 401;
    markInvalid(isWrong);
    $("login-error").textContent = isWrong ? "Username or password is wrong." : sentence(failure.message);
    $("password").value = "";
    $("password").focus();
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function markInvalid(isInvalid) {
  for (const id of ["username", "password"]) {
    if (isInvalid) $(id).setAttribute("aria-invalid", "true");
    else $(id).removeAttribute("aria-invalid");
  }
}

async function logOut() {
  try {
    await ask("DELETE", "/v1/session");
  } catch (failure) {
    if (failure.status !== 401) {
      connection(`Not logged out: ${failure.message}`);
      return;
    }
  }
  // Nothing of what was shown stays behind, not even in memory.
  location.reload();
}

// ---------------------------------------------------------------- polling

let timer = 0;
let polls = 0;
let lastShape = "";
// Counts changes that were asked for: an answer that was under way meanwhile may be older than the change.
let changes = 0;

async function poll(isFirst = false) {
  clearTimeout(timer);
  if (!session.isOpen || document.hidden) return;
  const changesBefore = changes;
  try {
    const status = await askJson("GET", "/v1/status");
    state.status = status;
    if (changes === changesBefore && !Object.values(state.saving).some(Boolean)) {
      state.administrator = status.administrator;
      state.switches = status.switches;
    }
    connection("");
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
    if (failure.status === 401) sessionEnded();
    else if ($("page").hidden) askForLogin(sentence(failure.message));
    else connection(`${sentence(failure.message)} This is what was known before.`);
  } finally {
    clearTimeout(timer);
    timer = setTimeout(poll, POLL_MS);
  }
}

function connection(problem) {
  fill($("connection"), problem);
}

function showPage() {
  for (const id of ["page", "session", "sections"]) $(id).hidden = false;
  $("title").focus({ preventScroll: true });
}

async function readLists() {
  const [reports, crashes] = await Promise.all([askJson("GET", "/v1/reports"), askJson("GET", "/v1/crashes")]);
  if (JSON.stringify(reports) !== JSON.stringify(state.reports)) {
    state.reports = reports;
    showHistory();
    await readReport();
  }
  if (JSON.stringify(crashes) !== JSON.stringify(state.crashes)) {
    state.crashes = crashes;
    showCrashes();
    showCrashReports();
  }
}

/** The beginning of the last report: it may be 100 MB long. */
async function readReport() {
  if (state.reports.kept.length === 0) {
    state.report = null;
    showReport();
    return;
  }
  const response = await ask("GET", "/v1/report/preview");
  const reader = response.body.getReader();
  // Half a character at the end waits in the decoder. A byte order mark is a character like others.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let [text, bytes, isCut] = ["", 0, false];
  try {
    while (!isCut) {
      const { done, value } = await reader.read();
      if (done) break;
      const part = value.subarray(0, PREVIEW_BYTES - bytes);
      isCut = part.length < value.length;
      bytes += part.length;
      text += decoder.decode(part, { stream: true });
    }
    if (isCut) await reader.cancel();
  } catch {
    throw new Failure(0, "the server broke off its answer");
  }
  const name = response.headers.get("Ondat-Telemetry-Report") ?? "report";
  const kept = state.reports.kept.find((kept) => kept.name === `${name}.jsonl`)?.bytes;
  const total = isCut ? Number(response.headers.get("Content-Length")) || kept || null : bytes;
  state.report = { name, text, isCut, total };
  showReport();
}

// ---------------------------------------------------------------- switches

/** Who holds a switch off besides the administrator. */
const holders = (name) => state.switches[name].off_by.filter((source) => source !== ADMINISTRATOR);
const canOperate = (name) => !state.administrator.problem && holders(name).length === 0;

// One change after the other: each needs the version that the one before has made.
let lastChange = Promise.resolve();

function toggle(name) {
  if (!state.switches || state.saving[name]) return;
  if (!canOperate(name)) {
    say(name, { failed: `${SWITCHES[name]} cannot be turned on here.` });
    return;
  }
  change(name, !state.switches[name].on);
}

function change(name, on) {
  state.saving[name] = true;
  state.said = {};
  state.failed = {};
  showSwitches();
  lastChange = lastChange.then(() => put(name, on)).catch((error) => console.error(error));
}

async function put(name, on) {
  changes += 1;
  try {
    const { version_check, daily_report, crash_reports, version } = state.administrator;
    const wanted = { version_check, daily_report, crash_reports, version, [name]: on };
    confirmed(await putSwitches(wanted));
    const isOn = state.switches[name].on;
    const effect = isOn === on ? `${SWITCHES[name]} is ${on ? "on" : "off"}.` : `${SWITCHES[name]} stays off.`;
    say(name, { said: `Saved. ${effect} Running processes follow within a second.` });
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    await notChanged(name, failure);
  } finally {
    changes += 1;
    state.saving[name] = false;
    showSwitches();
    // The button that was pressed may be gone.
    if (document.activeElement === document.body) $(name).focus();
    // What else has changed with it, such as what waits to be sent.
    poll();
  }
}

async function putSwitches(wanted) {
  try {
    return await askJson("PUT", "/v1/switches", wanted);
  } catch (failure) {
    if (failure.status !== 403) throw failure;
    // Somebody logged in anew in another window of this browser: the cookie is the new one, the token must be, too.
    const answer = await askJson("GET", "/v1/session");
    session.csrf = answer.csrf;
    return askJson("PUT", "/v1/switches", wanted);
  }
}

function confirmed(answer) {
  const { switches, ...administrator } = answer;
  state.administrator = { ...administrator, problem: null };
  state.switches = switches;
}

async function notChanged(name, failure) {
  if (failure.status === 401) {
    sessionEnded();
    say(name, { failed: "Your session had ended. Your change was not made." });
    return;
  }
  if (failure.status === 0) {
    // The request may have arrived all the same; the next poll shows it.
    say(name, { failed: `${sentence(failure.message)} The switch shows what was last confirmed.` });
    return;
  }
  try {
    if (failure.status === 412) {
      confirmed(await askJson("GET", "/v1/switches"));
    } else {
      const status = await askJson("GET", "/v1/status");
      state.administrator = status.administrator;
      state.switches = status.switches;
    }
  } catch (again) {
    if (!(again instanceof Failure)) throw again;
    if (again.status === 401) sessionEnded();
  }
  const why = {
    409: `${sentence(failure.message)} Your change was not made.`,
    412: "Somebody else changed the settings meanwhile; here is what they are now. Your change was not made.",
  };
  say(name, { failed: why[failure.status] ?? `${sentence(failure.message)} Your change was not made.` });
}

function say(name, { said = "", failed = "" }) {
  state.said = { [name]: said };
  state.failed = { [name]: failed };
  showSwitches();
}

function showSwitches() {
  const { administrator, switches } = state;
  fill($("unreadable"), administrator.problem && h("div", { class: "notice danger" },
    h("p", null, h("strong", null, "The administrator's settings cannot be read, so everything is off.")),
    h("p", null, sentence(administrator.problem)),
    h("p", null, "Run ", code("ondat-telemetry repair"), " on this host to start anew, with all three off.")));
  for (const [name, label] of Object.entries(SWITCHES)) {
    const button = $(name);
    const { on } = switches[name];
    const isSaving = Boolean(state.saving[name]);
    setAttributes(button, {
      "aria-checked": String(on),
      "aria-disabled": canOperate(name) ? null : "true",
      "aria-busy": isSaving ? "true" : null,
    });
    fill(button.querySelector(".word"), isSaving ? "Saving" : on ? "On" : "Off");
    fill($(`${name}-held`), on ? offInSome(name) : heldOff(name, label));
    const row = button.closest("li");
    fill(row.querySelector(".said"), state.said[name]);
    fill(row.querySelector(".failed"), state.failed[name]);
  }
  const { updated_at } = administrator;
  fill($("changed"), updated_at && ["Last changed, here or by the command, at ", utc(updated_at), "."]);
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
}

function heldOff(name, label) {
  const { administrator } = state;
  // Said once for all three, above.
  if (administrator.problem) return h("p", null, "Held off until the administrator's settings can be read.");
  const who = holders(name);
  if (who.length === 0) return null;
  const where = who.length === 1 ? "there" : who.length === 2 ? "in both places" : "in all these places";
  const sentences = `Held off by ${list(who)}. It can be turned on only ${where}.`;
  if (administrator[name]) return h("p", null, sentences);
  return [
    h("p", null, `${sentences} The administrator has turned it off as well.`),
    h("button", { type: "button", class: "small", "data-withdraw": name },
      "Withdraw the administrator's word", h("span", { class: "unseen" }, ` against ${label}`)),
  ];
}

/** Processes whose own environment, program or cluster spec holds it off while others have it on. */
function offInSome(name) {
  return state.status.processes.filter((process) => holdsOff(process, name)).map((process) =>
    h("p", null, `Off in ${processName(process)} by ${list(process.off_by[name])}; on elsewhere.`));
}

const holdsOff = (process, name) => process.off_by[name].length > 0;
const processName = ({ component, pid }) => `${component} (pid ${pid})`;

// ---------------------------------------------------------------- what the status says

function showStatus() {
  showUpgrade();
  showSwitches();
  showReportState();
  showCrashState();
  showVersion();
  showDelivery();
  showIdentity();
}

/** The most urgent of what the running versions were told. */
function mostUrgent() {
  const urgency = ({ verdict }) => (VERDICTS.includes(verdict) ? VERDICTS.indexOf(verdict) : VERDICTS.length);
  return [...(state.status.version_check.told ?? [])].sort((a, b) => urgency(a) - urgency(b))[0];
}

function showUpgrade() {
  const told = mostUrgent();
  const words = {
    upgrade_required: ["danger", "An upgrade is required"],
    upgrade_recommended: ["warning", "An upgrade is recommended"],
    outdated: ["news", "A newer version is available"],
  }[told?.verdict];
  const { keys, problem } = state.status.version_check;
  let banner = null;
  if (words) {
    const unsigned = keys === 0 ? "not verified: no key is configured, so anybody may have written it" : "not verified";
    banner = h("div", { class: `notice ${words[0]}` },
      h("p", null, h("strong", null, words[1])),
      terms(
        ["Running", version(told)],
        ["Latest", told.latest ?? "not known"],
        told.advisory && ["Advisory", told.advisory],
        ["Signature", told.authenticated ? "verified" : unsigned],
        ["Checked", utc(told.checked_at)],
      ));
  } else if (told?.verdict === "unknown" || problem) {
    const why = problem ?? told.problem ?? "no answer that says so was accepted";
    const newer = `a newer version ${told ? `than ${version(told)} ` : ""}`;
    banner = h("p", { class: "quiet" }, `Whether ${newer}is out is not known: ${why}.`);
  }
  const isUrgent = told?.verdict === "upgrade_required";
  fill($("urgent"), isUrgent && banner);
  fill($("news"), !isUrgent && banner);
}

const version = (told) => told.version ?? `with the label ${told.label}`;

function offNote(name, what) {
  return !state.switches[name].on && h("p", { class: "quiet" }, `${SWITCHES[name]} is off: ${what}`);
}

function showReportState() {
  const { report } = state;
  const note = offNote("daily_report", `nothing is sent.${report ? " This is the last report that was made." : ""}`);
  if (!report) {
    fill($("report-about"), note, h("p", null, "No report was made yet."));
    return;
  }
  const whole = report.total === null ? "" : ` (${size(report.total)})`;
  fill($("report-about"),
    note,
    h("p", null, "The last report that was made, before it is packed and sealed; these bytes and the report's id ",
      "and day are all that the vendor gets. Ids are anonymised."),
    h("p", null,
      report.isCut && `The first 1 MiB of ${report.total === null ? "a longer report" : size(report.total)} is shown. `,
      h("a", { href: "/v1/report/preview", download: `${report.name}.jsonl` }, `Download it all${whole}`)));
}

function showCrashState() {
  const { crashes } = state;
  const note = offNote("crash_reports", "nothing is sent.");
  if (!crashes) {
    fill($("crash-about"), note);
    return;
  }
  const { waiting, sent, held_back } = crashes;
  fill($("crash-about"),
    note,
    h("p", null, "One event for each process that died; no memory, stack, modules, environment, arguments, ",
      "host name or user."),
    waiting.length + sent.length === 0 && h("p", null, "No crash was reported yet."),
    held_back > 0 && h("p", null, `${held_back} more like these ${held_back === 1 ? "was" : "were"} not sent: `,
      "at most five of one kind are, within an hour."));
}

function showVersion() {
  const { version_check: check, cluster_id, node_id } = state.status;
  const told = check.told ?? [];
  fill($("version-about"),
    offNote("version_check", "nothing is asked."),
    h("p", null, "One DNS query for a TXT record. The name that is asked for carries this and nothing else. With a ",
      "seal key of the vendor's, only the version is readable to anybody on the way."),
    terms(
      ["Zone", check.zone ? code(check.zone) : "not configured: nothing is asked"],
      ["Cluster id, anonymised", cluster_id ? code(cluster_id) : "not configured for this program"],
      ["Node id, anonymised", node_id ? code(node_id) : "not configured for this program"],
      ["UTC day", new Date().toISOString().slice(0, 10)],
      ["Version", told.length === 0 ? "that of the process that asks" : told.map(version).join(", ")],
    ),
    check.problem && h("p", { class: "failed" }, sentence(check.problem)),
    told.length > 0 && scrolling("What was answered", table(
      ["Version", "Verdict", "Latest", "Advisory", "Signature", "Last answer", "Next check", "Failures since"],
      told.map((one) => [
        version(one),
        one.verdict.replaceAll("_", " "),
        one.latest ?? "–",
        one.advisory ?? "–",
        one.authenticated ? "verified" : "not verified",
        utc(one.checked_at),
        one.next_due === null ? "when a process starts" : utc(one.next_due),
        one.failures,
      ]))));
}

function showDelivery() {
  const { status } = state;
  const { daily_report: report, crash_reports: crash, version_check: check, spool } = status;
  const keys = { true: "valid", false: "none is valid now: nothing is sent", null: "not configured" };
  const delivered = (at) => (at === null ? "not delivered yet" : ["delivered ", utc(at)]);
  const last = (report.last ?? []).map((one) => h("span", null, `of ${one.day}, `, delivered(one.delivered_at)));
  const due = (check.told ?? []).map((told) => told.next_due).filter((at) => at !== null);
  fill($("delivery-state"),
    h("div", { class: "columns-3" },
      h("div", null, h("h3", null, SWITCHES.daily_report), terms(
        ["Collector", code(report.url ?? "not configured")],
        ["Sealing key", keys[report.has_valid_key]],
        ["Last report", last.length > 0 ? last : "none"],
        report.next_try !== null && ["Next try", report.next_try <= Date.now() / 1000 ? "is due" : utc(report.next_try)],
        report.problem && ["Problem", sentence(report.problem)],
        ["Waiting", waits(spool["spool/reports"])],
      )),
      h("div", null, h("h3", null, SWITCHES.crash_reports), terms(
        ["Server", code(crash.server ?? "not configured")],
        ["Waiting", waits(spool["spool/crashes"])],
      )),
      h("div", null, h("h3", null, SWITCHES.version_check), terms(
        ["Zone", code(check.zone ?? "not configured")],
        ["Keys of the vendor", check.keys || "none: answers without a signature are accepted"],
        ["Next check", due.length > 0 ? utc(Math.min(...due)) : "when a process starts"],
      ))),
    h("h3", null, "Running processes"),
    status.processes.length === 0
      ? h("p", null, "None has started its schedule on this state directory.")
      : scrolling("Running processes", table(["Process", "Version", "Since", "Holds off for itself", "Seen"],
        status.processes.map((process) => [
          processName(process),
          process.version,
          utc(process.at),
          list(Object.keys(SWITCHES).filter((name) => holdsOff(process, name)).map((name) => SWITCHES[name])) || "nothing",
          process.is_seen ? "yes" : "no: in another container, it may have ended",
        ]))),
    h("h3", null, "Crash handlers"),
    crash.runs.length === 0
      ? h("p", null, "No process has installed one.")
      : scrolling("Crash handlers", table(["Run", "Version", "State"],
        crash.runs.map((run) => [run.name, run.version, runState(run)]), { class: "runs" })),
    h("h3", null, "Core files"),
    crash.core_files.length === 0
      ? h("p", null, "None is known.")
      : scrolling("Core files", table(["File", "Component", "Signal", "Written", "Size"],
        crash.core_files.map((core) => [core.path, core.component, core.signal, utc(core.at), size(core.bytes)]))),
    h("p", { class: "quiet" }, "State directory: ", status.state_dir ? code(status.state_dir) : "not configured",
      status.state_dir_problem ? `; cannot be used: ${status.state_dir_problem}` : ""));
}

function waits(spool) {
  const items = spool?.items ?? [];
  if (items.length === 0) return "nothing";
  const bytes = items.reduce((sum, item) => sum + item.bytes, 0);
  const oldest = Math.max(...items.map((item) => item.age_seconds));
  return `${count(items.length, "item")}, ${size(bytes)}, the oldest for ${age(oldest)}`;
}

function runState({ running, watched }) {
  if (!running) return "ended, and looked at when the next process starts";
  const known = {
    monitor: "watched by a crash monitor",
    supervisor: "started by exec, which watches it",
    supervised: "watched by exec",
  };
  if (typeof watched === "string") return known[watched] ?? watched;
  return `no crash monitor: ${watched?.nobody ?? "not known why"}; reported when the next process starts`;
}

function showIdentity() {
  const { cluster_id, node_id } = state.status;
  const id = (id) => (id ? code(id) : "not configured for this program");
  fill($("identity-state"), terms(["Cluster", id(cluster_id)], ["Node", id(node_id)]));
}

// ---------------------------------------------------------------- what is sent: the report

function showReport() {
  const { report } = state;
  showReportState();
  $("report-views").hidden = !report;
  fill($("report-bytes"), report?.text);
  fill($("report-table"), report && reportTables(report));
  showReportAs(report && $("as-bytes").getAttribute("aria-pressed") === "true" ? "as-bytes" : "as-table");
}

function showReportAs(id) {
  for (const view of ["as-table", "as-bytes"]) $(view).setAttribute("aria-pressed", String(view === id));
  $("report-table").hidden = id !== "as-table";
  $("report-bytes").hidden = id !== "as-bytes";
}

/** Whole lines of the report. Numbers keep the digits that are sent: 64 bits are more than a double has. */
function parsedLines(text) {
  const canBeExact = (value, context) => typeof value === "number" && context?.source && JSON.rawJSON;
  const exact = (key, value, context) => (canBeExact(value, context) ? JSON.rawJSON(context.source) : value);
  // What comes after the last line break was cut off, or is nothing.
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line, exact));
}

function reportTables(report) {
  let lines;
  try {
    lines = parsedLines(report.text);
  } catch {
    return h("p", { class: "failed" }, "This report cannot be read as JSON lines; its bytes can be shown.");
  }
  const [cluster, ...groups] = lines;
  if (!cluster) return h("p", null, "Not even the first line is within what is shown here.");
  const end = groups.find((group) => group.end)?.end;
  return [
    h("h3", null, "Cluster"),
    h("div", { class: "box fields" },
      terms(...Object.entries(cluster).map(([field, value]) => [fieldName(field), shown(value)]))),
    recordTable("Nodes", groups.flatMap((group) => group.nodes ?? []), end?.nodes),
    recordTable("Volumes", groups.flatMap((group) => group.volumes ?? []), end?.volumes),
  ];
}

/** Row groups as one table, a line for each field as it stands in the report, a column for each record. */
function recordTable(title, groups, total) {
  const fields = Object.keys(groups[0] ?? {});
  const records = fields.length === 0 ? 0 : groups.reduce((sum, group) => sum + group[fields[0]].length, 0);
  const shownRecords = Math.min(records, PREVIEW_RECORDS);
  const isWhole = shownRecords === records && JSON.stringify(total) === String(records);
  const of = total === undefined ? "" : ` of ${JSON.stringify(total)}`;
  let about = isWhole ? `${count(records, "record")}.` : `The first ${shownRecords}${of} records.`;
  if (records === 0) about = total === undefined ? "They stand beyond what is shown here." : "None.";
  const values = (field) => groups.flatMap((group) => group[field]).slice(0, shownRecords).map(shown);
  return [
    h("h3", null, title),
    h("p", { class: "quiet" }, about),
    records > 0 && scrolling(title,
      table(["Field", ...Array.from({ length: shownRecords }, (_, index) => String(index + 1))],
        fields.map((field) => [fieldName(field), ...values(field)]), { class: "records" })),
  ];
}

/** The name of a field, which may be broken after each of its words. */
const fieldName = (field) => code(field.split(/(?<=_)/).map((word) => [word, h("wbr")]));

/** A value as it is sent; strings without their quotes. */
function shown(value) {
  if (value === null) return h("span", { class: "null" }, "null");
  return code(typeof value === "string" ? value : JSON.stringify(value));
}

// ---------------------------------------------------------------- what is sent: crash reports

const timeOf = (event) => Math.floor(Date.parse(event.timestamp) / 1000) || 0;

/** All that are known, the latest first. */
function crashReports() {
  const { waiting, sent } = state.crashes;
  const marked = (events, where) => events.map((one) => ({ ...one, where }));
  return [...marked(sent, "sent"), ...marked(waiting, "waiting")].sort((a, b) => timeOf(b.event) - timeOf(a.event));
}

function showCrashReports() {
  showCrashState();
  const all = crashReports();
  const chosen = all.find((one) => one.id === state.chosenCrash) ?? all[0];
  $("crash-pick").hidden = all.length === 0;
  fill($("crash-list"), all.map((one) => h("li", null,
    h("button", { type: "button", "data-crash": one.id, "aria-pressed": String(one === chosen) },
      h("span", { class: "when" }, utc(timeOf(one.event)), ` · ${one.where}`),
      h("span", null, String(one.event.exception?.values?.[0]?.value ?? one.id))))));
  fill($("crash-event"), chosen && JSON.stringify(chosen.event, null, 2));
}

// ---------------------------------------------------------------- charts

const TRIES = {
  delivered: { label: "delivered", fill: 1 },
  stored: { label: "stored, tried again later", fill: 2 },
  refused: { label: "refused for good", fill: 3 },
};

const resultOf = ({ result }) => Object.keys(TRIES).find((known) => result.startsWith(known)) ?? "stored";

function showHistory() {
  const { tries, kept } = state.reports;
  const bars = tries.map((one) => {
    const day = isoDay(one.at);
    const { fill } = TRIES[resultOf(one)];
    return { day, marks: [{ value: one.bytes, fill, title: `${day}: ${size(one.bytes)}, ${one.result}` }] };
  });
  const numbers = Object.entries(TRIES)
    .map(([result, look]) => ({ ...look, result, number: tries.filter((one) => resultOf(one) === result).length }))
    .filter(({ number }) => number > 0);
  const parts = list(numbers.map(({ result, number }) => `${number} ${result}`));
  const summary = `${count(tries.length, "try", "tries")}: ${parts}.`;
  const plaintexts = kept.length === 0 ? "" : ` ${count(kept.length, "plaintext is", "plaintexts are")} kept in sent/.`;
  $("history-about").textContent = tries.length === 0
    ? "No report was tried to be delivered yet."
    : `The last ${summary} Bytes are those of the sealed report.${plaintexts}`;
  $("history-details").hidden = tries.length === 0;
  chart($("history-chart"), bars, { label: `Tries to deliver reports, one bar each. ${summary}`, isBytes: true });
  legend($("history-legend"), numbers.map(({ fill, label, number }) => [fill, `${label}: ${number}`]));
  fill($("history-table"), table(["Time", "Report of", "Bytes", "Result", "To", "Proxy"],
    tries.toReversed().map((one) => [utc(one.at), one.day, one.bytes, one.result, one.url, one.proxy ?? "none"])));
}

// Each ending keeps its look, whatever else there is.
const ENDINGS = ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS", "exit code", "other"];

function endingOf({ tags = {} }) {
  if (ENDINGS.includes(tags.signal)) return tags.signal;
  return tags.signal === "none" ? "exit code" : "other";
}

function showCrashes() {
  const today = Math.floor(Date.now() / 1000 / DAY_SECONDS) * DAY_SECONDS;
  const days = Array.from({ length: CRASH_DAYS }, (_, index) => isoDay(today - (CRASH_DAYS - 1 - index) * DAY_SECONDS));
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
    ? `No crash within the last ${CRASH_DAYS} days.`
    : `${count(recent.length, "crash", "crashes")} within the last ${CRASH_DAYS} days: ${parts}.`;
  const older = all.length - recent.length;
  $("crashes-about").textContent = `${summary}${older > 0 ? ` ${older} of other days not shown.` : ""}`;
  $("crashes-details").hidden = recent.length === 0;
  chart($("crashes-chart"), recent.length === 0 ? [] : bars, { label: `Crashes by day and ending. ${summary}` });
  legend($("crashes-legend"), totals.map(({ ending, fill, total }) => [fill, `${ending}: ${total}`]));
  fill($("crashes-table"), table(["Day", ...totals.map(({ ending }) => ending)],
    days.toReversed().filter((day) => recent.some((one) => one.day === day))
      .map((day) => [day, ...totals.map(({ ending }) => number(day, ending))])));
}

function legend(parent, entries) {
  fill(parent, entries.map(([number, label]) => h("li", null,
    h("svg", { width: 16, height: 16, "aria-hidden": "true" }, mark(number, 1, 1, 14, 14)), label)));
}

function mark(fill, x, y, width, height, title) {
  const look = { class: `mark ink-${fill}`, fill: `url(#fill-${fill})` };
  return h("rect", { ...look, x, y, width, height }, title && h("title", null, title));
}

// Charts are drawn for the width they have: scaling would scale the text.
const drawn = new Map();
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => draw(target)));

function chart(parent, bars, options) {
  drawn.set(parent, { bars, options });
  resized.observe(parent);
  draw(parent);
}

function draw(parent) {
  const { bars, options } = drawn.get(parent);
  const width = Math.floor(parent.clientWidth);
  if (bars.length === 0 || width === 0) {
    fill(parent);
    return;
  }
  const [top, bottom, left, height] = [12, 24, options.isBytes ? 64 : 32, 200];
  const highest = Math.max(...bars.map((bar) => bar.marks.reduce((sum, { value }) => sum + value, 0)));
  const step = options.isBytes ? 2 ** Math.ceil(Math.log2(highest / 4)) : niceStep(highest / 4);
  const limit = Math.max(step, Math.ceil(highest / step) * step);
  const y = (value) => height - bottom - (value / limit) * (height - bottom - top);
  const slot = (width - left) / Math.max(bars.length, 12);
  const bar = Math.max(2, Math.min(24, Math.floor(slot * 0.75)));
  const x = (index) => Math.round((left + index * slot + (slot - bar) / 2) * 2) / 2;
  const grid = Array.from({ length: Math.round(limit / step) + 1 }, (_, index) => index * step).map((value) => [
    h("line", { class: value === 0 ? "axis" : "grid", x1: left, x2: width, y1: y(value), y2: y(value) }),
    h("text", { class: "tick", x: left - 8, y: y(value) + 4, "text-anchor": "end" },
      options.isBytes && value > 0 ? size(value) : value),
  ]);
  let labelled = -Infinity;
  const days = bars.map(({ day }, index) => {
    const isNew = index === 0 || bars[index - 1].day !== day;
    const middle = x(index) + bar / 2;
    if (!isNew || middle - labelled < 64 || middle > width - 22 || middle < left + 18) return null;
    labelled = middle;
    return h("text", { class: "tick", x: middle, y: height - 6, "text-anchor": "middle" }, shortDay(day));
  });
  const marks = bars.map(({ marks }, index) => {
    let sum = 0;
    return marks.map(({ value, fill, title }) => {
      const from = y(sum);
      sum += value;
      // A gap of one pixel between what stands on each other.
      return mark(fill, x(index), y(sum), bar, Math.max(1, from - y(sum) - 1), title);
    });
  });
  fill(parent, h("svg", { class: "bars", width, height, role: "img", "aria-label": options.label }, grid, days, marks));
}

/** 1, 2 or 5 times a power of ten, at least this much. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const shortDay = (day) => dayFormat.format(new Date(`${day}T00:00:00Z`));

// ---------------------------------------------------------------- what is pressed

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

$("login-form").addEventListener("submit", logIn);
// Without a session nothing here is up to date; the page is not to be mistaken for one that is.
$("login").addEventListener("cancel", (event) => event.preventDefault());
$("logout").addEventListener("click", logOut);
$("configuration").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.dataset.withdraw) change(button.dataset.withdraw, true);
  else if (button) toggle(button.id);
});
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => chooseTab(tab));
  tab.addEventListener("keydown", onTabKey);
}
$("report-views").addEventListener("click", ({ target }) => target.id.startsWith("as-") && showReportAs(target.id));
$("crash-list").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  state.chosenCrash = button.dataset.crash;
  showCrashReports();
});
document.addEventListener("visibilitychange", () => poll());

start();

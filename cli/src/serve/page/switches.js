// The first screen: is it working, what goes out, and how is it stopped. And the changes that are made there.

import { $, code, fill, h, mark, setAttributes } from "./element.js";
import { sessionEnded } from "./login.js";
import { said } from "./processes.js";
import { Failure, askJson, useToken } from "./server.js";
import { SWITCHES, state } from "./state.js";
import { age, count, distance, isKnown, list, now, sentence, size, utc } from "./words.js";

const NAMES = Object.keys(SWITCHES);
const PARTS = {
  daily_report: { success: "Last delivered", spool: "spool/reports", unit: "report", host: "report_host", to: "To" },
  crash_reports: { success: "Last sent", spool: "spool/crashes", unit: "crash report", host: "sentry_host", to: "To" },
  version_check: { success: "Last answer", host: "version_zone", to: "In zone" },
};
// The two words that switches.json has, by the kind of their source, as people know them.
const WORDS = {
  administrator: "the administrator, here or by the command",
  api_client: "the API client, such as the operator or the product's command line",
};

const saving = {};
const told = { said: {}, failed: {} };

// ---------------------------------------------------------------- what is shown

export function showSwitches() {
  const { administrator } = state;
  fill($("unreadable"), administrator.problem && h("div", { class: "notice danger" },
    h("p", null, h("strong", null, "The administrator's settings cannot be read, so everything is off.")),
    h("p", null, sentence(administrator.problem)),
    h("p", null, "Run ", code("ondat-telemetry repair"), " on this host to start anew, with all three off.")));
  showVerdict();
  NAMES.forEach(showRow);
  showScope();
  const canAllOff = !administrator.problem && NAMES.some((name) => administrator[name]);
  $("all-off").hidden = !canAllOff;
  setAttributes($("all-off"), { "aria-busy": NAMES.some((name) => saving[name]) ? "true" : null });
  const { updated_at } = administrator;
  fill($("changed"), isKnown(updated_at) && ["Last changed ", utc(updated_at), "."]);
}

/** Is it working? The most important of what there is to say, in one sentence. */
function showVerdict() {
  const [mood, glyph, ...words] = verdict();
  $("verdict").className = `verdict ${mood}`;
  fill($("verdict"), mark(glyph), h("p", null, words));
}

function verdict() {
  const { administrator, switches, status } = state;
  const on = NAMES.filter((name) => switches[name].on);
  const failing = on.filter((name) => status[name].last_error);
  const waiting = on.filter((name) => waits(name).number > 0);
  const named = (names) => list(names.map((name) => SWITCHES[name]));
  const verb = (names, one, many) => `${named(names)} ${names.length === 1 ? one : many}`;
  if (administrator.problem) return ["danger", "alert", "Everything is off, because the settings cannot be read."];
  if (status.state_dir_problem) {
    return ["danger", "alert", "The state directory cannot be used: ", sentence(status.state_dir_problem)];
  }
  if (status.used === false) {
    return ["quiet", "unknown", "No process has ever used this state directory. Nothing is sent from it; ",
      "the processes may be using another one."];
  }
  if (on.length === 0) return ["quiet", "off", "Everything is off. Nothing is sent."];
  if (failing.length > 0) {
    return ["warning", "alert", verb(failing, "does not get through.", "do not get through."),
      !isRunning() ? " No process is running here."
        : failing.length < on.length && works(on.filter((name) => !failing.includes(name))) && " The rest does."];
  }
  if (!isRunning()) return ["warning", "alert", "No process is running here, so nothing is sent now."];
  if (waiting.length > 0) {
    const numbers = waiting.map((name) => waits(name));
    const isOne = numbers.length === 1 && numbers[0].number === 1;
    return ["quiet", "wait", `${list(numbers.map(({ short }) => short))} ${isOne ? "waits" : "wait"} to be sent.`];
  }
  if (!works(on)) {
    return ["quiet", "unknown", "No problem is known, but not everything has been sent yet."];
  }
  return ["good", "good", on.length === NAMES.length ? "It works. All that is due gets through."
    : `What is on works: ${named(on)}.`];
}

const isRunning = () => state.status.processes.length > 0;

/** Whether each of them is known to have got through. */
const works = (names) => names.every((name) => isKnown(state.status[name].last_success));

function showRow(name) {
  const button = $(name);
  const { on } = state.switches[name];
  const isSaving = Boolean(saving[name]);
  setAttributes(button, {
    "aria-checked": String(on),
    "aria-disabled": canOperate(name) ? null : "true",
    "aria-busy": isSaving ? "true" : null,
  });
  fill(button.querySelector(".word"), isSaving ? "Saving" : on ? "On" : "Off");
  fill($(`${name}-where`), where(name));
  fill($(`${name}-held`), on ? offInSome(name) : heldOff(name));
  const row = button.closest("li");
  fill(row.querySelector(".success"), success(name));
  fill(row.querySelector(".waiting"), waiting(name));
  fill(row.querySelector(".said"), told.said[name]);
  fill(row.querySelector(".failed"), told.failed[name]);
}

/** Where it goes, by the word of the running processes. */
function where(name) {
  const hosts = said(PARTS[name].host);
  if (hosts.length === 0) return "Where to is not known here. ";
  const known = hosts.filter(isKnown);
  if (known.length === 0) return "No running process has been told where to. ";
  return [`${PARTS[name].to} `, known.map((host, index) => [index > 0 && ", ", code(host)]), ". "];
}

function success(name) {
  const { last_success: at } = state.status[name];
  return [h("dt", null, PARTS[name].success),
    h("dd", null, isKnown(at) ? moment(at) : "none is known")];
}

/** How far away, and when exactly. */
const moment = (at) => [distance(at), " ", h("span", { class: "quiet" }, utc(at))];

/** What waits, and why: the last error in words beside the next try. */
function waiting(name) {
  const { on } = state.switches[name];
  const { last_error: error, next_try: next } = state.status[name];
  const { number, words } = waits(name);
  const nextTry = isKnown(next) && (next > now() ? moment(next) : isRunning() ? "now" : "when a process starts");
  if (name === "version_check") {
    return [h("dt", null, "Next query"), h("dd", null, on ? nextTry || "when a process starts" : "none"),
      on && why(error)];
  }
  return [h("dt", null, "Waiting"), h("dd", null, number === 0 ? "nothing" : words), on && why(error),
    on && (number > 0 || error) && nextTry && h("dd", null, "Next try ", nextTry)];
}

const why = (error) => error && h("dd", { class: "why" }, mark("alert"),
  h("span", null, sentence(String(error.text)), h("span", { class: "quiet" }, ` (${distance(error.at)})`)));

function waits(name) {
  const { spool, unit } = PARTS[name];
  const items = state.status.spool[spool]?.items ?? [];
  const number = state.status[name].waiting ?? items.length;
  const short = count(number, unit ?? "query", unit ? `${unit}s` : "queries");
  if (items.length === 0) return { number, short, words: short };
  const bytes = items.reduce((sum, item) => sum + item.bytes, 0);
  const oldest = Math.max(...items.map((item) => item.age_seconds));
  return { number, short, words: `${short}, ${size(bytes)}, for ${age(oldest)}` };
}

/** What a change here is for, and how to make it for all. */
function showScope() {
  const { status } = state;
  const sources = [state.switches, ...status.processes.map((process) => process.sources)].flatMap((of) =>
    NAMES.flatMap((name) => of[name].sources ?? of[name]));
  const hasSpec = sources.some(({ kind }) => kind === "cluster_spec");
  const hasClient = Object.values(status.administrator?.api ?? {}).includes(false);
  const known = [hasSpec && "a cluster resource", hasClient && "an API client, such as the operator,"].filter(Boolean);
  fill($("scope-known"), known.length > 0 && `Here ${list(known)} already turns something off.`);
  $("scope").open ||= known.length > 0 && !$("scope").dataset.seen;
  $("scope").dataset.seen = "true";
}

// ---------------------------------------------------------------- who holds it off

/** Who holds a switch off besides the person. */
const holders = (name) => state.switches[name].sources.filter(({ kind }) => kind !== "administrator");
const inWords = (sources) => list(sources.map(({ kind, text, process }) =>
  WORDS[kind] ?? (process ? `${text} of ${process.component} (pid ${process.pid})` : text)));
const canOperate = (name) => !state.administrator.problem && holders(name).length === 0;

function heldOff(name) {
  const { administrator } = state;
  // Said once for all three, above.
  if (administrator.problem) return h("p", null, "Held off until the administrator's settings can be read.");
  const who = holders(name);
  const { sources } = state.switches[name];
  if (who.length === 0) return sources.length > 0 && h("p", null, `Off by ${inWords(sources)}.`);
  const where = who.length === 1 ? "there" : who.length === 2 ? "in both places" : "in all these places";
  const sentences = `Held off by ${inWords(who)}. It can be turned on only ${where}.`;
  if (administrator[name]) return h("p", null, sentences);
  return [
    h("p", null, `${sentences} The administrator has turned it off as well.`),
    h("button", { type: "button", class: "small", "data-withdraw": name },
      "Withdraw the administrator's word", h("span", { class: "unseen" }, ` against ${SWITCHES[name]}`)),
  ];
}

/** Processes whose own environment, program or cluster spec holds it off while others have it on. */
function offInSome(name) {
  return state.status.processes.filter((process) => process.sources[name].length > 0).map((process) =>
    h("p", null, `Off in ${process.component} (pid ${process.pid}) by ${inWords(process.sources[name])}; on elsewhere.`));
}

// ---------------------------------------------------------------- changing

// One change after the other: each needs the version that the one before has made.
let lastChange = Promise.resolve();
// Counts changes that were asked for: an answer that was under way meanwhile may be older than the change.
let changes = 0;
let onChanged = () => {};

/** How many changes there were; not a number while one is under way, which equals nothing. */
export const changesSoFar = () => (Object.values(saving).some(Boolean) ? NaN : changes);

/** Lets the switches be operated; `whenChanged` runs after each change. */
export function operateSwitches(whenChanged) {
  onChanged = whenChanged;
  $("switches").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button || !state.switches) return;
    if (button.dataset.withdraw) change([button.dataset.withdraw], true);
    else if (button.id === "all-off") change(NAMES, false);
    else if (NAMES.includes(button.id)) toggle(button.id);
  });
}

function toggle(name) {
  if (saving[name]) return;
  if (!canOperate(name)) {
    say([name], { failed: `${SWITCHES[name]} cannot be turned on here.` });
    return;
  }
  change([name], !state.switches[name].on);
}

function change(names, on) {
  if (names.some((name) => saving[name])) return;
  names.forEach((name) => (saving[name] = true));
  Object.assign(told, { said: {}, failed: {} });
  showSwitches();
  lastChange = lastChange.then(() => put(names, on)).catch((error) => console.error(error));
}

async function put(names, on) {
  changes += 1;
  try {
    const { version } = state.administrator;
    const words = NAMES.map((name) => [name, names.includes(name) ? on : state.administrator[name]]);
    const wanted = { ...Object.fromEntries(words), version };
    confirmed(await putSwitches(wanted));
    const effect = names.map((name) => {
      const isOn = state.switches[name].on;
      return isOn === on ? `${SWITCHES[name]} is ${on ? "on" : "off"}.` : `${SWITCHES[name]} stays off.`;
    });
    const result = names.length === 1 ? effect[0] : "All three are off.";
    say(names.slice(-1), { said: `Saved. ${result} Running processes follow within a second.` });
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    await notChanged(names, failure);
  } finally {
    changes += 1;
    names.forEach((name) => (saving[name] = false));
    showSwitches();
    // The button that was pressed may be gone.
    if (document.activeElement === document.body) $(names[0]).focus();
    // What else has changed with it, such as what waits to be sent.
    onChanged();
  }
}

async function putSwitches(wanted) {
  try {
    return await askJson("PUT", "/v1/switches", wanted);
  } catch (failure) {
    if (failure.status !== 403) throw failure;
    // Somebody logged in anew in another window of this browser: the cookie is the new one, the token must be, too.
    const answer = await askJson("GET", "/v1/session");
    useToken(answer.csrf);
    return askJson("PUT", "/v1/switches", wanted);
  }
}

function confirmed(answer) {
  const { switches, ...administrator } = answer;
  state.administrator = { ...administrator, problem: null };
  state.switches = switches;
}

async function notChanged(names, failure) {
  if (failure.status === 401) {
    sessionEnded();
    say(names, { failed: "Your session had ended. Your change was not made." });
    return;
  }
  if (failure.status === 0) {
    // The request may have arrived all the same; the next poll shows it.
    say(names, { failed: `${sentence(failure.message)} The switch shows what was last confirmed.` });
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
  const stale = "Somebody else changed the settings meanwhile; here is what they are now.";
  say(names, { failed: `${failure.status === 412 ? stale : sentence(failure.message)} Your change was not made.` });
}

function say(names, { said = "", failed = "" }) {
  Object.assign(told, { said: {}, failed: {} });
  for (const name of names) {
    told.said[name] = said;
    told.failed[name] = failed;
  }
  showSwitches();
}

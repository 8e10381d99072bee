// The version check: what was answered, and what it asks with.

import { $, code, fill, h, table, terms } from "./element.js";
import { said } from "./processes.js";
import { SWITCHES, state } from "./state.js";
import { isKnown, sentence, utc } from "./words.js";

const VERDICTS = ["upgrade_required", "upgrade_recommended", "outdated", "unknown", "current"];

/** The most urgent of what the running versions were told. */
function mostUrgent() {
  const urgency = ({ verdict }) => (VERDICTS.includes(verdict) ? VERDICTS.indexOf(verdict) : VERDICTS.length);
  return [...(state.status.version_check.told ?? [])].sort((a, b) => urgency(a) - urgency(b))[0];
}

const signature = ({ authenticated }) => ({ true: "verified", false: "not verified" })[authenticated] ?? "not known";
const version = (told) => told.version ?? `with the label ${told.label}`;

export function showUpgrade() {
  const told = mostUrgent();
  const words = {
    upgrade_required: ["danger", "An upgrade is required"],
    upgrade_recommended: ["warning", "An upgrade is recommended"],
    outdated: ["news", "A newer version is available"],
  }[told?.verdict];
  const verifies = said("verifies_answers");
  const unsigned = verifies.includes(false) || (verifies.length === 0 && state.status.version_check.keys === 0)
    ? "not verified: no key is configured, so anybody may have written it" : "not verified";
  const banner = words && h("div", { class: `notice ${words[0]}` },
    h("p", null, h("strong", null, words[1])),
    terms(
      ["Running", version(told)],
      ["Latest", told.latest ?? "not known"],
      told.advisory && ["Advisory", told.advisory],
      ["Signature", told.authenticated === false ? unsigned : signature(told)],
      ["Checked", utc(told.checked_at)],
    ));
  const isUrgent = told?.verdict === "upgrade_required";
  fill($("urgent"), isUrgent && banner);
  fill($("news"), !isUrgent && banner);
}

export function showVersion() {
  const { version_check: check } = state.status;
  const told = check.told ?? [];
  fill($("version-about"),
    !state.switches.version_check.on &&
      h("p", { class: "notice plain" }, `${SWITCHES.version_check} is off: nothing is asked.`),
    h("p", null, "One DNS query for a TXT record. The name that is asked for carries this and nothing else. With a ",
      "seal key of the vendor's, only the version is readable to anybody on the way."),
    terms(
      ["Zone", value("version_zone", check.zone)],
      ["Cluster id, anonymised", value("cluster_id", state.status.cluster_id)],
      ["Node id, anonymised", value("node_id", state.status.node_id)],
      ["UTC day", new Date().toISOString().slice(0, 10)],
      ["Version", told.length === 0 ? "that of the process that asks" : told.map(version).join(", ")],
    ),
    check.problem && h("p", { class: "failed" }, sentence(check.problem)),
    told.length > 0 && [h("h3", null, "What was answered"), table("What was answered",
      ["Version", "Verdict", "Latest", "Advisory", "Signature", "Last answer", "Next check", "Failures since"],
      told.map((one) => [
        version(one),
        [one.verdict.replaceAll("_", " "), one.problem && `: ${one.problem}`],
        one.latest ?? "none",
        one.advisory ?? "none",
        signature(one),
        utc(one.checked_at),
        isKnown(one.next_due) ? utc(one.next_due) : "when a process starts",
        one.failures,
      ]))]);
}

/** What the running processes say, else what this server knows itself. */
export function value(name, own) {
  const values = said(name).filter(isKnown);
  if (values.length === 0 && isKnown(own)) values.push(own);
  return values.length > 0 ? values.map((value) => code(value)) : "not known: no running process says it";
}

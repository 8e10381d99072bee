// This node: its name, its state directory, its anonymised ids, the settings that go with the switches, and what is
// handed to others who are to find out what is wrong.

import { $, code, fill, h, savedAs, setAttributes, terms } from "./element.js";
import { sessionEnded } from "./login.js";
import { Failure, askJson } from "./server.js";
import { state } from "./state.js";
import { exactSize, isKnown, sentence, utc } from "./words.js";
import { value } from "./version.js";

/** Which node it is that is changed here. */
export function showNode() {
  const { node, state_dir } = state.status;
  const name = node?.name;
  fill($("node"), name ? ["Node ", h("strong", null, name)] : "This node", ", state directory ",
    code(state_dir ?? "not configured"));
  document.title = name ? `Ondat telemetry on ${name}` : "Ondat telemetry";
  fill($("scope-here"), "These switches are for this node alone: ",
    name && [h("strong", null, name), ", "], "every process that uses ", code(state_dir ?? "its state directory"), ".");
  fill($("plain"), isPlain() && h("div", { class: "notice warning" },
    h("p", null, h("strong", null, "This page comes over plain HTTP")),
    h("p", null, "Whoever is on the network between can read passwords and change what is sent. The server was started ",
      "to allow it.")));
}

const isPlain = () => Boolean(state.status.plain_http ?? state.session?.plain_http);

export function showAbout() {
  const { node, state_dir, state_dir_problem, cluster_id, node_id, created_at, log } = state.status;
  const { updated_at } = state.administrator;
  fill($("about-state"), terms(
    ["Node", node?.name ?? "not known"],
    ["State directory", state_dir ? code(state_dir) : "not configured",
      state_dir_problem && `Cannot be used: ${state_dir_problem}`],
    ["Cluster id, anonymised", value("cluster_id", cluster_id)],
    ["Node id, anonymised", value("node_id", node_id)],
    ["Log level", log?.level ?? "not known"],
    ["Log format", log?.format ?? "not known"],
    ["Created", isKnown(created_at) ? utc(created_at) : "no setting was ever changed here"],
    ["Last changed", isKnown(updated_at) ? utc(updated_at) : "never"],
  ));
}

// ---------------------------------------------------------------- diagnostics

const diagnostics = { isBusy: false, url: "" };

/** Shows them before they can be saved. */
async function diagnose() {
  if (diagnostics.isBusy) return;
  diagnostics.isBusy = true;
  setAttributes($("diagnose"), { "aria-busy": "true" });
  fill($("diagnose-failed"));
  try {
    const text = `${JSON.stringify(await askJson("GET", "/v1/diagnostics"), null, 2)}\n`;
    const day = new Date().toISOString().slice(0, 10);
    const name = `ondat-telemetry-diagnostics-${state.status.node?.name ?? "node"}-${day}.json`.replace(/[^\w.-]/g, "_");
    URL.revokeObjectURL(diagnostics.url);
    diagnostics.url = savedAs(name, text, "application/json");
    fill($("diagnose-about"), h("a", { class: "button", href: diagnostics.url, download: name }, "Save as a file"),
      h("span", { class: "quiet" }, ` ${exactSize(new Blob([text]).size)}, as shown here`));
    fill($("diagnostics-text"), text);
    $("diagnostics-text").hidden = false;
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    if (failure.status === 401) sessionEnded();
    fill($("diagnose-failed"), sentence(failure.message));
  } finally {
    diagnostics.isBusy = false;
    setAttributes($("diagnose"), { "aria-busy": null });
  }
}

export function operateDiagnostics() {
  $("diagnose").addEventListener("click", diagnose);
}

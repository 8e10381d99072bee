// The session: who is logged in, and the form that asks for it.

import { $, fill } from "./element.js";
import { Failure, ask, askJson, useToken } from "./server.js";
import { sentence } from "./words.js";

const session = { isOpen: false, onOpen: () => {} };

export const isOpen = () => session.isOpen;

/** Goes on where a session is, asks for a login where none is. `onOpen` runs whenever one begins. */
export async function start(onOpen) {
  session.onOpen = onOpen;
  $("asking").hidden = false;
  $("login-form").addEventListener("submit", logIn);
  // Without a session nothing here is up to date; the page is not to be mistaken for one that is.
  $("login").addEventListener("cancel", (event) => event.preventDefault());
  $("logout").addEventListener("click", logOut);
  try {
    opened(await askJson("GET", "/v1/session"));
  } catch (failure) {
    askForLogin(failure.status === 401 ? "" : sentence(failure.message));
  }
}

function opened(answer) {
  useToken(answer.csrf);
  session.isOpen = true;
  fill($("user"), answer.username);
  session.onOpen(answer);
}

export function askForLogin(why) {
  session.isOpen = false;
  useToken("");
  $("asking").hidden = true;
  fill($("login-why"), why);
  fill($("login-error"));
  // What was on the page stays there, behind a modal dialog; without a page the same form is the content.
  if ($("login").open) return;
  if ($("page").hidden) $("login").show();
  else $("login").showModal();
  $("username").focus();
}

export function sessionEnded() {
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
  fill($("login-error"));
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
    fill($("login-error"), isWrong ? "Username or password is wrong." : sentence(failure.message));
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
    if (!(failure instanceof Failure)) throw failure;
    if (failure.status !== 401) {
      fill($("connection"), `Not logged out: ${failure.message}`);
      return;
    }
  }
  // Nothing of what was shown stays behind, not even in memory.
  location.reload();
}

// Talking to the server.

const ANSWER_MS = 15000;
const PREVIEW_BYTES = 1024 * 1024;

const session = { csrf: "" };

export class Failure extends Error {
  /** HTTP status, 0 where there was no answer; after how many seconds the server wants to be asked again. */
  constructor(status, message, after = 0) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

/** What changes are to be sent with. */
export function useToken(csrf) {
  session.csrf = csrf;
}

export async function ask(method, path, body, patience = ANSWER_MS) {
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
      signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new Failure(0, "the server does not answer");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  const after = Number(response.headers.get("Retry-After")) || 0;
  const why = problem?.error ?? `the server answers with HTTP ${response.status}`;
  throw new Failure(response.status, String(why), after);
}

export async function askJson(method, path, body) {
  const response = await ask(method, path, body);
  return response.json().catch(() => {
    throw new Failure(0, "the server broke off its answer");
  });
}

/** The beginning of a report: it may be 100 MB long. */
export async function readStart(response) {
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
  const total = isCut ? Number(response.headers.get("Content-Length")) || null : bytes;
  return { text, isCut, total };
}

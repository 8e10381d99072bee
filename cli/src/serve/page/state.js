// What the page knows: the last that the server has said. Filled by polls and answers, read by whatever is shown.

// The product's words, in the product's order.
export const SWITCHES = Object.fromEntries([...document.querySelectorAll("[data-switch]")].map((row) =>
  [row.dataset.switch, row.querySelector("label").textContent]));

export const state = {
  status: null,
  // What the server confirmed last: `administrator` is the administrator's own choice, `switches` counts all sources.
  administrator: null,
  switches: null,
  reports: null,
  crashes: null,
  // The last report that was made.
  report: null,
  // Why a list could not be read.
  problems: {},
};

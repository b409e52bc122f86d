// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Times in the reader's zone, the progress of a rotation, printing. Without this
// script everything works: times are UTC, and a reload shows the progress.
"use strict";

// localTimes shows each time in the reader's zone, with UTC beside it.
function localTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const element of document.querySelectorAll("time[datetime]:not([data-day])")) {
    const time = new Date(element.dateTime);
    if (Number.isNaN(time.getTime())) continue;
    const utc = document.createElement("span");
    utc.className = "quiet";
    utc.textContent = `(${element.textContent})`;
    element.replaceChildren(format.format(time), " ", utc);
  }
}

const pollEvery = 1000;
const ended = ["completed", "rolled_back", "failed"];

// follow asks for the progress until the rotation is in another state, then loads the
// page again. A session that has ended shows on that load.
async function follow(element) {
  const bar = element.querySelector("progress");
  const sentence = element.querySelector("[data-text]");
  const live = element.querySelector("[data-live]");
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, pollEvery));
    if (document.hidden) continue;
    let answer;
    try {
      const response = await fetch(element.dataset.progress, { headers: { Accept: "application/json" } });
      if (response.status === 401) return location.reload();
      if (!response.ok) throw new Error(String(response.status));
      answer = await response.json();
    } catch {
      live.textContent = element.dataset.offline;
      continue;
    }
    bar.value = answer.percent;
    sentence.textContent = answer.text;
    if (answer.status !== element.dataset.status) {
      live.textContent = ended.includes(answer.status) ? element.dataset.done : "";
      return location.reload();
    }
    live.textContent = "";
  }
}

localTimes();
document.querySelectorAll("[data-progress]").forEach(follow);
document.querySelectorAll("[data-print]").forEach((button) => button.addEventListener("click", () => window.print()));
// A form is sent once.
document.querySelectorAll("form[method=post]").forEach((form) =>
  form.addEventListener("submit", () => setTimeout(() => form.querySelectorAll("button").forEach((b) => (b.disabled = true)))));

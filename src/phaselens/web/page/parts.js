// What all pages do alike. Text of models enters a document as text nodes only.

import { text } from "./colours.js";

export const $ = (id) => document.getElementById(id);

export function make(tag, className, content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  return node;
}

export function complain(message) {
  $("error").hidden = !message;
  $("error").textContent = message || "";
}

export async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if ($("bearer").value) headers.Authorization = `Bearer ${$("bearer").value}`;
  const answer = await fetch(path, { ...options, headers });
  if (!answer.ok) {
    if (answer.status === 401) $("bearer-field").hidden = false;
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error ? body.error.message : `the server answered ${answer.status}`);
  }
  return answer;
}

export function options(select, names, first) {
  const before = select.value;
  select.replaceChildren(...names.map(([value, label]) => {
    const one = make("option", "", label);
    one.value = value;
    return one;
  }));
  select.value = names.some(([value]) => value === before) ? before : first;
}

export const shownPiece = (piece, token) => (piece === null || piece === undefined ? `⟨${token}⟩` : piece === "" ? "▯" : piece);

export function legend(box, both, what) {
  box.querySelector(".low").textContent = both ? text(both[0]) : "";
  box.querySelector(".high").textContent = both ? text(both[1]) : "";
  box.querySelector(".what").textContent = [what.unit === "1" ? "" : what.unit, what.description].filter(Boolean).join(" · ");
}

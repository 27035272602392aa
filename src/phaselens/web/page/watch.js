// The page of `phaselens watch`. Text of models enters the document as text nodes only.

import { ends, isNumber, share, text } from "./colours.js";
import { curve, heatMap, ramp, ribbon, stepAt } from "./pictures.js";
import { $, ask, complain, legend, make, options, shownPiece } from "./parts.js";

const LETTERS = ["A", "B", "C", "D", "E"];
const PLAY_MS = 110, SPOKEN_EVERY = 24;

// The conversation so far, and what the answer that runs says.
let talk = [], answering = "";
let about = null, dynamics = null, steps = [], prompt = "", at = -1, follow = true, running = null, playing = 0, due = false;

function say(message) { $("status").textContent = message; }

// --- what is chosen --------------------------------------------------------------------------------------------------

function valueOf(step, key) {
  const [where, name] = key.split("/");
  if (where === "output") return step.output[name];
  return ((step.layers || {})[name] || [])[dynamics.layers.indexOf(dynamics.thresholds.layer)];
}

function described(key) {
  const [where, name] = key.split("/");
  return (where === "output" ? dynamics.output : dynamics.by_layer).find((one) => one.name === name) || { unit: "" };
}

function take(found) {
  dynamics = found;
  const layer = dynamics.thresholds.layer;
  const wide = dynamics.by_layer.map((one) => [`layer/${one.name}`, `${one.name} at layer ${layer}`]);
  options($("colour"), [...dynamics.output.map((one) => [`output/${one.name}`, one.name]), ...wide], "output/entropy");
  options($("shown"), dynamics.by_layer.map((one) => [one.name, one.name]), "instability");
  $("record").textContent = String(layer);
  if ($("gauges").childElementCount !== gauges().length) makeGauges();
  $("score-field").hidden = !dynamics.card;
  if (dynamics.card) $("score-name").textContent = `${dynamics.card.score} by step; the line is the card's threshold, ${text(dynamics.card.threshold)}: ${dynamics.card.above ? "above" : "below"} it a step alarms, from step ${dynamics.card.after} on.`;
  $("learned").textContent = `Thresholds (the marks): ${dynamics.thresholds.source}. ${dynamics.alarms || ""}`;
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function draw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; drawNow(); });
}

function drawNow() {
  if (!dynamics) return;
  drawTokens();
  drawGauges();
  ribbon($("ribbon"), steps, at);
  $("ribbon").setAttribute("aria-label", summary());
  const name = $("shown").value;
  const both = ends(steps.flatMap((step) => (step.layers || {})[name] || []));
  heatMap($("heat"), steps.map((step) => (step.layers || {})[name] || []), steps.map((step) => step.step), dynamics.layers, both, { step: at });
  legend($("map-legend"), both, dynamics.by_layer.find((one) => one.name === name));
  const range = both ? `from ${text(both[0])} to ${text(both[1])}` : "with no defined value";
  $("heat").setAttribute("aria-label", `${name}, ${dynamics.layers.length} layers by ${steps.length} steps, ${range}.`);
  drawValues();
}

const written = (step) => shownPiece(step.text, step.token);

function drawTokens() {
  const box = $("text"), key = $("colour").value, both = ends(steps.map((step) => valueOf(step, key)));
  if (!steps.length && !prompt) return;
  const pinned = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  if (box.dataset.prompt !== prompt || box.childElementCount > steps.length + 1) {
    box.replaceChildren(make("span", "given", prompt));
    box.dataset.prompt = prompt;
  }
  for (let i = box.childElementCount - 1; i < steps.length; i++) {
    const one = make("span", "token", written(steps[i]));
    one.dataset.step = String(i);
    box.append(one);
  }
  steps.forEach((step, i) => {
    const one = box.children[i + 1], v = valueOf(step, key);
    one.classList.toggle("unknown", !isNumber(v));
    one.classList.toggle("alarm", step.alarms.length > 0);
    one.classList.toggle("later", i > at);
    one.style.setProperty("--share", isNumber(v) ? share(v, both).toFixed(3) : "0");
    one.title = `step ${step.step}, ${key.split("/")[1]} ${text(v)}`;
    if (i === at) one.setAttribute("aria-current", "step"); else one.removeAttribute("aria-current");
  });
  legend($("colour-legend"), both, described(key));
  if (running && follow && pinned) box.scrollTop = box.scrollHeight;
}

const GAUGES = [
  { id: "commitment", name: "Commitment", unit: "nats", value: (s) => s.output.commitment, low: (all) => Math.min(-1, ...all), high: () => 0, limit: () => null },
  { id: "turbulence", name: "Turbulence", unit: "", value: (s) => s.turbulence, low: () => 0, high: () => 1, limit: (t) => t.turbulence },
  { id: "debt", name: "Instability debt", unit: "rad", value: (s) => s.instability_debt, low: () => 0, high: (all, t) => Math.max(0.1, 1.25 * (t.alarm || 0), ...all), limit: (t) => (dynamics.card ? null : t.alarm) },
];

// The score that a card follows, with its threshold; the debt alarms no more then.
const OF_CARD = {
  id: "card", unit: "", value: (s) => s.score, limit: () => dynamics.card.threshold,
  low: (all) => Math.min(dynamics.card.threshold, ...all) - 0.1 * Math.abs(dynamics.card.threshold),
  high: (all) => Math.max(dynamics.card.threshold, ...all) + 0.1 * Math.abs(dynamics.card.threshold),
};
const gauges = () => (dynamics && dynamics.card ? [...GAUGES, { ...OF_CARD, name: `${dynamics.card.score} (card)` }] : GAUGES);
const crossed = (gauge, v, limit) => (gauge.id === "card" && !dynamics.card.above ? v < limit : v > limit);

function makeGauges() {
  $("gauges").replaceChildren(...gauges().map((gauge) => {
    const box = make("div", "gauge"), row = make("div", "row"), name = make("span", "", gauge.name);
    name.id = `gauge-${gauge.id}`;
    row.append(name, make("span", "value", "–"));
    const track = make("div", "track");
    track.setAttribute("role", "meter");
    track.setAttribute("aria-labelledby", name.id);
    track.append(make("div", "fill"), make("div", "limit"));
    box.append(row, track);
    return box;
  }));
}

function drawGauges() {
  const step = steps[at], learned = dynamics.thresholds;
  gauges().forEach((gauge, k) => {
    const box = $("gauges").children[k], track = box.querySelector(".track"), fill = box.querySelector(".fill");
    const all = steps.map(gauge.value).filter(isNumber), v = step ? gauge.value(step) : null;
    const both = [gauge.low(all, learned), gauge.high(all, learned)], limit = gauge.limit(learned);
    const words = isNumber(v) ? `${text(v)}${gauge.unit ? ` ${gauge.unit}` : ""}` : step ? "undefined" : "–";
    box.querySelector(".value").textContent = words;
    fill.style.setProperty("--share", isNumber(v) ? Math.min(1, Math.max(0, share(v, both))).toFixed(3) : "0");
    fill.classList.toggle("high", isNumber(v) && isNumber(limit) && crossed(gauge, v, limit));
    const mark = box.querySelector(".limit");
    mark.hidden = !isNumber(limit);
    if (isNumber(limit)) mark.style.setProperty("--share", Math.min(0.995, Math.max(0, share(limit, both))).toFixed(3));
    track.setAttribute("aria-valuemin", String(both[0]));
    track.setAttribute("aria-valuemax", String(both[1]));
    track.setAttribute("aria-valuenow", String(isNumber(v) ? v : both[0]));
    track.setAttribute("aria-valuetext", isNumber(limit) ? `${words}, threshold ${text(limit)}` : words);
  });
  if (dynamics.card) curve($("score"), steps.map((one) => one.score), steps.map((one) => one.step), at, undefined, dynamics.card.threshold);
  const list = $("alarms"), told = steps.slice(0, at + 1).flatMap((one) => one.alarms);
  if (told.length < list.childElementCount) list.replaceChildren();
  told.slice(list.childElementCount).forEach((words) => list.append(make("li", "", words)));
  $("no-alarms").hidden = told.length > 0;
  $("at").textContent = step ? `${step.step} of 0–${steps[steps.length - 1].step}` : "–";
  $("scrub").max = String(Math.max(0, steps.length - 1));
  $("scrub").value = String(Math.max(0, at));
  $("scrub").disabled = $("play").disabled = steps.length === 0;
  if (step) $("scrub").setAttribute("aria-valuetext", `step ${step.step}, token ${written(step)}, state ${step.state || "undefined"}`);
}

function summary() {
  const counts = LETTERS.map((letter) => steps.filter((step) => step.state && step.state[0] === letter).length);
  const keys = dynamics.states.map((name, k) => {
    const item = make("li"), words = name.slice(2).toLowerCase().replaceAll("_", " ");
    const swatch = make("span", `swatch state-${LETTERS[k]}`);
    swatch.setAttribute("aria-hidden", "true");
    item.append(swatch, make("span", "", `${LETTERS[k]} ${words}`), make("span", "soft", String(counts[k])));
    return item;
  });
  $("state-keys").replaceChildren(...keys);
  return steps.length ? `States over ${steps.length} steps: ${LETTERS.map((l, k) => `${l} ${counts[k]}`).join(", ")}.` : "No steps yet.";
}

function drawValues() {
  const table = $("values"), step = steps[at];
  if (!table.closest("details").open || !step || !step.layers) return;
  const head = make("tr"), body = make("tbody"), heads = make("thead");
  head.append(make("th", "", "layer"), ...dynamics.by_layer.map((one) => make("th", "", one.name)));
  heads.append(head);
  dynamics.layers.forEach((layer, k) => {
    const row = make("tr"), name = make("th", "", String(layer));
    name.scope = "row";
    row.append(name, ...dynamics.by_layer.map((one) => make("td", "", text((step.layers[one.name] || [])[k]))));
    body.append(row);
  });
  table.replaceChildren(heads, body);
}

// --- doing -----------------------------------------------------------------------------------------------------------

function begin(newPrompt, found) {
  pause();
  steps = [];
  prompt = newPrompt;
  at = -1;
  follow = true;
  delete $("text").dataset.prompt;
  $("alarms").replaceChildren();
  take(found);
  complain("");
  draw();
}

function go(to, byHand) {
  at = Math.min(Math.max(to, 0), steps.length - 1);
  if (byHand) follow = at === steps.length - 1;
  draw();
}

function talks() { return about.template && (about.chat || $("as").value === "turn"); }

function showTalk() {
  $("talk").hidden = !about.template || about.chat;
  $("system-field").hidden = !talks() || talk.length > 0;
  $("prompt-name").textContent = !talks() ? "Text to go on with" : talk.length ? "Your next turn" : "Your turn";
  $("anew").hidden = !talk.length;
}

// The turns to send, with what is asked now; the system turn opens the conversation.
function turns() {
  const system = $("system").value.trim();
  const begun = talk.length || !system ? talk : [{ role: "system", content: system }];
  return [...begun, { role: "user", content: $("prompt").value }];
}

function arrived(event) {
  if (event.error) throw new Error(event.error.message);
  answering += ((event.choices || [])[0]?.delta || {}).content || "";
  if (!event.dynamics) return;
  steps.push(event.dynamics);
  if (follow) at = steps.length - 1;
  if (steps.length % SPOKEN_EVERY === 0) say(`Generating: ${steps.length} tokens.`);
  draw();
}

async function generate() {
  const stopper = new AbortController();
  running = stopper;
  const asked = talks() ? turns() : null;
  answering = "";
  begin(asked ? asked.map((turn) => `${turn.role}: ${turn.content}\n`).join("") + "assistant: " : $("prompt").value, about.dynamics);
  $("go").disabled = true;
  $("stop").disabled = false;
  say("Generating …");
  const request = { ...(asked ? { messages: asked } : { prompt }), stream: true, max_tokens: Number($("tokens").value), temperature: Number($("temperature").value), dynamics_layers: true };
  if ($("seed").value !== "") request.seed = Number($("seed").value);
  try {
    const answer = await ask(asked ? "v1/chat/completions" : "v1/completions", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request), signal: stopper.signal,
    });
    await read(answer.body);
    drawNow();  // what is said to be done is what is seen
    if (asked) {
      talk = [...asked, { role: "assistant", content: answering }];
      $("prompt").value = "";
      showTalk();
    }
    const alarms = steps.reduce((n, step) => n + step.alarms.length, 0);
    say(`Done: ${steps.length} tokens, ${alarms} ${alarms === 1 ? "alarm" : "alarms"}.`);
  } catch (error) {
    if (stopper.signal.aborted) say(`Stopped after ${steps.length} tokens.`);
    else { say(""); complain(error.message); }
  }
  running = null;
  $("go").disabled = false;
  $("stop").disabled = true;
}

async function read(body) {
  const reader = body.getReader(), decoder = new TextDecoder();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true });
    const events = held.split("\n\n");
    held = events.pop();
    for (const event of events) {
      const line = event.replace(/^data: /, "");
      if (line !== "[DONE]") arrived(JSON.parse(line));
    }
  }
}

async function loadRun() {
  if (running) running.abort();
  say("Loading …");
  try {
    const found = await (await ask(`api/runs/${$("runs").value}`)).json();
    begin(found.prompt || "", found.dynamics);
    steps = found.steps;
    go(0, true);
    const title = found.title;
    say(`Stored run: ${title.model}, ${title.prompt_id}, ${title.arm}, ${steps.length} steps. Move the slider, or press Play.`);
  } catch (error) { say(""); complain(error.message); }
}

function pause() {
  clearInterval(playing);
  playing = 0;
  $("play").textContent = "Play";
  $("play").setAttribute("aria-pressed", "false");
}

function play() {
  if (playing) { pause(); return; }
  if (at >= steps.length - 1) go(0, true);
  $("play").textContent = "Pause";
  $("play").setAttribute("aria-pressed", "true");
  playing = setInterval(() => {
    if (at >= steps.length - 1) { pause(); return; }
    go(at + 1, true);
  }, PLAY_MS);
}

async function open() {
  try {
    about = await (await ask("api/about")).json();
  } catch (error) { complain(error.message); return; }
  complain("");
  $("model").textContent = about.model;
  document.title = `${about.model} · phaselens watch`;
  $("facts").textContent = `${about.family}, ${about.n_layers} layers, lens at ${about.dynamics.lens_layers.length} of them`;
  $("tokens").max = String(about.limits.tokens);
  if (about.system) $("system").value = about.system;
  showTalk();
  take(about.dynamics);
  draw();
  if (!about.study || $("runs").childElementCount) return;
  const found = await (await ask("api/runs")).json();
  const label = (r) => `${r.model} · ${r.prompt_id} · ${r.arm} · ${r.sample}`;
  options($("runs"), found.runs.map((r) => [`${r.unit}/${r.run}`, label(r)]), found.runs.length ? `${found.runs[0].unit}/${found.runs[0].run}` : "");
  $("replay").hidden = false;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running && about) generate();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("as").addEventListener("change", showTalk);
$("anew").addEventListener("click", () => { talk = []; showTalk(); $("prompt").focus(); });
$("stop").addEventListener("click", () => running && running.abort());
$("bearer").addEventListener("change", open);
$("load").addEventListener("click", loadRun);
$("play").addEventListener("click", play);
$("scrub").addEventListener("input", () => go(Number($("scrub").value), true));
$("colour").addEventListener("change", draw);
$("shown").addEventListener("change", draw);
$("text").addEventListener("click", (event) => {
  if (event.target.dataset.step !== undefined) go(Number(event.target.dataset.step), true);
});
for (const id of ["heat", "ribbon"]) {
  $(id).addEventListener("click", (event) => {
    const step = stepAt($(id), event, steps.length);
    if (step >= 0) go(step, true);
  });
}
$("values").closest("details").addEventListener("toggle", draw);
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

makeGauges();
ramp(document.querySelector("#map-legend canvas"));
open();

// The page of `phaselens view`. Text of models enters the document as text nodes only. Its whole state is its address (after the #), so any sight can be linked and gone back to.

import { CIVIDIS, DIVERGING, ends, isNumber, share, text } from "./colours.js";
import { INKS, Paper, bands, binAt, curve, heatMap, layerAt, ramp, ribbon, stepAt, style } from "./pictures.js";
import { $, ask, complain, legend, make, options, shownPiece } from "./parts.js";

const VIEWS = ["runs", "one", "two", "many"], LETTERS = ["A", "B", "C", "D", "E"];
const DEFAULTS = { view: "runs", colour: "steps/surprisal", shown: "instability", curves: "entropy", axis: "depth", measure: "layers.entropy" };
const KEYS = [["1 2 3 4", "Runs, One run, Two runs, Many"], ["/", "search the texts"], ["← →", "a step back, a step on (one, two)"], ["↑ ↓", "a layer up, a layer down; a row up, a row down in the table"], ["Enter", "open the run of the row"], ["x", "mark a run; the second mark compares the two"], ["n p", "next, previous run of the list"], ["c", "colour the text by the next measure"], ["m", "show the next measure in the map"], ["s g e", "what is seen as SVG, as PNG, its numbers as CSV"], ["?", "this list"]];

const kept = $("data") && JSON.parse($("data").textContent);
const known = new Map();
let state = {}, about = null, one = null, two = [], list = null, spread = null, drawing = 0, wanted = 0;

// --- the state and where it stands -----------------------------------------------------------------------------------

const read = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });

function address(patch) {
  const all = { ...state, ...patch };
  const written = Object.entries(all).filter(([k, v]) => v !== undefined && v !== "" && String(v) !== String(DEFAULTS[k]));
  return `#${new URLSearchParams(written.map(([k, v]) => [k, String(v)]))}`;
}

function go(patch, { push = true } = {}) {
  const to = address(patch);
  if (to !== location.hash) history[push ? "pushState" : "replaceState"](null, "", to);
  return render();
}

const filters = () => Object.fromEntries(Object.entries(state).filter(([k, v]) => (k.startsWith("is.") || ["q", "where", "sort", "columns"].includes(k)) && v));
const extra = () => (state.columns || "").split(",").filter(Boolean);
const base = (name) => !name.includes("__");
const named = (columns) => [...columns.filter((c) => base(c.name)), ...columns.filter((c) => !base(c.name))].map((c) => [c.name, c.name.replace("__", " · ")]);

// --- where data comes from -------------------------------------------------------------------------------------------

async function get(path, params = {}) {
  if (kept) return fromKept(path, params);
  const url = `${path}?${new URLSearchParams(params)}`;
  if (!known.has(url)) {
    if (known.size > 60) known.delete(known.keys().next().value);
    const asked = ask(url).then((answer) => answer.json());
    known.set(url, asked);
    asked.catch(() => known.delete(url));
  }
  return known.get(url);
}

function fromKept(path, params) {
  const found = kept.runs.find((run) => String(run.run) === String(params.run));
  if (path === "api/about") return kept.about;
  if (path === "api/runs") return keptList(params);
  if (!found) throw new Error(`run ${params.run} is not in this file; it holds ${kept.runs.map((run) => run.run).join(", ")}.`);
  if (path === "api/run") return found;
  const step = found.step.indexOf(Number(params.step)), layer = found.layers.indexOf(Number(params.layer));
  return { values: Object.fromEntries(Object.entries(found.cells).map(([name, grid]) => [name, grid[step][layer]])), top: null };
}

function keptList(params) {
  const words = (params.q || "").toLowerCase();
  const rows = kept.runs.map((run) => ({ run: run.run, ...run.title, prompt: run.prompt, completion: run.completion || "" }));
  const found = rows.filter((row) => `${row.prompt}\n${row.completion}`.toLowerCase().includes(words)
    && Object.entries(params).every(([k, v]) => !k.startsWith("is.") || v.split("\x1f").includes(String(row[k.slice(3)] ?? "–"))));
  return { rows: params.size === 1 ? found.slice(params.page, params.page + 1) : found, n: found.length, all: rows.length, page: 0, size: found.length };
}

// --- the table of runs -----------------------------------------------------------------------------------------------

const FIXED = [["run", "run"], ["model", "model"], ["prompt_id", "prompt"], ["category", "category"], ["arm", "arm"], ["sample", "sample"], ["n_generated", "tokens"], ["correct", "answer"]];
const NUMERIC = new Set(["run", "sample", "n_generated", "n_prompt"]);

function columnsShown() {
  const rows = list.rows, empty = (name) => name !== "run" && rows.every((row) => row[name] === null || row[name] === "" || row[name] === undefined);
  return [...FIXED.filter(([name]) => !empty(name)), ...extra().map((name) => [name, name])];
}

function drawRuns() {
  const shown = columnsShown(), head = make("tr"), body = make("tbody"), heads = make("thead");
  for (const [name, words] of shown) {
    const cell = make("th", NUMERIC.has(name) || extra().includes(name) ? "num" : ""), sort = make("button", "", words);
    cell.scope = "col";
    const up = state.sort === name, down = state.sort === `-${name}`;
    if (up || down) cell.setAttribute("aria-sort", up ? "ascending" : "descending");
    sort.type = "button";
    sort.textContent = `${words}${up ? " ↑" : down ? " ↓" : ""}`;
    sort.addEventListener("click", () => go({ sort: down ? "" : up ? `-${name}` : name, page: 0 }));
    cell.append(sort);
    if (extra().includes(name)) {
      const drop = make("button", "drop", "×");
      drop.type = "button";
      drop.setAttribute("aria-label", `Take the column ${name} away`);
      drop.addEventListener("click", () => go({ columns: extra().filter((one) => one !== name).join(","), sort: "" }));
      cell.append(drop);
    }
    head.append(cell);
  }
  head.append(make("th", "", "text"));
  heads.append(head);
  list.rows.forEach((row, i) => body.append(drawRow(row, shown, list.page * list.size + i)));
  const held = document.activeElement?.closest("#table tr")?.dataset.run;
  $("table").replaceChildren(heads, body);
  if (held) $("table").querySelector(`tr[data-run="${held}"] a`)?.focus();
  $("count").textContent = list.n === list.all ? `${list.all.toLocaleString("en")} runs` : `${list.n.toLocaleString("en")} of ${list.all.toLocaleString("en")} runs`;
  const pages = Math.max(1, Math.ceil(list.n / (list.size || 1)));
  $("page").textContent = `Page ${(list.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
  $("back").disabled = list.page === 0;
  $("on").disabled = list.page >= pages - 1;
}

function drawRow(row, shown, place) {
  const line = make("tr", String(row.run) === state.mark ? "marked" : "");
  line.dataset.run = row.run;
  for (const [name] of shown) {
    const v = row[name], numeric = NUMERIC.has(name) || extra().includes(name);
    if (name === "run") {
      const cell = make("th", "num"), link = make("a", "", String(v));
      cell.scope = "row";
      link.href = address({ view: "one", run: v, at: place });
      link.setAttribute("aria-label", `Run ${v}: ${row.model}, ${row.prompt_id}`);
      cell.append(link);
      line.append(cell);
    } else if (name === "correct") line.append(make("td", v === true ? "right" : v === false ? "wrong" : "soft", v === true ? "right" : v === false ? "wrong" : "–"));
    else line.append(make("td", numeric ? "num" : "", numeric && isNumber(v) ? (Number.isInteger(v) ? String(v) : text(v)) : v === null || v === "" ? "–" : String(v)));
  }
  const said = make("td", "said");
  said.append(make("span", "given", row.prompt.length > 120 ? `…${row.prompt.slice(-119)}` : row.prompt), make("span", "", row.completion));
  line.append(said);
  return line;
}

function drawFilters() {
  if (document.activeElement !== $("q")) $("q").value = state.q || "";
  if (document.activeElement !== $("where")) $("where").value = state.where || "";
  const words = { "true": "right", "false": "wrong" };
  const count = Object.keys(about.facets).length;
  if ($("facets").childElementCount !== count) $("facets").replaceChildren(...Object.entries(about.facets).map(([name, values]) => {
    const label = make("label", "", { correct: "Answer" }[name] || name[0].toUpperCase() + name.slice(1)), select = make("select");
    select.id = `facet-${name}`;
    options(select, [["", "all"], ...Object.entries(values).map(([v, n]) => [v, `${name === "correct" ? words[v] || "no answer" : v} (${n.toLocaleString("en")})`])], "");
    select.addEventListener("change", () => go({ [`is.${name}`]: select.value, page: 0 }));
    label.append(select);
    return label;
  }));
  for (const name of Object.keys(about.facets)) $(`facet-${name}`).value = state[`is.${name}`] || "";
}

// --- one run ---------------------------------------------------------------------------------------------------------

// Where the address names no step: the first at which what the map shows is defined.
const begun = (run) => (run.cells[state.shown] || []).findIndex((column) => column.some(isNumber));
const place = (run) => ({ step: Math.min(Math.max(0, state.step === undefined ? begun(run) : run.step.indexOf(Number(state.step))), run.step.length - 1), layer: run.layers.indexOf(Number(state.layer)) });
// An answer in a conversation begins a line; a text that goes on joins its prompt.
const seam = (prompt, piece) => (prompt && piece && !/\s$/.test(prompt) && !/^\s/.test(piece) ? "\n" : "");

// l* = round(.75 L), halves to the even number as Python rounds, and below L as in watch.
const recordOf = (n, x = 0.75 * n, r = Math.round(x)) => Math.max(1, Math.min(x % 1 === 0.5 && r % 2 ? r - 1 : r, n - 1));

function cursor(run) {
  const at = place(run);
  if (at.layer < 0) at.layer = near(run, recordOf(run.n_layers) / run.n_layers);
  return at;
}

function valuesOf(run, key) {
  const [table, name] = key.split("/");
  if (table === "steps") return run.steps[name] || [];
  return (run.cells[name] || []).map((column) => column[cursor(run).layer]);
}

const factOf = (run, table, name) => run.columns[table].find((c) => c.name === name) || { name, unit: "", description: "" };

function drawText(box, run, key, at) {
  const name = key.split("/")[1], values = name ? valuesOf(run, key) : [], both = ends(values);
  if (box.dataset.of !== String(run.run)) {
    const pieces = run.pieces || run.token.map(() => null);
    box.replaceChildren(make("span", "given", run.prompt + seam(run.prompt, pieces[0])), ...pieces.map((piece, i) => {
      const one = make("span", "token", run.pieces ? shownPiece(piece, run.token[i]) : `⟨${run.token[i]}⟩ `);
      one.dataset.step = String(i);
      return one;
    }));
    if (!run.pieces && run.completion) box.append(make("span", "", `\n\n${run.completion}`));
    box.dataset.of = String(run.run);
  }
  run.token.forEach((token, i) => {
    const one = box.children[i + 1], v = values[i];
    if (!one) return;
    one.classList.toggle("unknown", Boolean(name) && !isNumber(v));
    one.style.setProperty("--share", isNumber(v) ? share(v, both).toFixed(3) : "0");
    one.title = `step ${run.step[i]}${name ? `, ${name} ${text(v)}` : ""}`;
    if (i === at) one.setAttribute("aria-current", "step"); else one.removeAttribute("aria-current");
  });
  const current = box.children[at + 1];
  if (current && (current.offsetTop < box.scrollTop || current.offsetTop > box.scrollTop + box.clientHeight - 30)) box.scrollTop = current.offsetTop - box.clientHeight / 2;
  return both;
}

function mapWords(run, name, both) {
  const range = both ? `from ${text(both[0])} to ${text(both[1])}` : "with no defined value";
  return `${name} of run ${run.run}, ${run.layers.length} layers by ${run.step.length} steps, ${range}. Arrow keys move the cursor.`;
}

function titleOf(run) {
  const t = run.title;
  return `${t.model} · ${t.prompt_id}`;
}

function factsOf(run) {
  const t = run.title, right = t.correct === true ? "right" : t.correct === false ? "wrong" : "";
  return [`run ${run.run}`, t.category, `arm ${t.arm}`, `sample ${t.sample}`, `${t.n_generated} tokens`, `ended by ${t.finish}`, right && `answer ${right}${t.answer ? ` (wanted ${t.answer})` : ""}`].filter(Boolean).join(" · ");
}

function choices(run) {
  options($("colour"), [["nothing/", "nothing"], ...named(run.columns.steps).map(([v, l]) => [`steps/${v}`, l]), ...named(run.columns.layers).map(([v, l]) => [`layers/${v}`, `${l} at the layer`])], state.colour);
  $("colour").value = state.colour;
  for (const id of ["shown", "two-shown"]) { options($(id), named(run.columns.layers), state.shown); $(id).value = state.shown; }
  options($("more"), [["", "a measure"], ...named(run.columns.steps)], "");
  $("more").value = "";
}

const curveNames = (run) => state.curves.split(",").filter((name) => run.steps[name]);
const stateRows = (run, layer) => run.step.map((_, i) => ({ state: run.states && isNumber(run.states.cells[i][layer]) ? run.states.names[run.states.cells[i][layer]] : null }));

function drawMap(canvas, run, name, both, at) {
  heatMap(canvas, run.cells[name] || [], run.step, run.layers, both, at);
}

function drawOne() {
  const run = one, at = cursor(run), name = state.shown, both = ends((run.cells[name] || []).flat());
  choices(run);
  $("one-name").textContent = titleOf(run);
  document.title = `${titleOf(run)} · phaselens view`;
  $("one-facts").textContent = factsOf(run);
  const ground = drawText($("one-text"), run, state.colour, at.step);
  const [table, column] = state.colour.split("/");
  legend($("colour-legend"), ground, column ? factOf(run, table, column) : { unit: "", description: "" });
  drawMap($("one-map"), run, name, both, at);
  $("one-map").setAttribute("aria-label", mapWords(run, name, both));
  legend($("map-legend"), both, factOf(run, "layers", name));
  $("record").textContent = String(run.layers[at.layer]);
  const letters = stateRows(run, at.layer);
  ribbon($("ribbon"), letters, at.step);
  $("ribbon").hidden = $("state-keys").hidden = !run.states;
  $("state-source").textContent = run.states ? run.states.source : "The columns that states are read from were not recorded.";
  if (run.states) drawKeys(run, letters);
  drawCurves(run, at);
  if (!kept) $("compare").hidden = false;
}

function drawKeys(run, letters) {
  const counts = LETTERS.map((l) => letters.filter((s) => s.state && s.state[0] === l).length);
  $("ribbon").setAttribute("aria-label", `States over ${letters.length} steps: ${LETTERS.map((l, k) => `${l} ${counts[k]}`).join(", ")}.`);
  $("state-keys").replaceChildren(...run.states.names.map((name, k) => {
    const item = make("li"), swatch = make("span", `swatch state-${LETTERS[k]}`);
    swatch.setAttribute("aria-hidden", "true");
    item.append(swatch, make("span", "", `${LETTERS[k]} ${name.slice(2).toLowerCase().replaceAll("_", " ")}`), make("span", "soft", String(counts[k])));
    return item;
  }));
}

function drawCurves(run, at) {
  const names = curveNames(run);
  if ($("curves").dataset.of !== names.join()) {
    $("curves").replaceChildren(...names.map((name) => {
      const box = make("div", "curve"), row = make("div", "row"), head = make("span"), drop = make("button", "", "×"), fact = factOf(run, "steps", name);
      head.append(make("b", "", name), make("span", "soft", ` ${fact.unit === "1" ? "" : fact.unit} · ${fact.description}`));
      drop.type = "button";
      drop.setAttribute("aria-label", `Take the curve of ${name} away`);
      drop.addEventListener("click", () => go({ curves: curveNames(one).filter((n) => n !== name).join(",") || "-" }));
      row.append(head, drop);
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      canvas.addEventListener("click", (event) => pick(event, canvas, one));
      box.append(row, canvas);
      return box;
    }));
    $("curves").dataset.of = names.join();
  }
  names.forEach((name, k) => {
    const canvas = $("curves").children[k].querySelector("canvas"), both = ends(run.steps[name]);
    curve(canvas, run.steps[name], run.step, at.step);
    canvas.setAttribute("aria-label", both ? `${name} over ${run.step.length} steps, from ${text(both[0])} to ${text(both[1])}, ${text(run.steps[name][at.step])} at the cursor.` : `${name}: no defined value.`);
  });
}

async function drawCell() {
  const run = one, at = cursor(run), step = run.step[at.step], layer = run.layers[at.layer];
  $("cell-name").textContent = `Step ${step}, layer ${layer}`;
  const word = run.pieces ? JSON.stringify(run.pieces[at.step]) : `⟨${run.token[at.step]}⟩`;
  const held = run.states && run.states.cells[at.step][at.layer];
  const name = isNumber(held) ? run.states.names[held].slice(2).toLowerCase().replaceAll("_", " ") : "undefined";
  $("cell-state").textContent = `token ${word}${run.states ? `, state: ${isNumber(held) ? `${LETTERS[held]} ` : ""}${name}` : ""}`;
  const v = (run.cells[state.shown] || [])[at.step]?.[at.layer];
  $("spoken").textContent = `Step ${step}, token ${word}, layer ${layer}: ${state.shown} ${text(v)}, ${$("cell-state").textContent}`;
  const found = await get("api/cell", { run: run.run, step, layer });
  if (one !== run || cursor(one).step !== at.step || cursor(one).layer !== at.layer) return;
  const row = (fact, value, first) => {
    const line = make("tr"), head = make("th", "", fact.name), unit = make("td", "", fact.unit === "1" ? "" : fact.unit);
    head.scope = "row";
    line.title = fact.description;
    head.append(make("span", "soft", fact.description));
    line.append(head, make("td", "", text(value)), unit);
    if (first) head.style.fontWeight = "700";
    return line;
  };
  const body = make("tbody");
  for (const fact of run.columns.layers) if (base(fact.name) && fact.name in found.values) body.append(row(fact, found.values[fact.name], fact.name === state.shown));
  for (const fact of run.columns.steps) if (base(fact.name)) body.append(row({ ...fact, name: `output ${fact.name}` }, run.steps[fact.name][at.step]));
  $("cell-values").replaceChildren(body);
  $("top").hidden = !found.top;
  $("no-top").textContent = found.top || kept ? "" : "Start with --model and the model of this run: the ten likeliest tokens under the lens then stand here.";
  $("top-list").replaceChildren(...(found.top || []).map((one) => {
    const item = make("li");
    item.append(make("code", "", one.text === "" ? `⟨${one.token}⟩` : one.text.replaceAll("\n", "↵")), document.createTextNode(` ${text(one.p)}`));
    return item;
  }));
}

// --- two runs --------------------------------------------------------------------------------------------------------

const near = (run, depth) => run.layers.reduce((best, l, k) => (Math.abs(l / run.n_layers - depth) < Math.abs(run.layers[best] / run.n_layers - depth) ? k : best), 0);

// Cell by cell where both have the same layers; else at the nearest layers of 21 relative depths.
function difference(a, b, name) {
  const n = Math.min(a.step.length, b.step.length), same = a.n_layers === b.n_layers && a.layers.join() === b.layers.join();
  const rows = same ? a.layers.map((_, k) => [k, k]) : Array.from({ length: 21 }, (_, k) => [near(a, k / 20), near(b, k / 20)]);
  const labels = same ? a.layers : rows.map((_, k) => (k / 20).toFixed(2));
  const of = (run, i, k) => (run.cells[name] || [])[i]?.[k];
  const columns = Array.from({ length: n }, (_, i) => rows.map(([p, q]) => {
    const [x, y] = [of(a, i, p), of(b, i, q)];
    return isNumber(x) && isNumber(y) ? x - y : null;
  }));
  const most = Math.max(...(ends(columns.flat()) || [0, 0]).map(Math.abs));
  return { columns, labels, same, steps: a.step.slice(0, n), both: [-most, most] };
}

function drawTwo() {
  const name = state.shown, both = ends(two.flatMap((run) => (run ? (run.cells[name] || []).flat() : [])));
  const panels = document.querySelectorAll("#two .panel");
  $("run-a").value = state.run ?? "";
  $("run-b").value = state.other ?? "";
  panels.forEach((panel, k) => {
    const run = two[k], canvas = panel.querySelector("canvas");
    panel.querySelector(".facts").textContent = run ? `${titleOf(run)} · ${factsOf(run)}` : "Choose a run: its number stands in the list.";
    canvas.hidden = !run;
    if (!run) { panel.querySelector(".text").replaceChildren(); delete panel.querySelector(".text").dataset.of; return; }
    if (k === 0) choices(run);
    const at = cursor(run);
    drawText(panel.querySelector(".text"), run, state.colour, at.step);
    drawMap(canvas, run, name, both, at);
    canvas.setAttribute("aria-label", mapWords(run, name, both));
  });
  legend($("two-legend"), both, two[0] ? factOf(two[0], "layers", name) : { unit: "", description: "" });
  const whole = two[0] && two[1];
  $("difference").hidden = $("difference-legend").hidden = !whole;
  if (!whole) return;
  const found = difference(...two, name), at = cursor(two[0]);
  heatMap($("difference"), found.columns, found.steps, found.labels, found.both, { step: at.step }, DIVERGING);
  legend($("difference-legend"), found.both, { unit: factOf(two[0], "layers", name).unit, description: `${name}, first less second` });
  $("difference-what").textContent = found.same ? "cell by cell" : "the models differ in layers: by relative depth, nearest layers";
  $("difference").setAttribute("aria-label", `Difference of ${name}, from ${text(found.both[0])} to ${text(found.both[1])}.`);
  const told = two.map((run) => {
    const here = cursor(run);
    return `${run.title.model}: ${run.pieces ? JSON.stringify(run.pieces[here.step]) : `⟨${run.token[here.step]}⟩`} ${name} ${text((run.cells[name] || [])[here.step]?.[here.layer])} at layer ${run.layers[here.layer]}`;
  });
  $("two-cursor").textContent = $("spoken").textContent = `Step ${two[0].step[at.step]}. ${told.join("; ")}`;
}

// --- many runs -------------------------------------------------------------------------------------------------------

function drawMany() {
  const layers = about.columns.layers.map((c) => [`layers.${c.name}`, c.name.replace("__", " · ")]), steps = about.columns.steps.map((c) => [c.name, `output ${c.name.replace("__", " · ")}`]);
  options($("measure"), state.axis === "depth" ? layers : [...layers, ...steps], state.measure);
  $("measure").value = state.measure;
  $("axis").value = state.axis;
  options($("by"), [["", "nothing"], ...Object.keys(about.facets).map((n) => [n, { correct: "right or wrong" }[n] || n]), ["collapsed", "collapsed"]], "");
  $("by").value = state.by || "";
  const both = bands($("bands"), spread.groups, spread.axis, state.bin === undefined ? -1 : Number(state.bin));
  const names = { "true": state.by === "correct" ? "right" : "yes", "false": state.by === "correct" ? "wrong" : "no" };
  $("many-name").textContent = `${state.measure.replace("layers.", "")} over ${spread.groups.reduce((n, g) => n + g.n, 0).toLocaleString("en")} runs`;
  $("bands").setAttribute("aria-label", both ? `${state.measure} by ${state.axis}: ${spread.groups.map((g) => { const line = g.quantiles[2].filter(isNumber); return `${g.name}, median from ${text(line[0])} to ${text(line[line.length - 1])}`; }).join("; ")}. Arrow keys choose a place, Enter lists its runs.` : "No defined value.");
  $("groups").replaceChildren(...spread.groups.map((group, k) => {
    const item = make("li"), swatch = make("span", "swatch ink");
    swatch.style.background = style(INKS[k % INKS.length]);
    item.append(swatch, make("span", "", names[group.name] || group.name), make("span", "soft", `${group.n.toLocaleString("en")} runs`));
    return item;
  }), ...(spread.left_out ? [make("li", "soft", `and ${spread.left_out} more groups, of no more runs each`)] : []));
}

const binName = (bin) => `${state.measure}@${state.axis === "depth" ? "" : "s"}${bin}`;
const listBin = (bin) => go({ view: "runs", columns: [...new Set([...extra(), binName(bin)])].join(","), sort: `-${binName(bin)}`, page: 0, bin });

// --- drawing what the address says -----------------------------------------------------------------------------------

async function render() {
  state = read();
  const ticket = ++wanted;
  try {
    if (!about) await begin();
    if (!VIEWS.includes(state.view)) state.view = "runs";
    complain("");
    if (state.view === "runs") list = await get("api/runs", { ...filters(), page: state.page || 0 });
    if (state.view === "one") one = await get("api/run", { run: state.run ?? kept?.runs[0].run ?? 0, cells: cellsAsked() });
    if (state.view === "two") {
      const first = state.run === undefined || state.other === undefined ? (await get("api/runs", { ...filters(), size: 2, page: 0 })).rows.map((row) => row.run) : [];
      state.run ??= first.find((run) => String(run) !== String(state.other));
      state.other ??= first.find((run) => String(run) !== String(state.run));
      two = await Promise.all([state.run, state.other].map((run) => (run === undefined || run === "" ? null : get("api/run", { run, cells: cellsAsked() }))));
    }
    if (state.view === "many") spread = await get("api/many", { ...filters(), column: state.measure, axis: state.axis, by: state.by || "" });
  } catch (error) { if (ticket === wanted) complain(error.message); return; }
  if (ticket !== wanted) return;
  for (const view of VIEWS) $(view).hidden = view !== state.view;
  document.querySelectorAll("#tabs a").forEach((tab) => {
    tab.href = address({ view: tab.dataset.view });
    if (tab.dataset.view === state.view) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
  });
  if (state.view !== "one") document.title = `${about.folders.join(", ")} · phaselens view`;
  draw();
}

const cellsAsked = () => [state.shown, state.colour.startsWith("layers/") ? state.colour.slice(7) : ""].filter(Boolean).join(",");

function draw() {
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(() => {
    // The view may have changed since this was asked for, and what it shows may still be on its way.
    if (!about || !{ runs: list, one, two: two.length, many: spread }[state.view]) return;
    if (state.view === "runs") { drawFilters(); drawRuns(); }
    if (state.view === "one") { drawOne(); drawCell().catch((error) => complain(error.message)); }
    if (state.view === "two") drawTwo();
    if (state.view === "many") drawMany();
    document.body.dataset.drawn = state.view;
  });
}

async function begin() {
  about = await get("api/about");
  if (about.columns.layers.length && !about.columns.layers.some((c) => c.name === DEFAULTS.shown)) DEFAULTS.shown = about.columns.layers[0].name;
  if (!about.columns.layers.some((c) => `layers.${c.name}` === DEFAULTS.measure)) DEFAULTS.measure = `layers.${DEFAULTS.shown}`;
  if (!about.columns.steps.some((c) => `steps/${c.name}` === DEFAULTS.colour)) DEFAULTS.colour = about.columns.steps.length ? `steps/${about.columns.steps[0].name}` : `layers/${DEFAULTS.shown}`;
  state = read();
  $("name").textContent = about.folders.join(", ");
  const measures = [...about.columns.steps.map((c) => c.name), ...about.columns.layers.map((c) => `layers.${c.name}`)];
  $("measures").replaceChildren(...measures.map((name) => { const one = make("option"); one.value = `${name}>`; return one; }));
  options($("add"), [["", "choose"], ["collapsed", "collapsed"], ["unit", "unit behind the prompt"], ["finish", "finish"], ["answer", "wanted answer"], ["tag", "tag"], ...measures.map((name) => [name, name.replace("__", " · ")])], "");
  if (kept) { document.querySelector('[data-view="many"]').remove(); $("where").closest("label").hidden = $("add").closest("label").hidden = $("where-hint").hidden = true; }
}

// --- what is done to it ----------------------------------------------------------------------------------------------

function pick(event, canvas, run) {
  const step = stepAt(canvas, event, run.step.length), layer = layerAt(canvas, event, run.layers.length);
  if (step >= 0) go({ step: run.step[step], ...(layer >= 0 && canvas.dataset.flat === undefined ? { layer: run.layers[layer] } : {}) }, { push: false });
}

function move(steps, layers) {
  const run = state.view === "two" ? two.find(Boolean) : one;
  if (!run) return;
  const at = cursor(run), clip = (v, n) => Math.min(Math.max(v, 0), n - 1);
  go({ step: run.step[clip(at.step + steps, run.step.length)], layer: run.layers[clip(at.layer + layers, run.layers.length)] }, { push: false });
}

async function neighbour(by) {
  const at = Math.max(0, Number(state.at ?? state.run ?? 0) + by);
  const found = await get("api/runs", { ...filters(), size: 1, page: at });
  if (found.rows.length) go({ run: found.rows[0].run, at: kept ? Math.min(at, found.n - 1) : found.page });
}

function mark(run) {
  if (run === undefined) return;
  if (state.mark === undefined || state.mark === String(run)) { go({ mark: state.mark === String(run) ? "" : run, ...(state.view === "one" ? { view: "runs" } : {}) }); return; }
  go({ view: "two", run: state.mark, other: run, mark: "" });
}

function cycle(select, key) {
  const values = [...select.options].map((one) => one.value).filter(Boolean), at = values.indexOf(state[key]);
  go({ [key]: values[(at + 1) % values.length] }, { push: false });
}

function rowBy(by) {
  const links = [...document.querySelectorAll("#table tbody a")], at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
}

const running = () => state.view === "one" || state.view === "two";
const DOES = {
  "/": () => go({ view: "runs" }).then(() => $("q").focus()), "?": () => $("help").showModal(),
  ArrowLeft: () => running() ? move(-1, 0) : chooseBin(-1), ArrowRight: () => running() ? move(1, 0) : chooseBin(1),
  ArrowUp: () => running() ? move(0, 1) : rowBy(-1), ArrowDown: () => running() ? move(0, -1) : rowBy(1),
  n: () => neighbour(1), p: () => neighbour(-1), c: () => running() && cycle($("colour"), "colour"), m: () => running() && cycle($("shown"), "shown"),
  x: () => mark(state.view === "one" ? one.run : document.activeElement?.closest("tr")?.dataset.run), s: () => save("svg"), g: () => save("png"), e: () => save("csv"),
  Enter: () => state.view === "many" && state.bin !== undefined && listBin(state.bin),
};
VIEWS.forEach((view, k) => { DOES[k + 1] = () => go({ view }); });

function chooseBin(by) {
  if (state.view === "many" && spread) go({ bin: Math.min(Math.max(Number(state.bin ?? -1) + by, 0), spread.axis.length - 1) }, { push: false });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || event.target.closest("input, select, textarea")) return;
  if (event.key === "Enter" && event.target.closest("a, button")) return;
  if (event.key.startsWith("Arrow") && event.target.closest(".scroll") && !event.target.closest("#table")) return;
  const does = DOES[event.key];
  if (!does) return;
  event.preventDefault();
  Promise.resolve(does()).catch((error) => complain(error.message));
});

// --- what is seen, to keep -------------------------------------------------------------------------------------------

function sheet() {
  const wide = Math.max(600, Math.min(1400, $("main").clientWidth)), parts = [];
  const put = (title, drawn) => { const paper = new Paper(wide); drawn(paper); parts.push([title, paper]); };
  if (state.view === "one") {
    const both = ends((one.cells[state.shown] || []).flat()), at = cursor(one), unit = factOf(one, "layers", state.shown).unit;
    put(`${titleOf(one)}: ${state.shown} (${unit}), ${both ? `${text(both[0])} to ${text(both[1])}` : "undefined"}, layer by step`, (paper) => drawMap(paper, one, state.shown, both, at));
    if (one.states) put(`State at layer ${one.layers[at.layer]}`, (paper) => ribbon(paper, stateRows(one, at.layer), at.step));
    for (const name of curveNames(one)) put(`${name} (${factOf(one, "steps", name).unit}) by step`, (paper) => curve(paper, one.steps[name], one.step, at.step));
  } else if (state.view === "two") {
    const both = ends(two.flatMap((run) => (run ? (run.cells[state.shown] || []).flat() : [])));
    for (const run of two.filter(Boolean)) put(`${titleOf(run)}, run ${run.run}: ${state.shown}`, (paper) => drawMap(paper, run, state.shown, both, cursor(run)));
    if (two[0] && two[1]) { const d = difference(...two, state.shown); put("first less second", (paper) => heatMap(paper, d.columns, d.steps, d.labels, d.both, {}, DIVERGING)); }
  } else if (state.view === "many") put(`${state.measure} by ${state.axis}: ${spread.groups.map((g) => g.name).join(", ")}`, (paper) => bands(paper, spread.groups, spread.axis, -1));
  if (!parts.length) throw new Error("the table has no picture: its numbers go to CSV (e).");
  let y = 8, body = "";
  for (const [title, paper] of parts) {
    const words = new Paper(wide);
    Object.assign(words, { fillStyle: style("--ink"), textAlign: "left" });
    words.fillText(title, 4, 14);
    const high = parseFloat(paper.style.height) || 0;
    body += `<g transform="translate(0 ${y})">${words.parts.join("")}<g transform="translate(0 20)">${paper.parts.join("")}</g></g>`;
    y += high + 34;
  }
  return [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${wide} ${y}" width="${wide}" height="${y}" font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="${style("--paper")}"/>${body}</svg>\n`, wide, y];
}

function table() {
  if (state.view === "runs") { const names = [...columnsShown().map(([name]) => name), "prompt", "completion"]; return [names, ...list.rows.map((row) => names.map((name) => row[name]))]; }
  if (state.view === "many") return [["group", "runs", state.axis, "q05", "q25", "median", "q75", "q95"], ...spread.groups.flatMap((g) => spread.axis.map((x, i) => [g.name, g.n, x, ...g.quantiles.map((line) => line[i])]))];
  const runs = state.view === "one" ? [one] : two.filter(Boolean), own = state.view === "one" ? curveNames(one) : [];
  return [["run", "step", "token", "text", "layer", state.shown, ...own.map((n) => `output_${n}`)], ...runs.flatMap((run) => run.step.flatMap((step, i) => run.layers.map((layer, k) => [run.run, step, run.token[i], run.pieces ? run.pieces[i] : "", layer, (run.cells[state.shown] || [])[i]?.[k], ...own.map((n) => run.steps[n][i])])))];
}

// A cell that a spreadsheet would take for a formula is said to be text.
function written(v) {
  const words = v === null || v === undefined ? "" : String(v), safe = typeof v === "string" && /^[=+\-@\t\r]/.test(words) ? `'${words}` : words;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

async function save(kind) {
  complain("");
  const name = `phaselens-${state.view}${running() ? `-${[state.run ?? 0, state.view === "two" ? state.other : ""].filter((x) => x !== "").join("-")}` : ""}.${kind}`;
  let blob;
  if (kind === "csv") blob = new Blob([table().map((row) => `${row.map(written).join(",")}\n`).join("")], { type: "text/csv" });
  else {
    const [svg, wide, high] = sheet();
    blob = kind === "svg" ? new Blob([svg], { type: "image/svg+xml" }) : await painted(svg, wide, high);
  }
  const link = make("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  document.body.dataset.saved = `${name} ${blob.size}`;
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function painted(svg, wide, high) {
  const image = new Image(), canvas = make("canvas");
  image.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  await image.decode();
  canvas.width = wide * 2;
  canvas.height = high * 2;
  canvas.getContext("2d").drawImage(image, 0, 0, wide * 2, high * 2);
  URL.revokeObjectURL(image.src);
  return new Promise((done) => { canvas.toBlob(done, "image/png"); });
}

// --- wiring ----------------------------------------------------------------------------------------------------------

const failing = (does) => (...given) => Promise.resolve().then(() => does(...given)).catch((error) => complain(error.message));
for (const kind of ["svg", "png", "csv"]) $(kind).addEventListener("click", failing(() => save(kind)));
$("keys").addEventListener("click", () => $("help").showModal());
$("help-list").replaceChildren(...KEYS.flatMap(([key, words]) => { const term = make("dt"); term.append(...key.split(" ").flatMap((k) => [make("kbd", "", k), " "])); return [term, make("dd", "", words)]; }));
$("filters").addEventListener("submit", (event) => { event.preventDefault(); go({ q: $("q").value, where: $("where").value, page: 0 }); });
let typing = 0;
$("q").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => go({ q: $("q").value, page: 0 }, { push: false }), 250); });
$("clear").addEventListener("click", () => { $("q").value = $("where").value = ""; go({ ...Object.fromEntries(Object.keys(filters()).map((k) => [k, ""])), page: 0 }); });
$("add").addEventListener("change", () => { const name = $("add").value; $("add").value = ""; if (name) go({ columns: [...new Set([...extra(), name])].join(",") }); });
$("back").addEventListener("click", () => go({ page: list.page - 1 }));
$("on").addEventListener("click", () => go({ page: list.page + 1 }));
$("former").addEventListener("click", failing(() => neighbour(-1)));
$("next").addEventListener("click", failing(() => neighbour(1)));
$("compare").addEventListener("click", () => mark(one.run));
$("colour").addEventListener("change", () => go({ colour: $("colour").value }, { push: false }));
for (const id of ["shown", "two-shown"]) $(id).addEventListener("change", () => go({ shown: $(id).value }, { push: false }));
$("more").addEventListener("change", () => { if ($("more").value) go({ curves: [...new Set([...curveNames(one), $("more").value])].join(",") }, { push: false }); });
for (const [id, key] of [["run-a", "run"], ["run-b", "other"]]) $(id).addEventListener("change", () => go({ [key]: $(id).value }));
for (const id of ["measure", "by"]) $(id).addEventListener("change", () => go({ [id]: $(id).value, bin: undefined }));
$("axis").addEventListener("change", () => go({ axis: $("axis").value, bin: undefined, ...($("axis").value === "depth" && !state.measure.startsWith("layers.") ? { measure: DEFAULTS.measure } : {}) }));
$("one-map").addEventListener("click", (event) => pick(event, $("one-map"), one));
$("ribbon").dataset.flat = "";
$("ribbon").addEventListener("click", (event) => pick(event, $("ribbon"), one));
document.querySelectorAll("#two .panel").forEach((panel, k) => panel.querySelector("canvas").addEventListener("click", (event) => pick(event, panel.querySelector("canvas"), two[k])));
$("bands").addEventListener("click", (event) => { const bin = binAt($("bands"), event, spread.axis.length); if (bin >= 0) listBin(bin); });
for (const box of document.querySelectorAll(".text")) box.addEventListener("click", (event) => {
  const run = box.id === "one-text" ? one : two[[...document.querySelectorAll("#two .text")].indexOf(box)];
  if (run && event.target.dataset.step !== undefined) go({ step: run.step[Number(event.target.dataset.step)] }, { push: false });
});
$("bearer").addEventListener("change", render);
addEventListener("popstate", render);
addEventListener("hashchange", render);
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.querySelectorAll("canvas.ramp").forEach((canvas) => ramp(canvas, canvas.closest("#difference-legend") ? DIVERGING : CIVIDIS));
render();

// One run in a notebook: text and heat map on one cursor.

import { ends, isNumber, share, text } from "./colours.js";
import { drawOn, heatMap, layerAt, ramp, stepAt } from "./pictures.js";
import { legend, make, options, shownPiece } from "./parts.js";

function render({ model, el }) {
  const run = model.get("data"), names = Object.keys(run.cells);
  const box = make("div", "phaselens"), row = make("p", "legend"), low = make("span", "low"), high = make("span", "high"), what = make("span", "what");
  const bar = make("canvas"), select = make("select"), said = make("div", "text"), map = make("canvas"), here = make("p", "here");
  let step = 0, layer = Math.round(0.75 * (run.layers.length - 1));
  bar.width = 128; bar.height = 1; bar.className = "ramp";
  select.setAttribute("aria-label", "Measure");
  options(select, names.map((name) => [name, name]), run.shown);
  row.append(select, low, bar, high, what);
  said.append(...run.token.map((token, i) => { const one = make("span", "token", shownPiece(run.pieces[i], token)); one.addEventListener("click", () => { step = i; draw(); }); return one; }));
  map.setAttribute("role", "img");
  map.tabIndex = 0;
  here.setAttribute("role", "status");
  box.append(row, said, map, here);
  el.append(box);
  ramp(bar);
  function draw() {
    drawOn(box);
    const name = select.value, grid = run.cells[name], both = ends(grid.flat());
    heatMap(map, grid, run.step, run.layers, both, { step, layer });
    legend(row, both, run.columns.find((one) => one.name === name));
    run.token.forEach((_, i) => {
      const v = grid[i][layer], one = said.children[i];
      one.style.setProperty("--share", isNumber(v) ? share(v, both).toFixed(3) : "0");
      if (i === step) one.setAttribute("aria-current", "step"); else one.removeAttribute("aria-current");
    });
    here.textContent = `step ${run.step[step]}, layer ${run.layers[layer]}: ${name} ${text(grid[step][layer])}`;
    map.setAttribute("aria-label", `${name}, ${run.layers.length} layers by ${run.step.length} steps; arrow keys move the cursor. ${here.textContent}`);
  }
  const clip = (v, n) => Math.min(Math.max(v, 0), n - 1);
  map.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    step = clip(step + by[0], run.step.length);
    layer = clip(layer + by[1], run.layers.length);
    draw();
  });
  map.addEventListener("click", (event) => {
    const at = [stepAt(map, event, run.step.length), layerAt(map, event, run.layers.length)];
    if (at[0] >= 0) [step, layer] = [at[0], at[1] >= 0 ? at[1] : layer];
    draw();
  });
  select.addEventListener("change", draw);
  const seen = new ResizeObserver(draw);
  seen.observe(box);
  return () => seen.disconnect();
}

export default { render };

// The pictures: heat map of layers by steps, ribbon of states, curves, bands. Each is drawn with the few calls of a
// canvas, on a canvas or on a `Paper`, which writes the same picture as SVG.

import { CIVIDIS, DIVERGING, colour, ends, isNumber, share, text } from "./colours.js";

const LEFT = 44, BOTTOM = 20, WIDEST = 18;
const FONT = "11px system-ui, sans-serif";
const escaped = (words) => String(words).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

export class Paper {
  constructor(width) {
    Object.assign(this, { clientWidth: width, style: {}, width: 0, height: 0, parts: [], path: "", globalAlpha: 1 });
  }
  getContext() { return this; }
  setTransform() {}
  clearRect() {}
  beginPath() { this.path = ""; }
  closePath() { this.path += "Z"; }
  moveTo(x, y) { this.path += `M${x.toFixed(1)} ${y.toFixed(1)}`; }
  lineTo(x, y) { this.path += `L${x.toFixed(1)} ${y.toFixed(1)}`; }
  box(x, y, w, h, paint) { this.parts.push(`<rect x="${x.toFixed(2)}" y="${y.toFixed(2)}" width="${w.toFixed(2)}" height="${h.toFixed(2)}" opacity="${this.globalAlpha}" ${paint}/>`); }
  fillRect(x, y, w, h) { this.box(x, y, w, h, `fill="${this.fillStyle}"`); }
  strokeRect(x, y, w, h) { this.box(x, y, w, h, `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"`); }
  stroke() { this.parts.push(`<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"/>`); }
  fill() { this.parts.push(`<path d="${this.path}" fill="${this.fillStyle}" opacity="${this.globalAlpha}"/>`); }
  fillText(words, x, y) {
    const anchor = { center: "middle", right: "end" }[this.textAlign] || "start";
    this.parts.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" font-size="11" fill="${this.fillStyle}">${escaped(words)}</text>`);
  }
  toString() {
    const high = parseFloat(this.style.height) || 0;
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${this.clientWidth} ${high}" width="${this.clientWidth}" height="${high}" font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="${style("--paper")}"/>${this.parts.join("")}</svg>\n`;
  }
}

function prepared(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = FONT;
  return [pen, width];
}

let ground = document.documentElement;
export const drawOn = (element) => { ground = element; };  // whose colours are taken
export const style = (name) => getComputedStyle(ground).getPropertyValue(name).trim();

const pitch = (width, n) => Math.min(WIDEST, (width - LEFT - 2) / Math.max(n, 1));
const tallness = (n) => Math.max(3, Math.min(20, 320 / Math.max(n, 1)));

// Which step a place on a picture belongs to, or -1.
export function stepAt(canvas, event, n) {
  const box = canvas.getBoundingClientRect();
  const at = Math.floor((event.clientX - box.left - LEFT) / pitch(box.width, n));
  return at >= 0 && at < n ? at : -1;
}

// Which row of layers a place on a heat map belongs to, or -1.
export function layerAt(canvas, event, n) {
  const at = n - 1 - Math.floor((event.clientY - canvas.getBoundingClientRect().top) / tallness(n));
  return at >= 0 && at < n ? at : -1;
}

function marker(pen, x, y, wide, tall, width = 2) {
  pen.strokeStyle = style("--ink");
  pen.lineWidth = width;
  pen.strokeRect(x - 0.5, y, Math.max(wide, 2) + 1, tall);
}

export function ribbon(canvas, steps, at) {
  const height = 34, [pen, width] = prepared(canvas, height);
  const wide = pitch(width, steps.length);
  const dark = style("--paper"), ink = style("--ink");
  steps.forEach((step, i) => {
    const letter = step.state ? step.state[0] : "";
    pen.fillStyle = letter ? style(`--state-${letter.toLowerCase()}`) : style("--band");
    pen.fillRect(LEFT + i * wide, 4, wide > 4 ? wide - 1 : wide, height - 8);
    if (letter && wide >= 11) {
      pen.fillStyle = letter === "E" ? ink : dark;
      pen.font = `600 ${FONT}`;
      pen.textAlign = "center";
      pen.fillText(letter, LEFT + (i + 0.5) * wide - 0.5, height / 2 + 4);
    }
  });
  if (at >= 0 && steps.length) marker(pen, LEFT + at * wide, 1, wide, height - 2);
}

export function ramp(canvas, anchors = CIVIDIS) {
  const pen = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    pen.fillStyle = colour(x / (canvas.width - 1), anchors);
    pen.fillRect(x, 0, 1, 1);
  }
}

function stepMarks(pen, numbers, wide, y) {
  pen.fillStyle = style("--soft");
  pen.textAlign = "center";
  const every = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].find((n) => n * wide >= 30) || 1024;
  for (let i = 0; i < numbers.length; i += every) pen.fillText(String(numbers[i]), LEFT + (i + 0.5) * wide, y);
}

// `columns` hold one list over `layers` per step; `cursor` has a step and perhaps a layer, by their place.
export function heatMap(canvas, columns, numbers, layers, both, cursor = {}, anchors = CIVIDIS) {
  const tall = tallness(layers.length), high = tall * layers.length, [pen, width] = prepared(canvas, high + BOTTOM);
  const wide = pitch(width, columns.length), known = new Map();
  const painted = (v) => {
    const at = Math.round(share(v, both) * 255);
    if (!known.has(at)) known.set(at, colour(at / 255, anchors));
    return known.get(at);
  };
  pen.fillStyle = style("--band");
  if (columns.length) pen.fillRect(LEFT, 0, wide * columns.length, high);
  columns.forEach((column, i) => column.forEach((v, k) => {
    if (!isNumber(v) || !both) return;
    pen.fillStyle = painted(v);
    pen.fillRect(LEFT + i * wide, high - (k + 1) * tall, wide + 0.5, tall + 0.5);
  }));
  pen.fillStyle = style("--soft");
  pen.textAlign = "right";
  const stride = Math.ceil(13 / tall);
  layers.forEach((layer, k) => {
    if (k % stride === 0) pen.fillText(String(layer), LEFT - 6, high - (k + 0.5) * tall + 4);
  });
  stepMarks(pen, numbers, wide, high + 14);
  if (!(cursor.step >= 0) || !columns.length) return;
  marker(pen, LEFT + cursor.step * wide, 1, wide, high - 2, cursor.layer >= 0 ? 1 : 2);
  if (cursor.layer >= 0) marker(pen, LEFT + cursor.step * wide, high - (cursor.layer + 1) * tall, wide, tall, 2.5);
}

// One column over the steps, on the same ground as the heat map above it; gaps where it is undefined. A `limit` is a level line.
export function curve(canvas, values, numbers, at, ink = style("--accent"), limit = null) {
  const high = 56, [pen, width] = prepared(canvas, high + BOTTOM), both = ends(isNumber(limit) ? [...values, limit] : values), wide = pitch(width, values.length);
  const y = (v) => 4 + (1 - share(v, both)) * (high - 8);
  pen.fillStyle = style("--soft");
  pen.textAlign = "right";
  if (both) [both[0], both[1]].forEach((v) => pen.fillText(text(v), LEFT - 5, y(v) + (v === both[0] ? 2 : 7)));
  if (isNumber(limit)) {
    pen.strokeStyle = style("--amber");
    pen.lineWidth = 1.2;
    pen.beginPath();
    pen.moveTo(LEFT, y(limit));
    pen.lineTo(LEFT + Math.max(values.length, 1) * wide, y(limit));
    pen.stroke();
  }
  pen.strokeStyle = ink;
  pen.lineWidth = 1.6;
  pen.beginPath();
  values.forEach((v, i) => {
    if (!isNumber(v)) return;
    pen[i && isNumber(values[i - 1]) ? "lineTo" : "moveTo"](LEFT + (i + 0.5) * wide, y(v));
    if (!isNumber(values[i - 1]) && !isNumber(values[i + 1])) pen.lineTo(LEFT + (i + 0.5) * wide + 1.5, y(v));
  });
  pen.stroke();
  stepMarks(pen, numbers, wide, high + 14);
  if (at >= 0 && values.length) marker(pen, LEFT + at * wide, 1, wide, high - 2, 1);
}

export const INKS = ["--accent", "--state-b", "--state-c", "--state-d", "--amber", "--soft", "--ink"];
const ROOM = 260;

// Where a place on the bands lies, as a share of the axis.
export function binAt(canvas, event, n) {
  const box = canvas.getBoundingClientRect(), at = Math.floor((event.clientX - box.left - LEFT) / ((box.width - LEFT - 8) / n));
  return at >= 0 && at < n ? at : -1;
}

// Median and quantile bands of several groups: each has `name` and `quantiles` [5][bin].
export function bands(canvas, groups, axis, at) {
  const [pen, width] = prepared(canvas, ROOM + BOTTOM), n = axis.length, wide = (width - LEFT - 8) / Math.max(n, 1);
  const both = ends(groups.flatMap((group) => [...group.quantiles[0], ...group.quantiles[4]]));
  if (!both) return null;
  const x = (i) => LEFT + (i + 0.5) * wide, y = (v) => 6 + (1 - share(v, both)) * (ROOM - 12);
  pen.fillStyle = style("--soft");
  pen.strokeStyle = style("--rule");
  pen.lineWidth = 1;
  for (let k = 0; k <= 4; k++) {
    const v = both[0] + (both[1] - both[0]) * k / 4;
    pen.textAlign = "right";
    pen.fillText(text(v), LEFT - 5, y(v) + 4);
    pen.beginPath();
    pen.moveTo(LEFT, y(v));
    pen.lineTo(width - 8, y(v));
    pen.stroke();
  }
  pen.textAlign = "center";
  const every = Math.ceil(34 / wide);
  axis.forEach((words, i) => { if (i % every === 0) pen.fillText(words, x(i), ROOM + 14); });
  groups.forEach((group, g) => {
    const ink = style(INKS[g % INKS.length]), lines = group.quantiles;
    for (const [low, high, alpha] of [[0, 4, 0.12], [1, 3, 0.22]]) {
      const known = axis.map((_, i) => i).filter((i) => isNumber(lines[low][i]) && isNumber(lines[high][i]));
      if (!known.length) continue;
      pen.fillStyle = ink;
      pen.globalAlpha = alpha;
      pen.beginPath();
      known.forEach((i, k) => pen[k ? "lineTo" : "moveTo"](x(i), y(lines[high][i])));
      known.reverse().forEach((i) => pen.lineTo(x(i), y(lines[low][i])));
      pen.closePath();
      pen.fill();
      pen.globalAlpha = 1;
    }
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.beginPath();
    lines[2].flatMap((v, i) => (isNumber(v) ? [[x(i), y(v)]] : [])).forEach((place, k) => pen[k ? "lineTo" : "moveTo"](...place));
    pen.stroke();
  });
  if (at >= 0) marker(pen, LEFT + at * wide, 1, wide, ROOM - 2, 1);
  return both;
}

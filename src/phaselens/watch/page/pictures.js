// The two pictures on canvas: the ribbon of states, and the heat map of layers by steps.

import { CIVIDIS, colour, isNumber, share } from "./colours.js";

const LEFT = 34, BOTTOM = 20, WIDEST = 18;

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
  return [pen, width];
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const pitch = (width, n) => Math.min(WIDEST, (width - LEFT - 2) / Math.max(n, 1));

// Which step a place on a picture belongs to, or -1.
export function stepAt(canvas, event, n) {
  const box = canvas.getBoundingClientRect();
  const at = Math.floor((event.clientX - box.left - LEFT) / pitch(box.width, n));
  return at >= 0 && at < n ? at : -1;
}

function marker(pen, at, wide, height) {
  pen.strokeStyle = style("--ink");
  pen.lineWidth = 2;
  pen.strokeRect(LEFT + at * wide - 0.5, 1, Math.max(wide, 2) + 1, height - 2);
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
      pen.font = "600 11px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.fillText(letter, LEFT + (i + 0.5) * wide - 0.5, height / 2 + 4);
    }
  });
  if (at >= 0 && steps.length) marker(pen, at, wide, height);
}

export function ramp(canvas) {
  const pen = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    pen.fillStyle = colour(x / (canvas.width - 1), CIVIDIS);
    pen.fillRect(x, 0, 1, 1);
  }
}

export function heatMap(canvas, steps, layers, name, both, at) {
  const tall = Math.max(5, Math.min(20, 300 / layers.length));
  const high = tall * layers.length, [pen, width] = prepared(canvas, high + BOTTOM);
  const wide = pitch(width, steps.length);
  pen.fillStyle = style("--band");
  if (steps.length) pen.fillRect(LEFT, 0, wide * steps.length, high);
  steps.forEach((step, i) => {
    const column = (step.layers || {})[name] || [];
    column.forEach((v, k) => {
      if (!isNumber(v) || !both) return;
      pen.fillStyle = colour(share(v, both), CIVIDIS);
      pen.fillRect(LEFT + i * wide, high - (k + 1) * tall, wide + 0.5, tall + 0.5);
    });
  });
  pen.fillStyle = style("--soft");
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  const stride = Math.ceil(13 / tall);
  layers.forEach((layer, k) => {
    if (k % stride === 0) pen.fillText(String(layer), LEFT - 6, high - (k + 0.5) * tall + 4);
  });
  pen.textAlign = "center";
  const every = [1, 2, 4, 8, 16, 32, 64, 128].find((n) => n * wide >= 26) || 256;
  for (let i = 0; i < steps.length; i += every) pen.fillText(String(steps[i].step), LEFT + (i + 0.5) * wide, high + 14);
  if (at >= 0 && steps.length) marker(pen, at, wide, high);
}

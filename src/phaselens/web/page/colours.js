// Colour maps of even steps in lightness, safe for colour-blind readers, and the ends of what they show.

export const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"];

const parts = (hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16));

export function colour(share, anchors = CIVIDIS) {
  const at = Math.min(Math.max(share, 0), 1) * (anchors.length - 1);
  const i = Math.min(Math.floor(at), anchors.length - 2);
  const [a, z] = [parts(anchors[i]), parts(anchors[i + 1])];
  return `rgb(${a.map((v, k) => Math.round(v + (z[k] - v) * (at - i))).join(" ")})`;
}

export const isNumber = (v) => typeof v === "number" && Number.isFinite(v);

export function ends(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (isNumber(v)) { low = Math.min(low, v); high = Math.max(high, v); }
  }
  return low <= high ? [low, high] : null;
}

export const share = (v, both) => (both[1] > both[0] ? (v - both[0]) / (both[1] - both[0]) : 0.5);

export function text(v) {
  if (!isNumber(v)) return "undefined";
  if (v === 0) return "0";
  const size = Math.abs(v);
  return size >= 1e4 || size < 1e-3 ? v.toExponential(1) : String(Number(v.toPrecision(3)));
}

// For differences: blue below zero, light at zero, brown above.
export const DIVERGING = ["2166ac", "67a9cf", "d1e5f0", "f4f3f0", "f2d3b4", "d08b4c", "8c4a06"];

// SPDX-License-Identifier: MIT
// Colours of edges and nodes. Each has a bin, and a bin a colour, so that drawing sets a colour once per bin.

const STEPS = 6; // magnitudes that are distinguished, per sign
const BROKEN = 2 * STEPS, NONE = 2 * STEPS + 1, BINS = 2 * STEPS + 2;
const CATEGORIES = ["#4c78a8", "#e0812c", "#54a24b", "#c8467a", "#8d6fc0", "#b08a1e", "#3f9c9c", "#9a6b50", "#6d7f96"];

/** The colours of the theme, from the style sheet. */
function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "faint", "accent", "low", "high", "middle", "broken", "input", "hidden", "output"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Of the finite values' magnitudes that which 2 % exceed: one outlier must not make all others look like zero. */
function scaleOf(values) {
  const sizes = Float64Array.from(values ?? [], Math.abs).filter(Number.isFinite).sort();
  return sizes[Math.ceil(0.98 * (sizes.length - 1))] || sizes[sizes.length - 1] || 1;
}

/** The bin of a value: negative ones by size first, then positive ones. */
function binOf(value, scale, stored) {
  if (Number.isNaN(value)) return stored ? NONE : BROKEN;
  if (!Number.isFinite(value)) return BROKEN;
  const step = Math.min(STEPS - 1, Math.floor((Math.abs(value) / scale) * STEPS));
  return value < 0 ? step : STEPS + step;
}

function binsOf(values, count, stored) {
  const scale = scaleOf(values), bins = new Uint8Array(count).fill(NONE);
  if (values) for (let i = 0; i < count; i++) bins[i] = binOf(values[i], scale, stored);
  return { bins, scale };
}

function channels(hex) {
  const number = parseInt(hex.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

function mixed(from, to, share) {
  const a = channels(from), b = channels(to);
  return `rgb(${a.map((value, i) => Math.round(value + share * (b[i] - value))).join(" ")})`;
}

/** Colours of the bins: from the middle to the sign's colour. */
function divergingColours(theme) {
  const colours = [];
  for (const sign of [theme.low, theme.high])
    for (let step = 0; step < STEPS; step++) colours.push(mixed(theme.middle, sign, Math.sqrt((step + 0.5) / STEPS)));
  return [...colours, theme.broken, theme.middle];
}

const BATCH = 200; // edges of one bin that are drawn one after the other

/**
 * The order in which edges are drawn: weak ones first. Batches of both signs take turns, or the one that is drawn last
 * would seem to prevail.
 */
function drawingOrder(edges, bins) {
  const groups = Array.from({ length: BINS }, () => []), order = [];
  for (const e of edges) groups[bins[e]].push(e);
  const pairs = [[NONE]];
  for (let step = 0; step < STEPS; step++) pairs.push([step, STEPS + step]);
  for (const pair of [...pairs, [BROKEN]]) {
    const most = Math.max(...pair.map((bin) => groups[bin].length));
    for (let i = 0; i < most; i += BATCH) for (const bin of pair) order.push(...groups[bin].slice(i, i + BATCH));
  }
  return Uint32Array.from(order);
}

/**
 * How opaque an edge of a bin is where the lines of all would cover the drawing so many times: many weak edges must
 * not add up to a solid block.
 */
function edgeAlpha(bin, cover) {
  if (bin === BROKEN) return 1;
  const crowd = Math.min(1, (0.35 / cover) ** 0.65);
  return Math.max(0.05, Math.min(1, (bin === NONE ? 0.7 : 0.3 + (1.1 * (bin % STEPS)) / STEPS) * crowd));
}

/** How wide it is, in pixels, where few are drawn. */
const edgeWidth = (bin) => (bin === NONE ? 1 : bin === BROKEN ? 2.5 : 1 + (2 * (bin % STEPS)) / (STEPS - 1));

/** What nodes can be coloured by: {bins, colours, scale or keys}. */
function nodeColouring(net, by, theme) {
  if (by === "bias" || by === "biasGrad") {
    const { bins, scale } = binsOf(net[by], net.count, net.stored);
    for (let v = 0; v < net.count; v++) if (net.role[v] & ROLE.input) bins[v] = NONE;
    return { bins, scale, colours: divergingColours(theme) };
  }
  const bins = new Uint8Array(net.count), keys = [];
  const isByRole = (v) => by === "role" || net.role[v] & ROLE.input; // an input has no activation
  for (let v = 0; v < net.count; v++) {
    const key = isByRole(v) ? roleOf(net, v) : net.activationOf(v);
    if (!keys.includes(key)) keys.push(key);
    bins[v] = keys.indexOf(key);
  }
  const own = { input: theme.input, hidden: theme.hidden, output: theme.output, "input and output": theme.accent };
  let used = 0;
  const colours = keys.map((key) => own[key] ?? CATEGORIES[used++ % CATEGORIES.length]);
  return { bins, colours, keys };
}

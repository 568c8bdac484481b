// SPDX-License-Identifier: MIT
// What the page shows: the arrays of the JSON that freewire/pictures/page.py wrote, and what follows from them.

const ROLE = { input: 1, output: 2, reachesNoOutput: 4, unreachable: 8 };
const TYPES = { u1: Uint8Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

/** An array from {type: base64}. The bytes are little-endian, as every browser's arrays are. */
function unpack(packed) {
  const [[type, text]] = Object.entries(packed);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new TYPES[type](bytes.buffer);
}

/** For each node the edges of which it is an end: edges.subarray(start[v], start[v + 1]). */
function edgesByNode(ends, count) {
  const start = new Uint32Array(count + 1);
  for (const v of ends) start[v + 1]++;
  for (let v = 0; v < count; v++) start[v + 1] += start[v];
  const next = start.slice(), edges = new Uint32Array(ends.length);
  for (let e = 0; e < ends.length; e++) edges[next[ends[e]]++] = e;
  return { start, edges, of: (v) => edges.subarray(start[v], start[v + 1]) };
}

/** The smallest distance in x between nodes of one level, which may be a block of several columns; 1 if none is. */
function smallestGap(net) {
  const order = net.x.map((_, v) => v).sort((a, b) => net.level[a] - net.level[b] || net.x[a] - net.x[b]);
  let gap = 1;
  for (let i = 1; i < order.length; i++) {
    const [u, v] = [order[i - 1], order[i]], distance = net.x[v] - net.x[u];
    if (net.level[u] === net.level[v] && distance > 1e-4) gap = Math.min(gap, distance);
  }
  return gap;
}

/**
 * Stretch the coordinates, in which levels and rows are 1 apart, so that the drawing is about 1.7 times as wide as it
 * is high, and nodes stay at least 1 apart.
 */
function spread(net) {
  let height = 1, depth = 1;
  for (let v = 0; v < net.count; v++) {
    height = Math.max(height, 2 * Math.abs(net.y[v]) + 1);
    depth = Math.max(depth, net.x[v]);
  }
  const gap = smallestGap(net), least = Math.max(1.4, 1.1 / gap);
  const across = Math.max(least, (1.7 * height) / depth);
  const down = Math.min(6, Math.max(1, (across * depth) / (1.7 * height)));
  for (let v = 0; v < net.count; v++) {
    net.x[v] *= across;
    net.y[v] *= down;
  }
  Object.assign(net, { levelStep: across, columnStep: across * gap, rowStep: down });
}

/**
 * How far edge e bends, as the y that is added to its middle's control point. Edges that skip levels bend away from
 * the centre line: drawn straight, they would run behind the nodes that they skip.
 */
function bends(net) {
  const bend = new Float32Array(net.source.length);
  for (let e = 0; e < bend.length; e++) {
    const u = net.source[e], v = net.target[e];
    const skipped = Math.min(Math.abs(net.level[v] - net.level[u]) - 1, 3);
    bend[e] = 1.3 * net.rowStep * Math.max(0, skipped) * (net.y[u] + net.y[v] < 0 ? -1 : 1);
  }
  return bend;
}

/** Numbers that order edges without weights so that the first ones are, however many, spread evenly over all. */
function sampleKey(e) {
  return 1 - ((e * 0.6180339887498949) % 1);
}

/** The edges from the strongest to the weakest by these values; missing or broken ones are last or first. */
function ranking(values, count, missingLast) {
  const key = new Float64Array(count), order = new Uint32Array(count);
  for (let e = 0; e < count; e++) {
    const size = values ? Math.abs(values[e]) : sampleKey(e);
    key[e] = Number.isNaN(size) ? (missingLast ? -1 : Infinity) : size;
    order[e] = e;
  }
  return order.sort((a, b) => key[b] - key[a] || a - b);
}

/** Everything about the network; null where there are no such numbers. */
function readData() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const net = { weight: null, weightGrad: null, bias: null, biasGrad: null };
  for (const [name, packed] of Object.entries(data.arrays)) net[name] = unpack(packed);
  net.count = net.x.length;
  net.edges = net.source.length;
  net.stored = data.stored;
  net.name = data.names ? (v) => data.names[v] : String;
  net.activationOf = (v) => data.activations[net.activation[v]];
  net.aggregationOf = (v) => data.aggregations[net.aggregation[v]];
  net.into = edgesByNode(net.target, net.count);
  net.outOf = edgesByNode(net.source, net.count);
  net.depth = net.level.reduce((most, level) => Math.max(most, level), 0);
  spread(net);
  net.bend = bends(net);
  return net;
}

/** What a node is, in words. */
function roleOf(net, v) {
  const role = net.role[v];
  if (role & ROLE.input) return role & ROLE.output ? "input and output" : "input";
  return role & ROLE.output ? "output" : "hidden";
}

/** A number to read: four significant digits; NaN is "none" where that is what it means. */
function digits(value, none = "NaN") {
  if (Number.isNaN(value)) return none;
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "\u2212infinite";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(+value.toPrecision(4));
  return text.replace(/-/g, "\u2212");
}

function weightText(net, e) {
  return net.weight ? digits(net.weight[e], net.stored ? "none stored" : "NaN") : "none stored";
}

function weightGradText(net, e) {
  return net.weightGrad ? digits(net.weightGrad[e]) : "none";
}

function biasText(net, v) {
  if (net.role[v] & ROLE.input) return "none (an input)";
  return net.bias ? digits(net.bias[v], net.stored ? "none stored" : "NaN") : "none";
}

function biasGradText(net, v) {
  return net.biasGrad && !(net.role[v] & ROLE.input) ? digits(net.biasGrad[v]) : "none";
}

const grouped = (number) => number.toLocaleString("en");
const counted = (number, what) => `${grouped(number)} ${what}${number === 1 ? "" : "s"}`;

// SPDX-License-Identifier: MIT
// Drawing. Edges are painted slowly, a slice per frame, into a canvas larger than the stage, which the browser then
// moves and scales by itself while the view changes; nodes and what is highlighted are drawn in every frame.

const MARGIN = 0.25; // of the stage's size, painted beyond each of its sides
const SLICE = 7, CALM = 120; // milliseconds of painting per frame; without a movement before edges are painted sharply
const NAME_ROWS = 13, NAME_COLUMNS = 48; // pixels between rows, and columns, from which nodes have names beside them
const MOST_MOVING = 6000; // nodes drawn per frame while the view moves
const MOST_NAMES = 500; // in sight: with more, none are drawn
const TINY = 2.5; // pixels of radius below which all nodes are squares
const FEW = 2500; // edges up to which strong ones are drawn wider: a wide line takes several times as long

/** Add edge e to a path, with coordinates (x * scale + dx, y * scale + dy). */
function addEdge(path, net, e, scale, dx, dy) {
  const u = net.source[e], v = net.target[e];
  const x0 = net.x[u] * scale + dx, y0 = net.y[u] * scale + dy, x1 = net.x[v] * scale + dx, y1 = net.y[v] * scale + dy;
  const bend = net.bend[e] * scale;
  path.moveTo(x0, y0);
  if (Math.abs(bend) < 3) path.lineTo(x1, y1);
  else path.quadraticCurveTo((x0 + x1) / 2, (y0 + y1) / 2 + bend, x1, y1);
}

class EdgeLayer {
  /**
   * @param net the network
   * @param canvases two: one is seen while the other is painted
   */
  constructor(net, canvases) {
    Object.assign(this, { net, front: null, back: null, job: null, order: new Uint32Array(0) });
    this.spare = canvases.map((canvas) => ({ canvas, context: canvas.getContext("2d", { willReadFrequently: true }) }));
  }

  /** Show these edges, drawn in this order, with a bin each and a colour per bin. */
  set(order, bins, colours) {
    const { net } = this;
    let length = 0;
    for (const e of order) {
      const u = net.source[e], v = net.target[e];
      length += Math.hypot(net.x[v] - net.x[u], net.y[v] - net.y[u]);
    }
    Object.assign(this, { order, bins, colours, length, job: null, changed: true });
  }

  /** How many times lines of one pixel would cover the drawing. */
  cover({ box }, scale) {
    return this.length / (Math.max(1, box.right - box.left) * Math.max(1, box.bottom - box.top) * scale);
  }

  /** Whether a layer shows everything that the view does. */
  covers(layer, view) {
    const reach = (size) => (size * (1 + 2 * MARGIN)) / 2 / layer.scale - size / 2 / view.scale;
    return Math.abs(view.x - layer.x) <= reach(view.width) && Math.abs(view.y - layer.y) <= reach(view.height);
  }

  isStale(view) {
    if (this.changed || !this.front) return true;
    const { width, height, scale } = this.front;
    return width !== view.width || height !== view.height || scale !== view.scale || !this.covers(this.front, view);
  }

  /** Move the painted edges to where the view has them. */
  place(view, opacity) {
    const layer = this.front;
    if (!layer) return;
    const ratio = view.scale / layer.scale;
    const [left, top] = view.toScreen(layer.x, layer.y);
    const half = 0.5 + MARGIN;
    layer.canvas.style.transform =
      `translate(${left - layer.width * half * ratio}px, ${top - layer.height * half * ratio}px) scale(${ratio})`;
    layer.canvas.style.opacity = opacity;
  }

  /** Paint for some milliseconds if anything is to be painted; true while there is more to do. */
  paint(view, isCalm) {
    const isNeeded = this.isStale(view) && (isCalm || !this.front || this.changed || !this.covers(this.front, view));
    if (!this.job && isNeeded) this.begin(view);
    if (!this.job) return this.isStale(view);
    const end = performance.now() + SLICE;
    while (performance.now() < end) if (this.job.next().done) return this.finish(view);
    return true;
  }

  begin(view) {
    const layer = this.spare.find((each) => each !== this.front);
    Object.assign(layer, { x: view.x, y: view.y, scale: view.scale, width: view.width, height: view.height });
    layer.ratio = Math.min(2, devicePixelRatio || 1);
    const size = 1 + 2 * MARGIN, { canvas } = layer;
    canvas.width = Math.round(view.width * size * layer.ratio);
    canvas.height = Math.round(view.height * size * layer.ratio);
    canvas.style.width = `${view.width * size}px`;
    canvas.style.height = `${view.height * size}px`;
    this.changed = false;
    this.back = layer;
    this.job = this.strokes(layer, this.cover(view, view.scale));
    if (!this.front) this.swap(view); // nothing is seen yet: let edges appear as they are painted
  }

  swap(view) {
    if (this.front) this.front.canvas.style.visibility = "hidden";
    this.front = this.back;
    this.front.canvas.style.visibility = "visible";
    this.place(view, this.front.canvas.style.opacity || 1);
  }

  finish(view) {
    this.job = null;
    if (this.front !== this.back) this.swap(view);
    return this.isStale(view);
  }

  /** Paints all edges that touch the layer, some at a time. */
  *strokes({ context, scale, ratio, x, y, width, height }, cover) {
    const { net, order, bins, colours } = this, isWide = order.length <= FEW;
    const halfX = (width * (0.5 + MARGIN)) / scale, halfY = (height * (0.5 + MARGIN)) / scale;
    const unit = scale * ratio, dx = (halfX - x) * unit, dy = (halfY - y) * unit;
    let bin = -1, held = 0;
    context.lineWidth = 1; // of the screen's own pixels
    context.beginPath();
    for (const e of order) {
      const u = net.source[e], v = net.target[e], bend = net.bend[e];
      const ax = net.x[u] - x, bx = net.x[v] - x, ay = net.y[u] - y, by = net.y[v] - y;
      if ((ax < -halfX && bx < -halfX) || (ax > halfX && bx > halfX)) continue;
      if (Math.max(ay, by) + Math.max(0, bend) < -halfY || Math.min(ay, by) + Math.min(0, bend) > halfY) continue;
      if (bins[e] !== bin || held === BATCH) {
        context.stroke();
        if (held) {
          context.getImageData(0, 0, 1, 1); // waits for the strokes, so that the slice's clock counts them
          yield;
        }
        context.beginPath();
        held = 0;
        bin = bins[e];
        context.strokeStyle = colours[bin];
        context.globalAlpha = edgeAlpha(bin, cover);
        if (isWide) context.lineWidth = edgeWidth(bin) * ratio;
      }
      addEdge(context, net, e, unit, dx, dy);
      held++;
    }
    context.stroke();
    context.globalAlpha = 1;
  }
}

/** Add a node to a path: inputs are squares, outputs diamonds, hidden nodes discs. */
function addNode(path, role, x, y, r) {
  if (role & ROLE.output) {
    const d = r * 1.25;
    path.moveTo(x - d, y); path.lineTo(x, y - d); path.lineTo(x + d, y); path.lineTo(x, y + d); path.closePath();
  } else if (role & ROLE.input) path.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
  else { path.moveTo(x + r, y); path.arc(x, y, r, 0, 2 * Math.PI); }
}

/** The radius of nodes in pixels. */
const nodeRadius = (view) => Math.max(1.1, Math.min(14, 0.3 * view.scale));

class NodeLayer {
  constructor(net, canvas) {
    Object.assign(this, { net, canvas, context: canvas.getContext("2d"), columns: this.findColumns(net), seen: 0 });
    this.downwards = Uint32Array.from(net.x.keys()).sort((a, b) => net.x[a] - net.x[b] || net.y[a] - net.y[b]);
  }

  /** For each level its x and how many nodes it has. */
  findColumns(net) {
    const columns = [];
    for (let v = 0; v < net.count; v++) {
      const column = (columns[net.level[v]] ??= { x: net.level[v] * net.levelStep, count: 0 });
      column.count++;
    }
    return columns;
  }

  /** Bins of nodes, and the colour of each bin. */
  set({ bins, colours }) {
    const members = colours.map(() => []);
    for (const v of this.downwards) members[bins[v]].push(v);
    Object.assign(this, { members, colours, bins });
  }

  resize(view) {
    this.ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(view.width * this.ratio);
    this.canvas.height = Math.round(view.height * this.ratio);
    this.canvas.style.width = `${view.width}px`;
    this.canvas.style.height = `${view.height}px`;
  }

  /**
   * Draw a frame: `focus` is null or {node, edges, near}, `colourOf` an edge's colour, `hovered` a node or -1. While
   * the view moves, and very many nodes are in sight, a sample of them is drawn.
   */
  draw(view, theme, { focus, colourOf, hovered, hoveredEdge, isCalm }) {
    const { context } = this;
    this.stride = isCalm ? 1 : Math.max(1, Math.ceil(this.seen / MOST_MOVING));
    this.isThinned = this.stride > 1;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    context.globalAlpha = focus ? 0.16 : 1;
    let drawn = 0;
    for (let bin = 0; bin < this.members.length; bin++)
      drawn += this.fill(view, this.members[bin], this.colours[bin], this.stride);
    this.seen = drawn * this.stride;
    context.globalAlpha = 1;
    if (hoveredEdge >= 0) this.strokeEdges(view, [hoveredEdge], colourOf, 3);
    if (focus) this.drawFocus(view, theme, focus, colourOf);
    if (hovered >= 0) this.ring(view, [hovered], theme.ink, 2);
    this.drawNames(view, theme, focus, hovered);
    this.drawColumns(view, theme);
  }

  /** Draw every stride-th of these nodes; how many that are. */
  fill(view, members, colour, stride = 1) {
    const { context, net } = this, r = nodeRadius(view), limit = 2 * r, isTiny = r < TINY;
    const dx = view.width / 2 - view.x * view.scale, dy = view.height / 2 - view.y * view.scale;
    context.fillStyle = colour;
    context.beginPath();
    let lastX = NaN, lastY = NaN, drawn = 0; // the pixel that was filled last
    for (let i = 0; i < members.length; i += stride) {
      const v = members[i];
      const x = net.x[v] * view.scale + dx, y = net.y[v] * view.scale + dy;
      if (x < -limit || y < -limit || x > view.width + limit || y > view.height + limit) continue;
      if (isTiny && Math.round(x) === lastX && Math.round(y) === lastY) continue; // thousands may share a pixel
      [lastX, lastY] = [Math.round(x), Math.round(y)];
      drawn++;
      if (isTiny) context.fillRect(x - r, y - r, 2 * r, 2 * r); // faster than a path
      else addNode(context, net.role[v], x, y, r);
    }
    context.fill();
    return drawn;
  }

  strokeEdges(view, edges, colourOf, width) {
    const { context, net } = this, [dx, dy] = view.toScreen(0, 0);
    let colour = "", held = 0;
    context.lineWidth = width;
    context.beginPath();
    for (const e of edges) {
      const next = colourOf(e);
      if (next !== colour || held === BATCH) {
        context.stroke();
        context.beginPath();
        [context.strokeStyle, colour, held] = [next, next, 0];
      }
      addEdge(context, net, e, view.scale, dx, dy);
      held++;
    }
    context.stroke();
  }

  drawFocus(view, theme, { node, edges, near }, colourOf) {
    this.strokeEdges(view, edges, colourOf, edges.length > 400 ? 1 : 1.6);
    const members = this.colours.map(() => []);
    for (const v of [...near.keys(), node]) members[this.bins[v]].push(v);
    for (let bin = 0; bin < members.length; bin++) this.fill(view, members[bin], this.colours[bin]);
    for (const [side, colour] of [["input", theme.input], ["reader", theme.output]])
      this.ring(view, [...near.keys()].filter((v) => near.get(v) === side), colour, 1.5);
    this.ring(view, [node], theme.ink, 2.5);
  }

  ring(view, nodes, colour, width) {
    const { context, net } = this, r = Math.max(3, nodeRadius(view) * 1.25) + width;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const v of nodes) {
      const [x, y] = view.toScreen(net.x[v], net.y[v]);
      if (x < -r || y < -r || x > view.width + r || y > view.height + r) continue;
      context.moveTo(x + r, y);
      context.arc(x, y, r, 0, 2 * Math.PI);
    }
    context.stroke();
  }

  /** Names beside nodes, where rows are far enough apart, and always of the node that is selected or pointed at. */
  drawNames(view, theme, focus, hovered) {
    const { context, net } = this, shown = [];
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "start";
    context.lineJoin = "round";
    const wants = (v) => {
      const [x, y] = view.toScreen(net.x[v], net.y[v]);
      if (x > -100 && y > -10 && x < view.width && y < view.height + 10) shown.push([v, x, y]);
    };
    if (view.scale * net.rowStep >= NAME_ROWS && view.scale * net.columnStep >= NAME_COLUMNS)
      for (let v = 0; v < net.count && shown.length <= MOST_NAMES; v++) if (!focus || focus.near.has(v)) wants(v);
    if (shown.length > MOST_NAMES) shown.length = 0;
    for (const v of new Set([focus ? focus.node : -1, hovered])) if (v >= 0) wants(v);
    const offset = nodeRadius(view) * 1.25 + 5;
    context.strokeStyle = theme.paper;
    context.fillStyle = theme.ink;
    context.lineWidth = 3.5;
    for (const [v, x, y] of shown) {
      const name = shortened(net.name(v), 24);
      context.strokeText(name, x + offset, y);
      context.fillText(name, x + offset, y);
    }
  }

  /** Above the columns, in one line, their levels and how many nodes they have, as far as there is room. */
  drawColumns(view, theme) {
    const { context } = this, room = this.net.levelStep * view.scale;
    if (room < 26) return;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillStyle = theme.faint;
    context.strokeStyle = theme.paper;
    context.lineWidth = 4;
    const y = Math.max(14, view.toScreen(0, view.box.top)[1] - nodeRadius(view) - 18);
    for (const [level, column] of this.columns.entries()) {
      if (!column) continue;
      const [x] = view.toScreen(column.x, 0);
      const text = room < 130 ? String(level) : `level ${level} \u00b7 ${counted(column.count, "node")}`;
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
  }
}

/** Text of at most so many characters; never half of one, as slice could leave. */
function shortened(text, length) {
  const characters = [...text];
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}\u2026` : text;
}

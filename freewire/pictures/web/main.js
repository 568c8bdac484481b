// SPDX-License-Identifier: MIT
// The page: its state, and the frames in which it is drawn.

const MOST_HIGHLIGHTED = 1000; // edges of the selected node: more are a solid block, and slow every frame

class Page {
  constructor() {
    this.net = readData();
    this.stage = document.getElementById("stage");
    this.ranked = ranking(this.net.weight, this.net.edges, this.net.stored);
    this.place = new Uint32Array(this.net.edges);
    this.ranked.forEach((e, i) => { this.place[e] = i; });
    this.edgeLayer = new EdgeLayer(this.net, [...this.stage.querySelectorAll("canvas.edges")]);
    this.nodeLayer = new NodeLayer(this.net, document.getElementById("nodes"));
    this.view = new View(this.net, this.stage, () => this.move());
    this.tooltip = new Tooltip(this.net, this.view);
    this.panel = new Panel(this.net, this.place, (v) => this.go(v), (e) => this.pointAtEdge(e));
    Object.assign(this, { focus: null, pointer: null, hovered: -1, hoveredEdge: -1, listedEdge: -1 });
    Object.assign(this, { changed: true, waiting: false, lastMove: 0 });
    this.describe();
    this.connect();
  }

  /** Fill the heading, and name the drawing for those who do not see it. */
  describe() {
    const { net } = this, inputs = net.role.filter((role) => role & ROLE.input).length;
    const outputs = net.role.filter((role) => role & ROLE.output).length;
    const text = `${counted(net.count, "node")} (${counted(inputs, "input")}, ${counted(outputs, "output")}) \u00b7 ` +
      `${counted(net.edges, "edge")} \u00b7 depth ${grouped(net.depth)}`;
    document.getElementById("title").textContent = document.title;
    document.getElementById("title").title = document.title;
    const counts = document.getElementById("counts");
    counts.textContent = text;
    for (const [values, what] of [[net.weight, "weight"], [net.weightGrad, "gradient"]]) {
      const isBroken = (value) => !Number.isFinite(value) && !(net.stored && Number.isNaN(value));
      const broken = (values ?? []).filter(isBroken).length;
      if (broken) counts.append(element("span", ` \u00b7 ${counted(broken, what)} not finite`, "alert"));
    }
    this.stage.setAttribute("aria-label", `Drawing of the wiring: ${text}`);
  }

  connect() {
    const { view, stage } = this, press = (id, action) => document.getElementById(id).addEventListener("click", action);
    this.options = followOptions(this.net, () => this.restyle());
    followTheme(() => this.restyle());
    followPointers(view, stage, { hover: (at) => this.point(at), click: (at) => this.click(at) });
    followKeys(view, stage);
    followSearch(this.net, (v) => this.go(v));
    press("zoom-in", () => view.zoom(1.4));
    press("zoom-out", () => view.zoom(1 / 1.4));
    press("fit", () => view.fly(view.whole(), true));
    press("close", () => this.select(-1));
    document.addEventListener("keydown", (event) => this.key(event));
    document.getElementById("options").addEventListener("toggle", () => this.resize());
    new ResizeObserver(() => this.resize()).observe(stage);
    this.resize();
  }

  key(event) {
    if (event.key === "Escape") this.select(-1);
    else if (event.key === "/" && event.target.id !== "search") {
      event.preventDefault();
      document.getElementById("search").focus();
    }
  }

  resize() {
    this.view.resize(this.stage.clientWidth, this.stage.clientHeight, this.covered());
    this.nodeLayer.resize(this.view);
  }

  /** How many pixels of the stage's sides the options and the panel cover. */
  covered() {
    const { stage } = this, options = document.getElementById("options"), panel = document.getElementById("panel");
    const isBeside = panel.offsetWidth < stage.clientWidth; // else it is below, on small screens
    return {
      left: options.open && stage.clientWidth > 760 ? options.offsetWidth + 12 : 0,
      right: isBeside ? panel.offsetWidth : 0,
      bottom: isBeside ? 0 : panel.offsetHeight,
    };
  }

  /** Colours or the number of edges have changed. */
  restyle() {
    const { net } = this, { edgeBy, nodeBy, drawn } = this.options();
    this.theme = themeColours();
    const values = net[edgeBy], { bins, scale } = binsOf(values, net.edges, net.stored && edgeBy === "weight");
    const colours = divergingColours(this.theme), nodes = nodeColouring(net, nodeBy, this.theme);
    this.edgeLayer.set(drawingOrder(this.ranked.subarray(0, drawn), bins), bins, colours);
    this.nodeLayer.set(nodes);
    this.colourOf = (e) => colours[bins[e]];
    describeDrawn(net, this.ranked, drawn);
    drawLegend({
      edgeWhat: edgeBy === "weight" ? "weight" : "gradient", edgeScale: values && scale,
      nodeWhat: nodeBy === "bias" ? "bias" : "bias gradient", nodeColouring: nodes, colours,
      broken: bins.includes(BROKEN) || nodes.bins.includes(nodes.keys ? -1 : BROKEN), missing: bins.includes(NONE),
    });
    this.move();
  }

  move() {
    this.lastMove = performance.now();
    this.request();
  }

  /** Something is to be drawn otherwise. */
  request() {
    this.changed = true;
    this.nextFrame();
  }

  nextFrame() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    const { view, nodeLayer, edgeLayer } = this, isCalm = performance.now() - this.lastMove > CALM;
    this.waiting = false;
    if (this.changed || (isCalm && nodeLayer.isThinned)) {
      this.changed = false;
      view.advance(now);
      this.hover();
      nodeLayer.draw(view, this.theme, { ...this, isCalm });
      edgeLayer.place(view, this.focus ? 0.12 : 1);
    }
    const isMore = edgeLayer.paint(view, isCalm);
    const isBusy = isMore || nodeLayer.isThinned || view.flight !== null;
    if (isBusy) this.nextFrame();
    this.stage.ariaBusy = String(isBusy);
  }

  point(at) {
    this.pointer = at;
    this.request();
  }

  pointAtEdge(e) {
    this.listedEdge = e;
    this.hoveredEdge = e;
    this.request();
  }

  /** Find what the pointer is on, once per frame at most. Beside a selection only its edges can be pointed at. */
  hover() {
    const { net, view, pointer, focus } = this;
    if (!pointer) {
      this.hovered = -1;
      this.hoveredEdge = this.listedEdge;
      this.tooltip.hide();
    } else {
      this.hovered = findNode(net, view, ...pointer);
      const edges = focus ? focus.edges : this.edgeLayer.order;
      this.hoveredEdge = this.hovered < 0 ? findEdge(net, view, edges, ...pointer) : -1;
      if (this.hovered >= 0) this.tooltip.showNode(this.hovered, pointer);
      else if (this.hoveredEdge >= 0) this.tooltip.showEdge(this.hoveredEdge, pointer);
      else this.tooltip.hide();
    }
    this.stage.classList.toggle("pointing", this.hovered >= 0);
  }

  click(at) {
    this.select(findNode(this.net, this.view, ...at));
  }

  /** Highlight a node's inputs and readers, and describe it; -1: nothing. */
  select(v) {
    const { net } = this;
    this.listedEdge = -1;
    if (v < 0) {
      this.focus = null;
      this.panel.hide();
    } else {
      const all = byStrength([...net.into.of(v), ...net.outOf.of(v)], this.place), near = new Map();
      const edges = all.slice(0, MOST_HIGHLIGHTED).reverse(); // the strongest is drawn last
      for (const e of edges) net.target[e] === v ? near.set(net.source[e], "input") : near.set(net.target[e], "reader");
      this.focus = { node: v, edges, near };
      this.panel.show(v, edges.length);
    }
    this.view.covered = this.covered();
    document.getElementById("status").textContent = v < 0 ? "" : `${net.name(v)} is selected.`;
    this.request();
  }

  /** Select a node and show it with its inputs and readers. */
  go(v) {
    const { net, view } = this;
    this.select(v);
    view.fly(view.framing(boxOf(net, [v, ...this.focus.near.keys()]), Math.max(40, 3 * view.least)));
  }
}

function main() {
  const page = new Page();
  // For scripts and tests: where a node is, in pixels of the window, and whether edges are still being painted.
  globalThis.freewire = Object.freeze({
    position(v) {
      const box = page.stage.getBoundingClientRect(), [x, y] = page.view.toScreen(page.net.x[v], page.net.y[v]);
      return [box.left + x, box.top + y];
    },
  });
}

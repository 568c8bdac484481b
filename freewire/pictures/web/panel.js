// SPDX-License-Identifier: MIT
// What is said about one node or one edge: beside the pointer, and in the panel of the selected node.

const ROWS = 60; // edges listed at first, and with each press of "Show more"

function fact(list, term, text) {
  list.append(element("dt", term), element("dd", text));
}

function nodeFacts(net, v, list) {
  fact(list, "Kind", roleOf(net, v));
  fact(list, "Level", `${net.level[v]} of ${net.depth}`);
  if (!(net.role[v] & ROLE.input)) {
    fact(list, "Activation", net.activationOf(v));
    fact(list, "Aggregation", net.aggregationOf(v));
  }
  fact(list, "Bias", biasText(net, v));
  fact(list, "Bias gradient", biasGradText(net, v));
  fact(list, "Fan-in", grouped(net.into.of(v).length));
  fact(list, "Fan-out", grouped(net.outOf.of(v).length));
}

class Tooltip {
  constructor(net, view) {
    Object.assign(this, { net, view, box: document.getElementById("tooltip"), shown: "" });
  }

  hide() {
    this.box.hidden = true;
    this.shown = "";
  }

  showNode(v, at) {
    this.show(`node ${v}`, this.net.name(v), at, (list) => nodeFacts(this.net, v, list));
  }

  showEdge(e, at) {
    const { net } = this, title = `${net.name(net.source[e])} \u2192 ${net.name(net.target[e])}`;
    this.show(`edge ${e}`, title, at, (list) => {
      fact(list, "Weight", weightText(net, e));
      fact(list, "Gradient", weightGradText(net, e));
    });
  }

  /** Fill the box if it shows something else, and put it beside the pointer, where nothing covers it. */
  show(key, title, [left, top], fill) {
    const { box, view } = this;
    if (this.shown !== key) {
      const list = element("dl");
      fill(list);
      box.replaceChildren(element("strong", shortened(title, 120)), list);
      this.shown = key;
    }
    box.hidden = false;
    const room = view.width - view.covered.right - box.offsetWidth - 8;
    const under = view.height - view.covered.bottom - box.offsetHeight - 8;
    const x = left + 16 > room ? left - 16 - box.offsetWidth : left + 16;
    box.style.transform = `translate(${Math.max(4, Math.min(x, room))}px, ${Math.max(4, Math.min(top + 14, under))}px)`;
  }
}

/** The edges of a node from the strongest to the weakest, as the ranking of all edges has them. */
function byStrength(edges, place) {
  return [...edges].sort((a, b) => place[a] - place[b]);
}

class Panel {
  /**
   * @param place of each edge its place in the order of strength
   * @param go called with a node whose name is pressed
   * @param point called with an edge whose row is pointed at, or with -1
   */
  constructor(net, place, go, point) {
    Object.assign(this, { net, place, go, point, box: document.getElementById("panel") });
  }

  hide() {
    this.box.hidden = true;
  }

  /** Describe a node, of whose edges so many are highlighted in the drawing. */
  show(v, highlighted) {
    const { net } = this, all = net.into.of(v).length + net.outOf.of(v).length;
    const name = document.getElementById("node-name"), facts = element("dl");
    name.textContent = net.name(v);
    facts.id = "facts";
    nodeFacts(net, v, facts);
    if (net.role[v] & ROLE.reachesNoOutput) fact(facts, "Note", "reaches no output");
    if (net.role[v] & ROLE.unreachable) fact(facts, "Note", "unreachable from the inputs");
    document.getElementById("facts").replaceWith(facts);
    const note = document.getElementById("highlighted");
    note.hidden = highlighted === all;
    note.textContent = `Highlighted are the strongest ${grouped(highlighted)} of its ${grouped(all)} edges.`;
    this.list("inputs", "Inputs", net.into.of(v), (e) => net.source[e]);
    this.list("readers", "Readers", net.outOf.of(v), (e) => net.target[e]);
    this.box.hidden = false;
    this.box.scrollTop = 0;
  }

  list(id, title, edges, otherEnd) {
    const section = document.getElementById(id), heading = element("h3");
    heading.append(element("i"), `${title} (${grouped(edges.length)})`);
    section.replaceChildren(heading);
    if (!edges.length) return;
    const { net } = this, sorted = byStrength(edges, this.place), table = element("table"), head = element("tr");
    for (const text of ["Node", "Weight", ...(net.weightGrad ? ["Gradient"] : [])]) {
      const cell = element("th", text);
      cell.scope = "col";
      head.append(cell);
    }
    table.append(head);
    section.append(table);
    this.addRows(section, table, sorted, 0, otherEnd);
  }

  addRows(section, table, sorted, from, otherEnd) {
    for (const e of sorted.slice(from, from + ROWS)) table.append(this.row(e, otherEnd(e)));
    if (from + ROWS >= sorted.length) return;
    const more = element("button", `Show more (${grouped(sorted.length - from - ROWS)})`);
    more.type = "button";
    more.addEventListener("click", () => {
      more.remove();
      this.addRows(section, table, sorted, from + ROWS, otherEnd);
      table.rows[from + ROWS + 1].querySelector("button").focus(); // the first of the new rows; the head is row 0
    });
    section.append(more);
  }

  row(e, other) {
    const { net } = this, row = element("tr"), cell = element("td"), button = element("button", net.name(other));
    button.type = "button";
    button.title = net.name(other);
    button.addEventListener("click", () => this.go(other));
    cell.append(button);
    row.append(cell, element("td", weightText(net, e), signClass(net.weight ? net.weight[e] : NaN, !net.stored)));
    if (net.weightGrad) row.append(element("td", weightGradText(net, e), signClass(net.weightGrad[e], true)));
    row.addEventListener("pointerenter", () => this.point(e));
    row.addEventListener("pointerleave", () => this.point(-1));
    return row;
  }
}

function signClass(value, isBroken) {
  if (Number.isNaN(value)) return isBroken ? "broken" : "minor";
  return Number.isFinite(value) ? (value < 0 ? "low" : value > 0 ? "high" : "") : "broken";
}

// SPDX-License-Identifier: MIT
// What is under the pointer.

const NEAR_NODE = 6, NEAR_EDGE = 4; // pixels
const PIECES = 8; // straight pieces that stand for a bent edge

/** The node at a point of the stage, or -1: the nearest of those within reach. */
function findNode(net, view, left, top) {
  const reach = Math.max(NEAR_NODE, nodeRadius(view) * 1.2);
  let best = reach * reach, found = -1;
  for (let v = 0; v < net.count; v++) {
    const dx = (net.x[v] - view.x) * view.scale + view.width / 2 - left;
    const dy = (net.y[v] - view.y) * view.scale + view.height / 2 - top;
    const square = dx * dx + dy * dy;
    if (square < best) [best, found] = [square, v];
  }
  return found;
}

/** The square of the distance from a point to the straight line between two others. */
function squareTo(px, py, ax, ay, bx, by) {
  const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
  const share = length ? Math.min(1, Math.max(0, ((px - ax) * dx + (py - ay) * dy) / length)) : 0;
  return (ax + share * dx - px) ** 2 + (ay + share * dy - py) ** 2;
}

/** The edge at a point of the stage, or -1. Of parallel ones the last of `edges`, which is drawn on top. */
function findEdge(net, view, edges, ...point) {
  const [x, y] = view.toWorld(...point), reach = NEAR_EDGE / view.scale;
  let best = reach * reach, found = -1;
  for (const e of edges) {
    const u = net.source[e], v = net.target[e], bend = net.bend[e];
    const ax = net.x[u], ay = net.y[u], bx = net.x[v], by = net.y[v];
    if (x < Math.min(ax, bx) - reach || x > Math.max(ax, bx) + reach) continue;
    const top = Math.min(ay, by) + Math.min(0, bend), bottom = Math.max(ay, by) + Math.max(0, bend);
    if (y < top - reach || y > bottom + reach) continue;
    const pieces = bend ? PIECES : 1;
    let fromX = ax, fromY = ay;
    for (let i = 1; i <= pieces; i++) {
      const t = i / pieces, toX = ax + t * (bx - ax), toY = ay + t * (by - ay) + 2 * t * (1 - t) * bend;
      const square = squareTo(x, y, fromX, fromY, toX, toY);
      if (square <= best) [best, found] = [square, e];
      [fromX, fromY] = [toX, toY];
    }
  }
  return found;
}

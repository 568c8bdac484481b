// SPDX-License-Identifier: MIT
// Which part of the drawing is seen: pan and zoom by mouse, touch and keyboard.

const MAX_SCALE = 150, WHEEL = 0.0016, PINCH = 0.01, CLICK = 4; // pixels per row; per wheel pixel; pixels

/** What encloses these nodes; around the origin if there are none. */
function boxOf(net, nodes) {
  let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
  for (const v of nodes) {
    left = Math.min(left, net.x[v]); right = Math.max(right, net.x[v]);
    top = Math.min(top, net.y[v]); bottom = Math.max(bottom, net.y[v]);
  }
  return left <= right ? { left, right, top, bottom } : { left: 0, right: 0, top: 0, bottom: 0 };
}

/** A view: the point of the drawing in the middle of the stage, and pixels per unit. */
class View {
  constructor(net, stage, moved) {
    Object.assign(this, { stage, moved, x: 0, y: 0, scale: 1, width: 1, height: 1, fitted: true, flight: null });
    this.covered = { left: 0, right: 0, bottom: 0 };
    this.box = boxOf(net, net.x.keys());
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  toWorld(left, top) {
    return [(left - this.width / 2) / this.scale + this.x, (top - this.height / 2) / this.scale + this.y];
  }

  /** The view in which a point is in the middle of what options and panel leave free. */
  around(x, y, scale) {
    const { left, right, bottom } = this.covered;
    return { x: x + (right - left) / 2 / scale, y: y + bottom / 2 / scale, scale };
  }

  /** The view that shows a part of the drawing, at a scale of at most so much. */
  framing(box, most) {
    const { covered } = this, free = this.width - covered.left - covered.right - 110;
    const wide = free / Math.max(box.right - box.left, 1);
    const high = (this.height - covered.bottom - 90) / Math.max(box.bottom - box.top, 1);
    const scale = Math.max(1e-6, Math.min(wide, high, most));
    return this.around((box.left + box.right) / 2, (box.top + box.bottom) / 2, scale);
  }

  /** The view that shows everything. */
  whole() {
    const view = this.framing(this.box, 110);
    this.least = view.scale / 3;
    return view;
  }

  /** The stage has another size; options or the panel cover so many pixels of its sides. */
  resize(width, height, covered) {
    Object.assign(this, { width: Math.max(1, width), height: Math.max(1, height), covered });
    const whole = this.whole();
    if (this.fitted) this.show(whole, true);
    this.moved();
  }

  show(target, isWhole = false) {
    Object.assign(this, target);
    this.flight = null;
    this.fitted = isWhole;
    this.moved();
  }

  pan(dx, dy) {
    this.show({ x: this.x - dx / this.scale, y: this.y - dy / this.scale });
  }

  /** Zoom about a point of the stage, which stays where it is. */
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toWorld(left, top);
    const scale = Math.min(Math.max(this.scale * factor, this.least), MAX_SCALE);
    this.show({ x: x - (left - this.width / 2) / scale, y: y - (top - this.height / 2) / scale, scale });
  }

  /** Move there within a quarter of a second, or at once for those who want no animation. */
  fly(target, isWhole = false) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.show(target, isWhole);
    const { x, y, scale } = this;
    this.flight = { from: { x, y, scale }, to: target, start: performance.now(), isWhole };
    this.moved();
  }

  /** The next step of a flight, in a frame. */
  advance(now) {
    if (!this.flight) return;
    const { from, to, start, isWhole } = this.flight;
    const share = Math.min(1, Math.max(0, (now - start) / 250)), eased = share * share * (3 - 2 * share);
    const scale = from.scale * (to.scale / from.scale) ** eased;
    // So that the target moves on a straight line at a steady pace on the screen, whatever the zoom does.
    const way = to.scale === from.scale ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
    Object.assign(this, { x: from.x + (to.x - from.x) * way, y: from.y + (to.y - from.y) * way, scale });
    if (share === 1) this.show(to, isWhole);
    else this.moved();
  }
}

/** Pointers on the stage: one drags, two pinch, none held hovers; a press without a drag is a click. */
function followPointers(view, stage, { hover, click }) {
  const held = new Map();
  let far = 0;
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    held.set(event.pointerId, place(event));
    far = held.size > 1 ? Infinity : 0; // a pinch ends in no click
  });
  stage.addEventListener("pointermove", (event) => {
    const now = place(event), before = held.get(event.pointerId);
    if (!before) return hover(event.pointerType === "touch" ? null : now);
    const dx = now[0] - before[0], dy = now[1] - before[1];
    if (held.size === 1) {
      far += Math.hypot(dx, dy);
      if (far < CLICK) return;
      stage.classList.add("dragging");
      hover(null);
      view.pan(dx, dy);
    } else if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      const gap = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      view.pan(dx / 2, dy / 2);
      view.zoom(gap(now) / gap(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    held.set(event.pointerId, now);
  });
  const release = (event) => {
    const was = held.delete(event.pointerId);
    if (!held.size) stage.classList.remove("dragging");
    if (was && event.type === "pointerup" && far < CLICK) click(place(event));
  };
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("pointerleave", () => hover(null));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1; // Firefox counts lines
    const rate = event.ctrlKey ? PINCH : WHEEL; // browsers report a trackpad's pinch so
    view.zoom(Math.exp(-event.deltaY * lines * rate), ...place(event));
  }, { passive: false });
}

/** Keys that move the view while the stage has the focus. */
function followKeys(view, stage) {
  const far = 60;
  const keys = {
    ArrowLeft: () => view.pan(far, 0), ArrowRight: () => view.pan(-far, 0),
    ArrowUp: () => view.pan(0, far), ArrowDown: () => view.pan(0, -far),
    "+": () => view.zoom(1.3), "=": () => view.zoom(1.3), "-": () => view.zoom(1 / 1.3),
    0: () => view.fly(view.whole(), true),
  };
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
}

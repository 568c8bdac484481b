// SPDX-License-Identifier: MIT
// The options: what colours mean, how many edges are drawn, light or dark; and the legend that explains them.

const AT_FIRST = 6000; // edges drawn when the page opens: more are a solid block at first sight

/** How many edges the slider asks for. Its square makes room for the few strongest of many. */
const edgesAt = (value, edges) => Math.round((value / 1000) ** 2 * edges);

function addChoices(select, choices) {
  for (const [value, text] of choices) {
    const option = element("option", text);
    option.value = value;
    select.append(option);
  }
}

/** Connect the options; `changed` is called when edges or nodes are to be drawn otherwise. */
function followOptions(net, changed) {
  const edge = document.getElementById("edge-colour"), node = document.getElementById("node-colour");
  const threshold = document.getElementById("threshold");
  addChoices(edge, [["weight", "weight"], ...(net.weightGrad ? [["weightGrad", "gradient"]] : [])]);
  const byNumber = [["bias", "bias"], ["biasGrad", "bias gradient"]].filter(([name]) => net[name]);
  addChoices(node, [["role", "kind"], ["activation", "activation"], ...byNumber]);
  edge.disabled = !net.weightGrad;
  threshold.value = net.edges > AT_FIRST ? Math.round(1000 * Math.sqrt(AT_FIRST / net.edges)) : 1000;
  threshold.disabled = !net.edges;
  for (const control of [edge, node, threshold]) control.addEventListener("input", changed);
  if (matchMedia("(max-width: 640px)").matches) document.getElementById("options").open = false;
  return () => ({ edgeBy: edge.value, nodeBy: node.value, drawn: edgesAt(Number(threshold.value), net.edges) });
}

/** Say in the page which edges are drawn. */
function describeDrawn(net, ranked, drawn) {
  const least = drawn && net.weight ? Math.abs(net.weight[ranked[drawn - 1]]) : NaN;
  let text = `All ${counted(net.edges, "edge")}.`;
  if (drawn < net.edges) {
    const share = digits((100 * drawn) / net.edges);
    const which = net.weight ? `${grouped(drawn)} strongest` : `${grouped(drawn)} sampled`;
    text = `${which} of ${counted(net.edges, "edge")} (${share} %)`;
    text += Number.isNaN(least) ? "." : `: |weight| \u2265 ${digits(least)}.`;
  }
  document.getElementById("drawn").textContent = text;
  document.getElementById("threshold").setAttribute("aria-valuetext", text);
}

const DIAMOND = ["path", { d: "M6 0.5 11.5 6 6 11.5 0.5 6Z" }], DISC = ["circle", { cx: 6, cy: 6, r: 4.5 }];
const SHAPES = {
  input: ["rect", { x: 2, y: 2, width: 8, height: 8 }], output: DIAMOND, "input and output": DIAMOND,
};

/** A legend's mark: the shape of the kind if it is one, else a disc. */
function mark(key, colour) {
  const [tag, attributes] = SHAPES[key] ?? DISC;
  const space = "http://www.w3.org/2000/svg", picture = document.createElementNS(space, "svg");
  const shape = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries({ ...attributes, fill: colour })) shape.setAttribute(name, value);
  picture.setAttribute("viewBox", "0 0 12 12");
  picture.setAttribute("aria-hidden", "true");
  picture.append(shape);
  return picture;
}

/** A bar of colours from the most negative to the most positive, with its ends' numbers. */
function scaleLegend(what, scale, colours) {
  const canvas = element("canvas"), context = canvas.getContext("2d"), numbers = element("p", "", "scale");
  [canvas.width, canvas.height] = [2 * STEPS, 1];
  canvas.setAttribute("aria-hidden", "true");
  for (let i = 0; i < 2 * STEPS; i++) {
    context.fillStyle = colours[i < STEPS ? STEPS - 1 - i : i];
    context.fillRect(i, 0, 1, 1);
  }
  numbers.append(...[`\u2264 ${digits(-scale)}`, what, `\u2265 ${digits(scale)}`].map((text) => element("span", text)));
  return [canvas, numbers];
}

function keyLegend(keys, colours) {
  const line = element("p");
  for (const [i, key] of keys.entries()) {
    const item = element("span", "", "key");
    item.append(mark(key, colours[i]), key);
    line.append(item);
  }
  return line;
}

/** Explain the colours that are in use now. */
function drawLegend({ edgeWhat, edgeScale, nodeWhat, nodeColouring: nodes, colours, broken, missing }) {
  const parts = edgeScale ? scaleLegend(edgeWhat, edgeScale, colours) : [];
  if (nodes.keys) parts.push(keyLegend(nodes.keys, nodes.colours));
  else if (nodeWhat !== edgeWhat) parts.push(...scaleLegend(nodeWhat, nodes.scale, nodes.colours));
  const extra = [];
  if (broken) extra.push(["not finite", colours[BROKEN]]);
  if (missing) extra.push([`no ${edgeWhat}`, colours[NONE]]);
  if (extra.length) parts.push(keyLegend(extra.map(([text]) => text), extra.map(([, colour]) => colour)));
  document.getElementById("legend").replaceChildren(...parts);
}

/** Light or dark: the system's until the button is pressed. `changed` is called when it changes. */
function followTheme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)"), button = document.getElementById("theme");
  let chosen = null;
  const apply = () => {
    const isDark = chosen ?? system.matches;
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    button.textContent = isDark ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark ? "Use light colours" : "Use dark colours");
    changed();
  };
  system.addEventListener("change", apply);
  button.addEventListener("click", () => {
    chosen = !(chosen ?? system.matches);
    apply();
  });
  apply();
}

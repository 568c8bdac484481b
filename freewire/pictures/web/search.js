// SPDX-License-Identifier: MIT
// Searching a node by name: a combobox, as the ARIA practices describe one.

const MOST_FOUND = 12;

/** An element with text; the only way in which this page makes text, so that names are never read as HTML. */
function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Nodes whose name has the text in it: {found, total}; equal names first, then names that begin with it. */
function search(net, text) {
  const wanted = text.trim().toLowerCase(), groups = [[], [], []];
  let total = 0;
  for (let v = 0; wanted && v < net.count; v++) {
    const name = net.name(v).toLowerCase(), at = name.indexOf(wanted);
    if (at < 0) continue;
    total++;
    const group = groups[name === wanted ? 0 : at === 0 ? 1 : 2];
    if (group.length < MOST_FOUND) group.push(v);
  }
  return { found: groups.flat().slice(0, MOST_FOUND), total };
}

/** Connect the search field; `go` is called with the node that was chosen. */
function followSearch(net, go) {
  const field = document.getElementById("search"), list = document.getElementById("suggestions");
  let found = [], active = 0;
  const close = () => {
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  };
  const activate = (index) => {
    active = index;
    for (const [i, item] of [...list.children].entries()) if (i < found.length) item.ariaSelected = String(i === index);
    if (!found.length) return;
    field.setAttribute("aria-activedescendant", list.children[index].id);
    list.children[index].scrollIntoView({ block: "nearest" });
  };
  const choose = (index) => {
    if (!(index in found)) return;
    field.value = net.name(found[index]);
    close();
    go(found[index]);
  };
  const open = () => {
    const { found: nodes, total } = search(net, field.value);
    found = nodes;
    list.replaceChildren(...found.map((v, i) => suggestion(net, v, i, choose)));
    if (total > found.length) list.append(note(`and ${grouped(total - found.length)} more`));
    if (!total) list.append(note("No node has this in its name."));
    list.hidden = !field.value.trim();
    field.setAttribute("aria-expanded", String(!list.hidden));
    activate(0);
  };
  field.addEventListener("input", open);
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && list.hidden) open();
    else if (step && found.length) activate((active + step + found.length) % found.length);
    else if (event.key === "Enter") list.hidden ? open() : choose(active);
    else if (event.key === "Escape" && !list.hidden) close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function note(text) {
  const item = element("li", text, "note");
  item.setAttribute("role", "presentation");
  return item;
}

function suggestion(net, v, index, choose) {
  const item = element("li");
  item.id = `suggestion-${index}`;
  item.setAttribute("role", "option");
  item.append(element("span", net.name(v), "name"));
  item.append(element("span", `${roleOf(net, v)}, level ${net.level[v]}`, "minor"));
  item.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // or the field would lose the focus, and close the list, before the click
    choose(index);
  });
  return item;
}

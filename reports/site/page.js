// Views, the theme, what a run recorded, and keys in tables.

const byId = (id) => document.getElementById(id);
const scrolled = new Map(); // where the reader was in a view
let here = null; // the view on show

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function show(view) {
  if (here === view) return;
  if (here) scrolled.set(here, window.scrollY);
  for (const other of document.querySelectorAll(".view.on")) other.classList.remove("on");
  view.classList.add("on");
  here = view;
  // What is on show may be printed, also where nobody scrolled to it.
  for (const picture of view.querySelectorAll("img[loading]")) picture.loading = "eager";
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.hash === `#${view.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function route() {
  const parts = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (parts[0] === "case" && parts.length > 2) {
    show(here || byId("report"));
    openCase(...parts.slice(1));
    return;
  }
  const left = closeCase();
  if (parts[0] === "cases" && parts.length > 1) chooseRow(Number(parts[1]));
  const target = byId(parts[0]) || byId("report");
  const view = target.closest(".view") || byId("report");
  const known = scrolled.get(view);
  show(view);
  if (view.id === "cases") drawRows();
  if (target !== view) reveal(target);
  else if (!left) window.scrollTo(0, known || 0);
}

function reveal(target) {
  for (let one = target.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
  target.scrollIntoView({ block: target.tagName === "TR" ? "center" : "start" });
  if (target.tabIndex === -1) target.focus({ preventScroll: true });
}

function startTheme() {
  const button = byId("theme");
  const root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.style.colorScheme || (preferred.matches ? "dark" : "light")) === "dark";
  const say = () => button.setAttribute("aria-pressed", String(isDark()));
  const choose = (scheme) => { root.style.colorScheme = scheme; say(); };
  let remembered = null;
  try { remembered = localStorage.getItem("scheme"); } catch { /* a browser that keeps nothing for files */ }
  if (remembered === "dark" || remembered === "light") choose(remembered);
  button.addEventListener("click", () => {
    choose(isDark() ? "light" : "dark");
    try { localStorage.setItem("scheme", root.style.colorScheme); } catch { /* then only this page has it */ }
  });
  preferred.addEventListener("change", say);
  say();
}

// Texts that many runs share are kept once, and are put together when somebody looks.
function startRecorded() {
  let recorded = null;
  for (const details of document.querySelectorAll("details[data-run]")) {
    details.addEventListener("toggle", () => {
      const pre = details.querySelector("pre");
      if (!details.open || pre.textContent) return;
      recorded = recorded || JSON.parse(byId("runs-data").textContent);
      const part = recorded.runs[details.dataset.run][details.dataset.part];
      pre.textContent = Object.entries(part).map(([key, at]) => `${key}: ${recorded.texts[at]}`).join("\n");
    });
  }
}

// A table is one stop of the Tab key; arrows move among its numbers.
function startTables() {
  for (const table of document.querySelectorAll("table.numbers")) {
    const first = table.querySelector("td a");
    if (first) first.tabIndex = 0;
    table.addEventListener("keydown", (event) => moveInTable(table, event));
  }
}

function moveInTable(table, event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const cell = event.target.closest("td");
  if (!step || !cell || event.target.tagName !== "A") return;
  const rows = [...table.querySelectorAll("tbody tr:not(.group)")];
  let [row, column] = [rows.indexOf(cell.parentElement), cell.cellIndex];
  for (;;) {
    [row, column] = [row + step[0], column + step[1]];
    const next = rows[row] && rows[row].cells[column];
    if (!next || column < 1) break;
    const link = next.querySelector("a");
    if (!link) continue;
    event.target.tabIndex = -1;
    link.tabIndex = 0;
    link.focus();
    break;
  }
  event.preventDefault();
}

// For paper, everything of the view is opened and afterwards closed again.
function startPrint() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...here.querySelectorAll("details:not([open]):not([data-run]):not(#metrics)")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
}

// While `sdseg report --watch` runs, the file stamp.js says which page is the newest.
function startLive() {
  const { stamp } = document.documentElement.dataset;
  if (!stamp) return;
  window.reportStamp = (newest) => { if (newest !== stamp) location.reload(); };
  setInterval(() => {
    const script = make("script", { src: `stamp.js?${Date.now()}` });
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
  }, 3000);
}

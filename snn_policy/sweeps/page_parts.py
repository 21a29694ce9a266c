"""Style and script of a report's page. Nothing is fetched: the page's own policy forbids it."""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --soft: #f6f8fa;
  --link: #0969da; --warn: #fff8c5; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #3d444d;
  --soft: #151b23; --link: #58a6ff; --warn: #2e2a1f; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem clamp(.9rem, 3vw, 2rem) 4rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: 1rem 0; }
p.note, figcaption, footer { color: var(--faint); font-size: .875rem; max-width: 62rem; }
ul.remarks { background: var(--warn); border: 1px solid var(--line); border-radius: 6px; font-size: .9rem;
  padding: .6rem .9rem .6rem 2rem; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .6rem; margin: 1rem 0; }
dl.facts div { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; background: var(--soft); }
dl.facts dt { color: var(--faint); font-size: .8rem; }
dl.facts dd { margin: 0; font-size: 1.15rem; font-weight: 600; }
div.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; max-height: 80vh; }
table { border-collapse: separate; border-spacing: 0; font-size: .85rem; min-width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { position: sticky; top: 0; z-index: 1; background: var(--soft); vertical-align: bottom; line-height: 1.25;
  min-width: 4.6rem; }
td.n span { display: inline-block; white-space: nowrap; color: var(--faint); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
td:not(.n) { max-width: 22rem; }
tbody th { font-weight: 600; background: var(--page); position: sticky; left: 0; max-width: 16rem;
  border-right: 1px solid var(--line); }
th small { display: none; font-weight: 400; color: var(--faint); }
thead th:first-child { left: 0; z-index: 2; border-right: 1px solid var(--line); }
th button { all: unset; cursor: pointer; font: inherit; font-weight: 600; }
th button:hover { color: var(--link); }
th button:focus-visible, summary:focus-visible, a:focus-visible, div.wide:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
th button::after { content: "\\2195"; color: var(--faint); margin-left: .3em; font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\2191"; color: var(--link); }
th[aria-sort=descending] button::after { content: "\\2193"; color: var(--link); }
figure { margin: 1rem 0; }
figure img { width: 100%; max-width: 36rem; height: auto; display: block; border-radius: 6px; }
div.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 1.5rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .3rem .7rem; }
details:target { border-color: var(--link); }
summary { cursor: pointer; }
details dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; font-size: .85rem; }
details dt { color: var(--faint); }
details dd { margin: 0; }
code, pre { font: .8rem/1.45 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; margin: .5rem 0; }
@media (max-width: 34rem) { details dl { grid-template-columns: 1fr; gap: 0; } details dd { margin-bottom: .4rem; }
  dl.facts { grid-template-columns: 1fr 1fr 1fr; } dl.facts dd { font-size: 1rem; } tbody th { max-width: 10rem; }
  th small { display: block; }
  .runs tr > :nth-child(2), .runs tr > :nth-child(3) { display: none; } }
@media print { div.wide { max-height: none; overflow: visible; } nav { display: none; } }
"""

SCRIPT = """
"use strict";
const parts = text => text.split(/(\\d+(?:\\.\\d+)?)/).map((part, place) => place % 2 ? Number(part) : part);
const byParts = (a, b) => {
  const [left, right] = [parts(a), parts(b)];
  const place = left.findIndex((part, index) => part !== right[index]);
  if (place < 0) return left.length - right.length;
  return right[place] === undefined || left[place] > right[place] ? 1 : -1;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numeric;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => {
        const cell = row.cells[column];
        return numeric ? (cell.dataset.v === undefined ? null : Number(cell.dataset.v)) : cell.textContent;
      };
      const sorted = Array.from(body.rows).map(row => [value(row), row]).sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = numeric ? a - b : byParts(a, b);
        return down ? -order : order;
      });
      body.append(...sorted.map(([, row]) => row));
    });
  });
}
const open = () => {
  const wanted = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (wanted && wanted.tagName === "DETAILS") { wanted.open = true; wanted.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
"""

// Sorts and filters the table of reproduced results. Without this script all rows are shown.
const table = document.getElementById("results");
const form = document.getElementById("results-filter");
// An entry is a body of two rows: its numbers, and what unfolds.
const rows = [...table.tBodies];
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

function filter() {
  const wanted = Object.fromEntries(new FormData(form));
  const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const fits = ["verdict", "paper", "cost"].every(
      (name) => !wanted[name] || row.dataset[name] === wanted[name],
    );
    row.hidden = !(fits && words.every((word) => texts.get(row).includes(word)));
    shown += !row.hidden;
  }
  document.getElementById("results-count").value = `${shown} of ${rows.length} entries`;
}

// Numbers by size, and what has none last whichever way; texts by the alphabet.
function value(row, column) {
  const cell = row.rows[0].cells[column];
  if (!cell.classList.contains("number")) return cell.textContent;
  return parseFloat(cell.dataset.value ?? cell.textContent);
}

function order(one, other, sign) {
  if (typeof one === "string") return sign * one.localeCompare(other);
  if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other);
  return sign * (one - other);
}

function sort(heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const column = heading.cellIndex;
  rows.sort((a, b) => order(value(a, column), value(b, column), sign));
  table.append(...rows);
}

for (const heading of table.tHead.rows[0].cells) {
  heading.firstElementChild.addEventListener("click", () => sort(heading));
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
// A link to an entry opens it.
function open() {
  const row = rows.find((one) => one.id === decodeURIComponent(location.hash.slice(1)));
  if (row) row.querySelector("details").open = true;
}
addEventListener("hashchange", open);
open();

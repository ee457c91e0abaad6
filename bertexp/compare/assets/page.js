// Tables that are sorted by their headers.
// A click on a header sorts by its column, a second one the other way round; gaps stay last.
function sortable(table) {
  const headers = [...table.querySelectorAll("thead th")], body = table.tBodies[0];
  headers.forEach((header, column) => header.querySelector("button")?.addEventListener("click", () => {
    const up = header.getAttribute("aria-sort") !== "ascending";
    const rows = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
    const gaps = rows.filter(([value]) => value === ""), rest = rows.filter(([value]) => value !== "");
    const numeric = rest.every(([value]) => Number.isFinite(Number(value)));
    rest.sort(([a], [b]) => (up ? 1 : -1) * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true })));
    body.append(...[...rest, ...gaps].map(([, row]) => row));
    for (const other of headers) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
  }));
}

for (const table of document.querySelectorAll("#settings, #effects, #abilities, #runs")) sortable(table);

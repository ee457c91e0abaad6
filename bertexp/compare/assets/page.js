// The page's theme, and tables that are sorted by their headers.
function theme() {
  const root = document.documentElement, button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
}

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

theme();
for (const table of document.querySelectorAll("#settings, #runs")) sortable(table);

// Sorts every table of the class "sortable" by the buttons that it puts into the headings of its columns.
// A cell is sorted by its attribute data-key, else by its text. Missing values come last, and ties keep
// their order. Without scripts the table stays as it is.
"use strict";
(() => {
  const MISSING = new Set(["", "-", "–", "—", "−", "nan", "n/a", "none", "?"]);
  const UNITS = {
    ns: 1e-9, us: 1e-6, µs: 1e-6, μs: 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600,
    B: 1, kB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30,
  };
  const NUMBER = /^[<>≤≥~≈±]?\s*([-+]?)(inf|∞|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)(.*)$/is;
  // What may stand after a number: nothing, its error, a unit, a remark; not the rest of a date or a version.
  const REST = /^(?:\s*$|\s*[±(%‰°*†]|\s*[\p{L}µ]+(?![\d])|\s+\S)/u;
  // A range of decimals, which is sorted by its start; a collator sorts one of integers.
  const RANGE = /^\s*[-–]\s*\d*\.?\d+\s*$/;
  const words = new Intl.Collator("en", { numeric: true });

  const text = (cell) => (cell === undefined ? "" : (cell.dataset.key ?? cell.textContent).trim());

  const number = (value) => {
    const match = NUMBER.exec(value.replace(/−/g, "-"));
    if (!match) return null;
    const [, sign, digits, rest] = match;
    if (!REST.test(rest) && !(digits.includes(".") && RANGE.test(rest))) return null;
    const size = /^(inf|∞)$/i.test(digits) ? Infinity : Number(digits.replace(/,/g, ""));
    const unit = /^(?:\s*(?:±|\+\/-)\s*[\d.,e+-]+)?\s*([\p{L}µ]+)/u.exec(rest);
    return (sign === "-" ? -1 : 1) * size * ((unit && UNITS[unit[1]]) ?? 1);
  };

  const sort = (table, column, descending) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].map((row) => ({ row, value: text(row.cells[column]) }));
      for (const item of rows) item.missing = MISSING.has(item.value.toLowerCase());
      const present = rows.filter((item) => !item.missing);
      for (const item of present) item.number = number(item.value);
      const numeric = present.every((item) => item.number !== null);
      const order = (a, b) => {
        if (!numeric) return words.compare(a.value, b.value);
        return a.number < b.number ? -1 : Number(a.number > b.number);
      };
      present.sort((a, b) => (descending ? order(b, a) : order(a, b)));
      body.append(...present.concat(rows.filter((item) => item.missing)).map((item) => item.row));
    }
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = table.tHead ? [...table.tHead.rows].at(-1).cells : [];
    for (const heading of headings) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, heading.cellIndex, descending);
      });
    }
  }
})();

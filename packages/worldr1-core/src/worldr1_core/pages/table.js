
"use strict";
(() => {
  const table = document.getElementById("scores");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  const compare = (column, kind, sign) => (a, b) => {
    const [x, y] = [a, b].map((row) => row.cells[column].dataset.key);
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (kind === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const kind = head.dataset.sort;
      const now = head.getAttribute("aria-sort");
      const up = now ? now === "descending" : kind === "text";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort(compare(column, kind, up ? 1 : -1)));
    });
  });

  const filter = document.querySelector(".filter");
  filter.hidden = body.rows.length < 8;
  filter.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) {
      const words = [row.cells[0], row.cells[1]].map((cell) => cell.dataset.key.toLowerCase()).join("\n");
      row.hidden = !words.includes(wanted);
    }
  });
})();

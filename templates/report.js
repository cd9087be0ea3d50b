// Tables sort by a click on a heading.
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    head.addEventListener("click", () => {
      const text = "text" in head.dataset;
      const up = head.ariaSort ? head.ariaSort !== "ascending" : text;
      const key = (row) => row.cells[column].dataset.by;
      const order = (a, b) => (text ? key(a).localeCompare(key(b), undefined, { numeric: true }) : key(a) - key(b));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
      table.tBodies[0].append(...rows);
      heads.forEach((other) => (other.ariaSort = null));
      head.ariaSort = up ? "ascending" : "descending";
    });
  });
}

// Rows and columns of the confusion matrix change places together.
const matrix = document.getElementById("matrix");
if (matrix) {
  const body = matrix.tBodies[0];
  const orders = {
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
    recall: (a, b) => a.dataset.recall - b.dataset.recall,
    support: (a, b) => b.dataset.support - a.dataset.support,
  };
  document.getElementById("order").addEventListener("change", (event) => {
    const rows = [...body.rows].sort(orders[event.target.value]);
    const places = new Map(rows.map((row, place) => [row.dataset.number, place]));
    body.append(...rows);
    const arrange = (row, number) => {
      const [first, ...cells] = row.cells;
      row.append(first, ...cells.sort((a, b) => places.get(number(a)) - places.get(number(b))));
    };
    arrange(matrix.tHead.rows[0], (cell) => cell.dataset.number);
    for (const row of rows) arrange(row, (cell) => cell.dataset.answer);
  });

  // A click on a number of the matrix shows its images.
  const shown = document.getElementById("shown");
  const images = document.querySelectorAll("#small img");
  matrix.addEventListener("click", (event) => {
    const cell = event.target.closest("button")?.closest("td");
    if (!cell || !shown) return;
    const wanted = `${cell.parentElement.dataset.number}-${cell.dataset.answer}`;
    let count = 0;
    for (const image of images) {
      image.hidden = image.dataset.cell !== wanted;
      if (!image.hidden) count += 1;
    }
    const answer = matrix.querySelector(`.col[data-number="${cell.dataset.answer}"]`).title;
    const all = document.createElement("button");
    all.textContent = "show all";
    all.addEventListener("click", () => {
      for (const image of images) image.hidden = false;
      shown.textContent = shown.dataset.all;
    });
    shown.replaceChildren(`${cell.parentElement.dataset.name} predicted as ${answer}: ${count} of them `, all);
    shown.scrollIntoView({ block: "nearest" });
  });
}

"use strict";

// Tables: a heading sorts the rows by the values of its column, numbers as numbers.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.every((row) => value(row) === "" || !Number.isNaN(Number(value(row))));
    const order = numeric ? (a, b) => Number(value(a)) - Number(value(b)) : (a, b) => value(a).localeCompare(value(b));
    table.tBodies[0].append(...rows.sort((a, b) => sign * order(a, b)));
  }));
}

// Masks: the picture is read back once, when it is first pointed at.
const SIGNS = { "255,255,255": "zero", "0,114,178": "kept, positive", "213,94,0": "kept, negative" };

function indices(flat, shape) {
  const found = [];
  for (const size of [...shape].reverse()) {
    found.unshift(flat % size);
    flat = Math.floor(flat / size);
  }
  return found;
}

for (const svg of document.querySelectorAll(".mask svg")) {
  const { width: columns, height: rows } = svg.viewBox.baseVal;
  const shape = svg.dataset.shape.split(",").map(Number);
  const output = svg.closest("figure").querySelector("output");
  const cell = svg.querySelector(".cell");
  let place = [0, 0], pixels = null;

  async function show(row, column) {
    place = [Math.max(0, Math.min(rows - 1, row)), Math.max(0, Math.min(columns - 1, column))];
    if (pixels === null) {
      const image = new Image();
      image.src = svg.querySelector("image").getAttribute("href");
      await image.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      pixels = context.getImageData(0, 0, columns, rows).data;
    }
    const flat = place[0] * columns + place[1];
    cell.setAttribute("x", place[1]);
    cell.setAttribute("y", place[0]);
    cell.setAttribute("visibility", "visible");
    output.value = `${svg.dataset.name}[${indices(flat, shape).join(", ")}]: ${SIGNS[pixels.slice(4 * flat, 4 * flat + 3).join()]}`;
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    show(Math.floor((event.clientY - box.top) / box.height * rows), Math.floor((event.clientX - box.left) / box.width * columns));
  });
  svg.addEventListener("focus", () => show(...place));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(place[0] + step[0], place[1] + step[1]);
  });
}

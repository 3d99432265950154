"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const table = get("table");
  const body = table.tBodies[0];
  const viewer = get("viewer");
  const slider = get("slice");

  // ---- the table

  function sortBy(header) {
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const column = header.cellIndex;
    const key = (row) => row.cells[column].dataset.value;
    const compare = header.classList.contains("text")
      ? (a, b) => direction * key(a).localeCompare(key(b), undefined, { numeric: true })
      : (a, b) => {
          // undefined scores stand last whichever way
          if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
          return direction * (key(a) - key(b));
        };
    body.append(...[...body.rows].sort(compare));
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    const order = direction > 0 ? "ascending" : "descending";
    header.setAttribute("aria-sort", order);
    get("sorted").textContent = `Sorted by ${header.textContent.trim()}, ${order}.`;
  }
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr.clickable");
    if (row && !String(getSelection())) show(row);
  });

  // ---- the viewer

  let row = null;
  let shown = null;
  const withPictures = () => [...body.rows].filter((one) => one.classList.contains("clickable"));
  const sequence = () => Number(document.querySelector("input[name=sequence]:checked").value);
  // checkboxes, in order, where there are several classes
  const classes = [...document.querySelectorAll(".show-class")];
  const thousands = (number) => Math.round(number).toLocaleString("en");

  function show(chosen) {
    row = chosen;
    shown = JSON.parse(get(row.dataset.pictures).textContent);
    get("viewed").textContent = row.cells[0].textContent;
    get("scores-of-case").replaceChildren(
      ...[...row.cells].slice(1).flatMap((cell, position) => {
        const [name, value] = [document.createElement("dt"), document.createElement("dd")];
        name.textContent = table.tHead.rows[0].cells[position + 1].textContent;
        value.textContent = cell.textContent;
        return [name, value];
      }),
    );
    const [rows, columns] = shown.size;
    get("outlines").setAttribute("viewBox", `0 0 ${2 * columns} ${2 * rows}`);
    viewer.querySelector(".picture").style.setProperty("--aspect", shown.aspect);
    const others = withPictures();
    get("previous").disabled = others[0] === row;
    get("next").disabled = others.at(-1) === row;
    slider.max = shown.numbers.length - 1;
    slider.disabled = shown.numbers.length === 1;
    slider.value = largest(trueAreas()) ?? largest(predictedAreas()) ?? Math.floor(shown.numbers.length / 2);
    drawAreas();
    draw();
    if (!viewer.open) viewer.showModal();
  }

  // counts of one class, or of each of several
  const byClass = (counts) => (Array.isArray(counts[0]) ? counts : [counts]);
  const areas = (area) => shown.counts.map((counts) => byClass(counts).reduce((sum, of) => sum + area(of), 0));
  const trueAreas = () => areas(([truePositive, , falseNegative]) => truePositive + falseNegative);
  const predictedAreas = () => areas(([truePositive, falsePositive]) => truePositive + falsePositive);
  function largest(areas) {
    const most = Math.max(...areas);
    return most > 0 ? areas.indexOf(most) : null;
  }

  function draw() {
    const position = Number(slider.value);
    const radio = document.querySelector("input[name=sequence]:checked");
    const name = radio.closest("label").textContent.trim();
    get("picture").src = `data:image/jpeg;base64,${shown.pictures[sequence()][position]}`;
    get("picture").style.filter = `brightness(${shown.brightness[sequence()]})`;
    get("picture").alt = `Slice ${shown.numbers[position] + 1}, ${name}`;
    for (const kind of ["true", "predicted"]) {
      const outlines = [shown[kind][position]].flat();
      for (const path of get("outlines").querySelectorAll(`.${kind}`)) {
        const number = Number(path.dataset.class ?? 0);
        const visible = get(`show-${kind}`).checked && (classes[number]?.checked ?? true);
        path.setAttribute("d", visible ? outlines[number] : "");
      }
    }
    const here = get("areas").querySelector(".here");
    here.setAttribute("x1", place(position));
    here.setAttribute("x2", place(position));
    const text = describe(position);
    get("announcement").replaceChildren(...text);
    slider.setAttribute("aria-valuetext", get("announcement").textContent);
  }

  function describe(position) {
    const area = (pixels) => (shown.mm2 ? `${thousands(pixels * shown.mm2)} mm²` : `${thousands(pixels)} pixels`);
    const title = document.createElement("b");
    title.textContent = `Slice ${shown.numbers[position] + 1} of ${shown.slices}`;
    const lines = byClass(shown.counts[position]).map(([truePositive, falsePositive, falseNegative], number) => {
      const name = classes[number]?.closest("label").textContent.trim();
      const total = 2 * truePositive + falsePositive + falseNegative;
      const rest = total
        ? `true ${area(truePositive + falseNegative)}, predicted ${area(truePositive + falsePositive)}, ` +
          `Dice ${((2 * truePositive) / total).toFixed(3)}`
        : `no ${name ? "pixel" : "tumour"}, and none predicted`;
      return name ? `${name}: ${rest}` : rest;
    });
    return [title, ...lines.flatMap((line) => [document.createElement("br"), line])];
  }

  // ---- area by slice, over the slider

  const place = (position) => (shown.numbers.length > 1 ? position : 0.5);

  function drawAreas() {
    const svg = get("areas");
    const width = Math.max(shown.numbers.length - 1, 1);
    const half = Math.min(0.4, 0.03 * width);
    const most = Math.max(...trueAreas(), ...predictedAreas(), 1);
    svg.setAttribute("viewBox", `0 0 ${width} 40`);
    const make = (name, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      return element;
    };
    const bars = (areas, kind) =>
      areas.flatMap((area, position) => {
        const height = (19 * area) / most;
        const y = kind === "true" ? 20 - height : 20;
        return area ? [make("rect", { class: kind, x: place(position) - half, y, width: 2 * half, height })] : [];
      });
    svg.replaceChildren(
      ...bars(trueAreas(), "true"),
      ...bars(predictedAreas(), "predicted"),
      make("line", { class: "middle", x1: 0, x2: width, y1: 20, y2: 20 }),
      make("line", { class: "here", y1: 0, y2: 40 }),
    );
  }

  // ---- what the reader does

  function move(by) {
    slider.value = Number(slider.value) + by;
    draw();
  }
  function step(by) {
    const others = withPictures();
    const next = others[others.indexOf(row) + by];
    if (next) show(next);
  }
  slider.addEventListener("input", draw);
  viewer.addEventListener("change", draw);
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  viewer.addEventListener("close", () => row.querySelector("button").focus());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const toggle = { t: "show-true", p: "show-predicted" }[event.key.toLowerCase()];
    if (toggle) get(toggle).click();
    // sliders and radio buttons have a use of their own for arrow keys
    if (event.key in moves && !event.target.matches("input[type=range], input[type=radio]")) {
      event.preventDefault();
      move(moves[event.key]);
    }
  });
  let scrolled = 0;
  viewer.querySelector(".picture").addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey) return;
      event.preventDefault();
      // touchpads send many small steps, mouse wheels few large ones
      scrolled += Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 40);
      if (Math.abs(scrolled) < 40) return;
      move(Math.sign(scrolled));
      scrolled = 0;
    },
    { passive: false },
  );
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();

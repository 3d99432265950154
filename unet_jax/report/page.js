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
  const colours = classes.map((box) => box.closest("label").querySelector(".key").style.getPropertyValue("--class"));
  const stage = makeStage(viewer.querySelector(".picture"), { onSlice: move });
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
    const others = withPictures();
    get("previous").disabled = others[0] === row;
    get("next").disabled = others.at(-1) === row;
    slider.max = shown.numbers.length - 1;
    slider.disabled = shown.numbers.length === 1;
    slider.value = largest(trueAreas()) ?? largest(predictedAreas()) ?? Math.floor(shown.numbers.length / 2);
    drawAreas();
    draw();
    stage.show(shown.aspect, shown.mm, shown.edges);
    brighten();
    if (!viewer.open) viewer.showModal();
  }

  // counts of one class, or of each of several
  const byClass = (counts) => (Array.isArray(counts[0]) ? counts : [counts]);
  const areas = (area) => shown.counts.map((counts) => byClass(counts).reduce((sum, of) => sum + area(of), 0));
  const trueArea = ([truePositive, , falseNegative]) => truePositive + falseNegative;
  const predictedArea = ([truePositive, falsePositive]) => truePositive + falsePositive;
  const trueAreas = () => areas(trueArea);
  const predictedAreas = () => areas(predictedArea);
  const wrongAreas = () => areas(([, falsePositive, falseNegative]) => falsePositive + falseNegative);
  function largest(areas) {
    const most = Math.max(...areas);
    return most > 0 ? areas.indexOf(most) : null;
  }

  const brighten = () => stage.brighten(shown.brightness[sequence()]);
  const SIDES = { R: "right", L: "left", A: "front", P: "back", S: "head", I: "feet" };

  function draw() {
    const position = Number(slider.value);
    const radio = document.querySelector("input[name=sequence]:checked");
    const name = radio.closest("label").textContent.trim();
    get("picture").src = `data:image/jpeg;base64,${shown.pictures[sequence()][position]}`;
    const sides = shown.edges ? `; the patient's ${SIDES[shown.edges[0]]} at the left edge` : "";
    get("picture").alt = `Slice ${shown.numbers[position] + 1}, ${name}${sides}`;
    for (const kind of ["true", "predicted"]) {
      const outlines = [shown[kind][position]].flat();
      for (const path of get("outlines").querySelectorAll(`.${kind}`)) {
        const number = Number(path.dataset.class ?? 0);
        const visible = get(`show-${kind}`).checked && (classes[number]?.checked ?? true);
        path.setAttribute("d", visible ? outlines[number] : "");
        get(`inside-${kind}-${number}`)?.firstElementChild.setAttribute("d", outlines[number]);
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
    // of several classes one on the other, in their colours
    const bars = (area, kind) =>
      shown.counts.flatMap((counts, position) => {
        let sum = 0;
        return byClass(counts).flatMap((of, number) => {
          const height = (19 * area(of)) / most;
          const y = kind === "true" ? 20 - sum - height : 20 + sum;
          sum += height;
          const style = colours.length ? `fill: ${colours[number]}` : "";
          return height ? [make("rect", { class: kind, x: place(position) - half, y, width: 2 * half, height, style })] : [];
        });
      });
    svg.replaceChildren(
      ...bars(trueArea, "true"),
      ...bars(predictedArea, "predicted"),
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
  viewer.addEventListener("change", (event) => {
    draw();
    if (event.target.name === "sequence") brighten();
  });
  get("worst").addEventListener("click", () => {
    slider.value = largest(wrongAreas()) ?? slider.value;
    draw();
  });
  get("zoom-in").addEventListener("click", () => stage.zoomBy(1.5));
  get("zoom-out").addEventListener("click", () => stage.zoomBy(1 / 1.5));
  get("reset").addEventListener("click", stage.reset);
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  viewer.addEventListener("close", () => row.querySelector("button").focus());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  const KEYS = {
    t: "show-true", p: "show-predicted", w: "worst", "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", 0: "reset",
  };
  const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const button = KEYS[event.key.toLowerCase()];
    if (button) get(button).click();
    // sliders and radio buttons have a use of their own for arrow keys
    if (event.key in moves && !event.target.matches("input[type=range], input[type=radio]")) {
      event.preventDefault();
      move(moves[event.key]);
    }
  });
  // A link from elsewhere names the case that it is about, or what is folded here.
  function openNamed() {
    const name = new URLSearchParams(location.hash.slice(1)).get("case");
    const folded = document.getElementById(location.hash.slice(1));
    if (folded && folded.tagName === "DETAILS") folded.open = true;
    const found = name && [...body.rows].find((one) => one.cells[0].dataset.value === name);
    if (!found) return;
    if (found.classList.contains("clickable")) return show(found);
    // of a case without pictures, its scores
    body.querySelector(".found")?.classList.remove("found");
    found.classList.add("found");
    found.scrollIntoView({ block: "center", behavior: "instant" });
  }
  addEventListener("hashchange", openNamed);
  openNamed();
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();

"use strict";
// The picture of a slice: zoomed, moved, windowed, with a scale bar and the patient's sides at its edges.
function makeStage(picture, { onSlice }) {
  const find = (name) => picture.querySelector(name);
  const [canvas, image, bar, label] = [".canvas", "img", ".scale", ".scale span"].map(find);
  const MOST_ZOOM = 8;
  let [zoom, left, top] = [1, 0, 0]; // the last two in shares of the picture, from -(zoom - 1) to 0
  let [low, high, standard] = [0, 1, 1]; // what is black and what is white, as shares of the file's range
  let mm = null;

  const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

  function place() {
    left = clamp(left, 1 - zoom, 0);
    top = clamp(top, 1 - zoom, 0);
    Object.assign(canvas.style, {
      left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * zoom}%`, height: `${100 * zoom}%`,
    });
    picture.classList.toggle("zoomed", zoom > 1);
    drawScale();
  }

  function drawScale() {
    bar.hidden = mm === null;
    if (mm === null || !picture.clientWidth) return;
    const pixels = (picture.clientWidth * zoom) / mm;
    const most = (0.3 * picture.clientWidth) / pixels;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = power * [5, 2, 1].find((factor) => factor * power <= most);
    bar.style.width = `${length * pixels}px`;
    label.textContent = length >= 10 ? `${length / 10} cm` : `${Number(length.toPrecision(1))} mm`;
  }

  // A straight line from black to white, as the product of CSS's two filters; `low` is never below 0, so that the first
  // of them clips nothing that the second would still show.
  function drawWindow() {
    const contrast = 1 + (2 * low) / (high - low);
    image.style.filter = `brightness(${1 / (high - low) / contrast}) contrast(${contrast})`;
  }

  function setWindow(centre, width) {
    width = clamp(width, 0.02, 2);
    low = clamp(centre - width / 2, 0, 0.98);
    high = low + width;
    drawWindow();
  }

  // (x, y): what stays where it is, in shares of the picture
  function zoomTo(wanted, x = 0.5, y = 0.5) {
    const next = clamp(wanted, 1, MOST_ZOOM);
    left = x - ((x - left) * next) / zoom;
    top = y - ((y - top) * next) / zoom;
    zoom = next;
    place();
  }

  function shareOf(event) {
    const box = picture.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  // ---- fingers and mouse

  const pointers = new Map();
  let began = null;

  function begin() {
    const points = [...pointers.values()];
    began = { points, zoom, left, top, centre: (low + high) / 2, width: high - low };
  }
  picture.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    picture.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, shareOf(event));
    begin();
  });
  picture.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, shareOf(event));
    const [[x, y], other] = [...pointers.values()];
    const [[x0, y0], other0] = began.points;
    if (other) {
      const distance = (one, two) => Math.hypot(one[0] - two[0], one[1] - two[1]);
      [zoom, left, top] = [began.zoom, began.left, began.top];
      zoomTo((began.zoom * distance([x, y], other)) / Math.max(distance([x0, y0], other0), 0.01), (x0 + other0[0]) / 2, (y0 + other0[1]) / 2);
    } else if (zoom > 1 && !event.shiftKey) {
      [left, top] = [began.left + x - x0, began.top + y - y0];
      place();
    } else {
      setWindow(began.centre + (y - y0) * began.width, began.width * Math.exp(2 * (x - x0)));
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    picture.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      begin();
    });
  }

  let scrolled = 0;
  picture.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // a pinch on a touchpad is the wheel with Ctrl
      if (event.ctrlKey) return zoomTo(zoom * Math.exp(-clamp(event.deltaY, -40, 40) / 100), ...shareOf(event));
      // touchpads send many small steps, mouse wheels few large ones
      scrolled += Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 40);
      if (Math.abs(scrolled) < 40) return;
      onSlice(Math.sign(scrolled));
      scrolled = 0;
    },
    { passive: false },
  );
  new ResizeObserver(drawScale).observe(picture);

  function reset() {
    [zoom, left, top, low, high] = [1, 0, 0, 0, standard];
    place();
    drawWindow();
  }

  return {
    zoomBy: (factor) => zoomTo(zoom * factor),
    reset,
    // another sequence: its grey values mean something else
    brighten(factor) {
      [low, high, standard] = [0, 1 / factor, 1 / factor];
      drawWindow();
    },
    show(aspect, width, edges) {
      picture.style.setProperty("--aspect", aspect);
      mm = width;
      ["left", "right", "top", "bottom"].forEach((name, number) => {
        find(`.edge.${name}`).textContent = edges?.[number] ?? "";
      });
      reset();
    },
  };
}

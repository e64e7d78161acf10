// Draws the maps of every widget that no script has drawn yet, as show/overlay.py does it, and answers to what is clicked and
// hovered. All texts stand in the page already, escaped there; what comes from data is numbers.
(() => {
  "use strict";
  const UNSEEN = 65535;

  const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

  function told(value, most) {
    // As show/bar.py: three digits of the largest number beside it.
    const digits = most >= 100 || !(most > 0) ? 0 : 2 - Math.floor(Math.log10(most));
    const text = digits <= 6 && Math.abs(value) < 1e6 ? value.toFixed(digits) : value.toExponential(2);
    return Number(text) === 0 ? "0" : (value > 0 ? "+" : "") + text;
  }

  class Map2D {
    constructor({ grid, ends, cells, shared, own, flat, unit }) {
      [this.rows, this.columns] = grid;
      const raw = bytes(cells);
      this.values = new Float64Array(raw.length / 2);
      for (let k = 0; k < this.values.length; k++) {
        const number = raw[2 * k] + 256 * raw[2 * k + 1];  // the lower byte first
        this.values[k] = number === UNSEEN ? NaN : ends[0] + (ends[1] - ends[0]) * number / (UNSEEN - 1);
      }
      Object.assign(this, { shared, own, flat, unit });
    }
    scale(each) { return each || this.flat !== null ? this.own : this.shared; }
    at(row, column) { return this.values[row * this.columns + column]; }
  }

  // The two cells between which each of `count` pixels lies, and how near it is to the second one; none outside of the box.
  function between(count, first, last, cells) {
    const found = [];
    for (let pixel = 0; pixel < count; pixel++) {
      const share = ((pixel + 0.5) / count - first) / (last - first);
      if (share < 0 || share > 1) { found.push(null); continue; }
      const place = Math.min(Math.max(share * cells - 0.5, 0), cells - 1), low = Math.floor(place);
      found.push([low, Math.min(low + 1, cells - 1), place - low]);
    }
    return found;
  }

  function draw(canvas, picture, map, [low, high, signed], box, look) {
    const { width, height } = canvas, context = canvas.getContext("2d");
    const result = context.createImageData(width, height), out = result.data, last = look.steps - 1;
    const colors = signed ? look.diverging : look.sequential, middle = signed ? last / 2 : 0;
    const across = between(width, box[0], box[2], map.columns), down = between(height, box[1], box[3], map.rows);
    const period = Math.max(6, Math.floor(Math.max(width, height) / 60)), stripe = Math.max(1, Math.floor(period / 6));
    for (let y = 0, k = 0; y < height; y++) {
      for (let x = 0; x < width; x++, k += 4) {
        const red = picture[k], green = picture[k + 1], blue = picture[k + 2];
        const gray = 0.299 * red + 0.587 * green + 0.114 * blue;
        let value = NaN;
        if (down[y] && across[x]) {
          const [top, below, v] = down[y], [left, right, u] = across[x];
          value = (1 - v) * ((1 - u) * map.at(top, left) + u * map.at(top, right))
            + v * ((1 - u) * map.at(below, left) + u * map.at(below, right));
        }
        out[k + 3] = 255;
        if (Number.isNaN(value)) {
          const veil = (0.4 * gray + 0.6 * look.veil) * ((x + y) % period < stripe ? 0.75 : 1);
          out[k] = out[k + 1] = out[k + 2] = veil;
          continue;
        }
        const place = high > low ? Math.round(Math.min(Math.max((value - low) / (high - low), 0), 1) * last) : middle;
        const opacity = colors[4 * place + 3] / 255, added = look.alpha * opacity, shaded = (1 - look.alpha) * opacity * gray;
        out[k] = (1 - opacity) * red + shaded + added * colors[4 * place];
        out[k + 1] = (1 - opacity) * green + shaded + added * colors[4 * place + 1];
        out[k + 2] = (1 - opacity) * blue + shaded + added * colors[4 * place + 2];
      }
    }
    context.putImageData(result, 0, 0);
  }

  function bar(signed, look) {
    const canvas = document.createElement("canvas"), rows = 8, colors = signed ? look.diverging : look.sequential;
    [canvas.width, canvas.height] = [look.steps, rows];
    const context = canvas.getContext("2d"), made = context.createImageData(look.steps, rows);
    for (let k = 0; k < look.steps * rows; k++) {
      const [x, y] = [k % look.steps, Math.floor(k / look.steps)];
      const below = (Math.floor(2 * y / rows) + Math.floor(2 * x / rows)) % 2 ? 250 : 222;
      const weight = look.alpha * colors[4 * x + 3] / 255;
      for (let c = 0; c < 3; c++) made.data[4 * k + c] = weight * colors[4 * x + c] + (1 - weight) * below;
      made.data[4 * k + 3] = 255;
    }
    context.putImageData(made, 0, 0);
    return canvas.toDataURL();
  }

  async function answer(view, look) {
    const content = JSON.parse(view.dataset.content), box = content.box;
    const maps = content.maps.map((one) => new Map2D(one));
    const regions = content.regions.map((words) => words.map((one) => new Map2D(one)));
    const find = (name) => view.querySelector(".gc-" + name);
    const stage = find("stage"), image = stage.querySelector("img"), canvas = find("map"), patch = find("patch");
    const texts = [...view.querySelectorAll(".gc-text")], chips = texts.map((one) => [...one.querySelectorAll(".gc-word")]);
    const chooses = texts.map((one) => one.querySelector(".gc-choose"));
    let text = 0, word = null, cell = null, copies = [];
    // Texts share a scale, so that a wrong one looks cold; where a word has its region is seen on the word's own.
    const each = { texts: look.each, words: true }, kind = () => word === null ? "texts" : "words";

    await image.decode();
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const picture = context.getImageData(0, 0, canvas.width, canvas.height).data;

    const chosen = () => word === null ? maps[text] : regions[text][word];

    function choose(t, k) {
      [text, word] = [t, k !== null && t === text && k === word ? null : k];
      show();
      // On a narrow screen the texts stand below the picture, which is then out of sight.
      const { top, bottom } = stage.getBoundingClientRect(), middle = (top + bottom) / 2;
      if (middle < 0 || middle > window.innerHeight) find("look").scrollIntoView();
    }

    function press(some, t) {
      some.forEach((one, k) => {
        if (one.tagName === "BUTTON") one.setAttribute("aria-pressed", String(t === text && k === word));
      });
    }

    // The chosen text below the picture, where its words can be clicked while the picture is in sight.
    function caption() {
      copies = chips[text].filter((one) => one.tagName === "BUTTON").map((one) => one.cloneNode(true));
      copies.forEach((one, k) => one.addEventListener("click", () => choose(text, k)));
      const title = texts[text].querySelector(".gc-title").textContent;
      find("shown").replaceChildren(...(copies.length ? copies.flatMap((one) => [one, " "]) : [title]));
      find("shown").dataset.text = text;
    }

    function show() {
      find("each").checked = each[kind()];
      const map = chosen(), scale = map.scale(each[kind()]), [low, high, signed] = scale;
      draw(canvas, picture, map, scale, box, look);
      texts.forEach((one, t) => one.classList.toggle("gc-chosen", t === text));
      chooses.forEach((one, t) => one.setAttribute("aria-pressed", String(t === text && word === null)));
      if (find("shown").dataset.text !== String(text)) caption();
      [...chips.entries(), [text, copies]].forEach(([t, some]) => press(some, t));
      const most = Math.max(Math.abs(low), Math.abs(high)), plain = (value) => told(value, most).replace(/^\+/, signed ? "+" : "");
      find("key").hidden = !(high > low);
      find("low").textContent = plain(low);
      find("high").textContent = plain(high);
      find("unit").textContent = map.unit;
      find("bar").src = bar(signed, look);
      read();
    }

    // Says what the patch under the pointer or the cursor is worth, and which words of the text it goes with.
    function read() {
      const reading = find("reading"), lines = [];
      [...chips.flat(), ...copies].forEach((one) => one.classList.remove("gc-goes"));
      patch.hidden = cell === null;
      if (cell !== null) {
        const map = chosen(), value = map.at(...at(map));
        const [row, column] = at(map), [left, top, right, bottom] = box;
        Object.assign(patch.style, {
          left: `${100 * (left + (right - left) * column / map.columns)}%`, width: `${100 * (right - left) / map.columns}%`,
          top: `${100 * (top + (bottom - top) * row / map.rows)}%`, height: `${100 * (bottom - top) / map.rows}%`,
        });
        const most = Math.max(Math.abs(map.own[0]), Math.abs(map.own[1]), Math.abs(map.shared[0]), Math.abs(map.shared[1]));
        const said = Number.isNaN(value) ? "not seen by the model" : `${told(value, most)} ${map.unit}`;
        lines.push(`patch in row ${row + 1}, column ${column + 1}: ${said}`);
        const values = regions[text].map((one) => one.at(...at(one))), best = Math.max(...values, 0);
        const goes = values.map((one, k) => [one, k]).filter(([one]) => best > 0 && one >= best / 2).sort((a, b) => b[0] - a[0]);
        goes.forEach(([, k]) => [chips[text][k], copies[k]].forEach((one) => one.classList.add("gc-goes")));
        if (regions[text].length) {
          const words = goes.slice(0, 4).map(([one, k]) => `${chips[text][k].textContent} ${told(one, best)}`);
          lines.push(words.length ? `goes with: ${words.join(", ")}` : "goes with no word");
        }
      }
      reading.replaceChildren(...lines.map((one) => Object.assign(document.createElement("span"), { textContent: one })));
    }

    const at = (map) => [Math.floor(cell[0] * map.rows), Math.floor(cell[1] * map.columns)];

    function point(event) {
      const frame = stage.getBoundingClientRect();
      const x = ((event.clientX - frame.left) / frame.width - box[0]) / (box[2] - box[0]);
      const y = ((event.clientY - frame.top) / frame.height - box[1]) / (box[3] - box[1]);
      cell = x >= 0 && x < 1 && y >= 0 && y < 1 ? [y, x] : null;
      read();
    }

    stage.addEventListener("pointermove", point);
    stage.addEventListener("pointerdown", point);
    stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { cell = null; read(); } });
    stage.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (event.key === "Escape") cell = null;
      else if (step) {
        const map = chosen(), clip = (value, most) => Math.min(Math.max(value, 0), most - 1);
        const [row, column] = cell === null ? [Math.floor(map.rows / 2) - step[0], Math.floor(map.columns / 2) - step[1]] : at(map);
        cell = [(clip(row + step[0], map.rows) + 0.5) / map.rows, (clip(column + step[1], map.columns) + 0.5) / map.columns];
      } else return;
      event.preventDefault();
      read();
    });
    chooses.forEach((one, t) => one.addEventListener("click", () => choose(t, null)));
    chips.forEach((some, t) => some.forEach((one, k) => {
      if (one.tagName !== "BUTTON") return;
      one.disabled = false;
      one.addEventListener("click", () => choose(t, k));
    }));
    find("opacity").addEventListener("input", (event) => { canvas.style.opacity = event.target.value / 100; });
    find("each").addEventListener("change", (event) => { each[kind()] = event.target.checked; show(); });
    for (const one of view.querySelectorAll("[data-scripted]")) one.hidden = false;
    stage.tabIndex = 0;
    show();
    view.dataset.drawn = "";
  }

  for (const root of document.querySelectorAll(".gradeclip:not([data-ready])")) {
    root.dataset.ready = "";
    const look = JSON.parse(root.dataset.look);
    [look.sequential, look.diverging] = [bytes(look.sequential), bytes(look.diverging)];
    for (const view of root.querySelectorAll(".gc-view")) answer(view, look);
  }
})();

"use strict";
(() => {
const PER_PAGE = 24;
const FAR = 0.1; // seconds out of step: beyond, a video jumps; below, it runs a little faster or slower
const data = JSON.parse(document.getElementById("data").textContent);
const columns = Object.entries(data.columns);
const form = document.getElementById("filters");
const fields = form.elements;
const ticks = [...form.querySelectorAll("[name=show]")];
const host = document.getElementById("clips");
const collator = new Intl.Collator(undefined, { numeric: true });

/** An element; texts among its children are never read as HTML. */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const fixed = (number) => (number === null ? "–" : number.toFixed(3));

/** Resolves once the video shows the frame it was sent to, or is known to be broken. */
function settled(video) {
  return new Promise((resolve) => {
    const events = ["loadeddata", "seeked", "error", "emptied"];
    const check = () => {
      if (video.error || !video.isConnected || (video.readyState >= 2 && !video.seeking)) {
        events.forEach((event) => video.removeEventListener(event, check));
        resolve();
      }
    };
    events.forEach((event) => video.addEventListener(event, check));
    check();
  });
}

/**
 * A clip: pictures of its original and overlays, which become videos when it is first played or scrubbed, and
 * pictures again when it leaves the screen. The first video leads; the others keep in step with it.
 */
class Card {
  constructor(clip) {
    this.clip = clip;
    this.playing = false;
    this.turn = 0; // tells a start that was overtaken by a later click
    const explained = Object.entries(data.explainers).filter(([key]) => key in clip.items);
    this.tiles = [
      ...(clip.original ? [this.tile(null, "Original", clip.original)] : []),
      ...explained.map(([key, name]) => this.tile(key, name, clip.items[key])),
    ];
    this.element = make("article", { className: "clip" }, this.head(), this.pictures(), this.bar(), this.sheet());
    this.show();
  }

  head() {
    const { clip, class_name, dataset, model, target_name, probability, disagreement } = this.clip;
    const about = make("p", { className: "soft" });
    if (Object.keys(data.models).length * Object.keys(data.datasets).length > 1) {
      about.append(`${data.models[model]} on ${data.datasets[dataset]}: `);
    }
    if (class_name !== null) about.append("class ", make("b", {}, class_name), ", ");
    about.append("explained ", make("b", {}, target_name));
    if (probability !== null) about.append(`, probability ${fixed(probability)}`);
    const differs = disagreement === null ? null
      : make("p", { className: "disagreement" }, "disagreement ", make("b", {}, disagreement.toFixed(2)));
    return make("header", {}, make("h3", {}, clip), about, differs);
  }

  tile(key, name, files) {
    const [, height, width] = this.clip.size;
    const label = `${name} on ${this.clip.clip}`;
    // Lazy comes before the source, or the source is asked for at once.
    const picture = files.image && make("img", { loading: "lazy", alt: label, width, height, src: files.image });
    const box = make("div", { className: "box" }, picture);
    box.style.aspectRatio = `${width} / ${height}`;
    const numbers = make("dl", {});
    if (files.scores?.some((score) => score !== null)) {
      columns.forEach(([, column], at) => numbers.append(make("dt", {}, column), make("dd", {}, fixed(files.scores[at]))));
    }
    const figure = make("figure", { className: "tile" }, box, make("figcaption", {}, make("b", {}, name), numbers));
    return { key, label, files, picture, box, figure, video: null };
  }

  pictures() {
    this.board = make("div", { className: "tiles" }, ...this.tiles.map((tile) => tile.figure));
    this.board.onclick = ({ target }) => {
      if (this.player && target.closest(".box")) this.toggle();
    };
    return this.board;
  }

  bar() {
    if (!this.tiles.some((tile) => tile.files.video)) return null;
    const last = this.clip.size[0] - 1;
    this.button = make("button", { type: "button", className: "play", onclick: () => this.toggle() });
    this.scrubber = make("input", { type: "range", min: 0, max: last, step: 1, ariaLabel: `Frame of ${this.clip.clip}` });
    this.scrubber.oninput = () => this.seek(Number(this.scrubber.value));
    this.scrubber.onkeydown = (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      this.toggle();
    };
    this.position = make("output", {});
    this.player = make("div", { className: "player" }, this.button, this.scrubber, this.position);
    this.label();
    this.mark(last + 1 >> 1); // the frame that the pictures show
    return this.player;
  }

  sheet() {
    if (this.clip.sheet === null) return null;
    const alt = `Overlays of all methods on frames of ${this.clip.clip}`;
    const link = make("a", { href: this.clip.sheet }, make("img", { loading: "lazy", alt, src: this.clip.sheet }));
    return make("details", {}, make("summary", {}, "Frame by frame"), link);
  }

  label() {
    this.button.textContent = this.playing ? "Pause" : "Play";
    this.button.ariaLabel = `${this.button.textContent} ${this.clip.clip}`;
  }

  mark(frame) {
    const last = this.clip.size[0] - 1;
    this.scrubber.value = Math.min(frame, last);
    this.position.textContent = `frame ${this.scrubber.value} / ${last}`;
    this.scrubber.ariaValueText = this.position.textContent;
  }

  get videos() {
    return this.tiles.map((tile) => tile.video).filter((video) => video && !video.error);
  }

  /** Shows the explainers that are ticked. */
  show() {
    const ticked = new Set(ticks.filter((tick) => tick.checked).map((tick) => tick.value));
    const [leader] = this.videos;
    for (const tile of this.tiles) {
      tile.figure.hidden = tile.key !== null && !ticked.has(tile.key);
      if (tile.figure.hidden) this.unload(tile);
      else if (leader) this.load(tile, leader.currentTime);
    }
    const count = this.tiles.filter((tile) => !tile.figure.hidden).length || 1;
    this.board.style.setProperty("--tiles", count);
    this.board.style.setProperty("--columns", Math.ceil(count / Math.ceil(count / 6)));
  }

  load(tile, time) {
    if (tile.video || !tile.files.video) return;
    tile.video = make("video", { muted: true, playsInline: true, preload: "auto", ariaLabel: tile.label });
    if (tile.files.image) tile.video.poster = tile.files.image;
    tile.video.addEventListener("error", () => tile.box.classList.add("broken"));
    tile.video.src = tile.files.video;
    tile.video.currentTime = time;
    tile.box.replaceChildren(tile.video);
  }

  unload(tile) {
    if (!tile.video) return;
    const video = tile.video;
    tile.video = null;
    tile.box.replaceChildren(...(tile.picture ? [tile.picture] : []));
    // Without a source the browser frees the decoder at once.
    video.pause();
    video.removeAttribute("src");
    video.load();
  }

  /** Sends all videos to one moment; true unless another call came in between. */
  async gather(time) {
    const turn = (this.turn += 1);
    for (const tile of this.tiles) if (!tile.figure.hidden) this.load(tile, time);
    for (const video of this.videos) {
      video.pause();
      video.playbackRate = 1;
      video.currentTime = time;
    }
    await Promise.all(this.videos.map(settled));
    return turn === this.turn;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play(this.videos.length ? this.moment(Number(this.scrubber.value)) : 0);
  }

  /** In the midst of a frame, where rounding shows no other. */
  moment(frame) {
    return (frame + 0.5) / this.clip.fps;
  }

  async play(time) {
    this.playing = true;
    this.label();
    if (!(await this.gather(time))) return;
    for (const video of this.videos) video.play().catch(() => {});
    this.follow(this.turn);
  }

  follow(turn) {
    if (turn !== this.turn) return;
    const [leader, ...others] = this.videos;
    if (!leader) { this.pause(); return; }
    if (leader.ended) { this.play(0); return; }
    for (const video of others) {
      const late = leader.currentTime - video.currentTime;
      if (video.paused && !video.ended) video.play().catch(() => {});
      if (Math.abs(late) <= FAR) video.playbackRate = 1 + 3 * late;
      else if (!video.seeking && !video.ended) video.currentTime = leader.currentTime;
    }
    this.mark(Math.floor(leader.currentTime * this.clip.fps));
    requestAnimationFrame(() => this.follow(turn));
  }

  pause() {
    this.playing = false;
    this.label();
    this.gather(this.moment(Number(this.scrubber.value)));
  }

  seek(frame) {
    this.mark(frame);
    if (this.playing) this.play(this.moment(frame));
    else this.gather(this.moment(frame));
  }

  /** Back to pictures; the browser may forget the videos. */
  close() {
    if (!this.videos.length && !this.playing) return;
    this.turn += 1;
    this.playing = false;
    this.tiles.forEach((tile) => this.unload(tile));
    this.label();
    this.mark(this.clip.size[0] >> 1);
  }
}

let cards = new Map(); // element → card, of this page
let page = 1;
const observer = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) if (!isIntersecting) cards.get(target)?.close();
}, { rootMargin: "200px" });

/** The clips that pass the filters, in order. */
function chosen() {
  const value = (name) => fields[name]?.value ?? "";
  const wanted = value("q").trim().toLowerCase();
  const passed = data.clips.filter((clip) => clip.clip.toLowerCase().includes(wanted)
    && ["class_name", "dataset", "model"].every((key) => {
      const only = value(key === "class_name" ? "class" : key);
      return only === "" || clip[key] === only;
    }));
  const sort = value("sort");
  const at = columns.findIndex(([key]) => key === value("column"));
  const rank = {
    name: () => 0,
    disagreement: (clip) => clip.disagreement,
    best: (clip) => clip.items[value("of")]?.scores[at] ?? null,
  };
  rank.worst = rank.best;
  const upwards = sort !== "name" && sort !== "disagreement" && (sort === "best") === data.lower.includes(value("column"));
  return passed
    .map((clip) => ({ clip, key: rank[sort](clip) }))
    .sort((a, b) => (a.key === null) - (b.key === null) || (upwards ? a.key - b.key : b.key - a.key)
      || collator.compare(a.clip.clip, b.clip.clip))
    .map(({ clip }) => clip);
}

function render() {
  for (const card of cards.values()) card.close();
  observer.disconnect();
  const ranked = form.querySelector(".ranked");
  if (ranked) ranked.hidden = !["best", "worst"].includes(fields.sort.value);
  const found = chosen();
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  page = Math.min(Math.max(page, 1), pages);
  const made = found.slice((page - 1) * PER_PAGE, page * PER_PAGE).map((clip) => new Card(clip));
  cards = new Map(made.map((card) => [card.element, card]));
  host.replaceChildren(...(made.length ? cards.keys() : [make("p", { className: "soft" }, "No clip is like that.")]));
  made.forEach((card) => observer.observe(card.element));
  document.getElementById("count").textContent = `${found.length} of ${data.clips.length} clips`;
  for (const pager of document.querySelectorAll(".pager")) {
    pager.hidden = pages === 1;
    pager.querySelector("[data-page]").textContent = `page ${page} of ${pages}`;
    pager.querySelector("[data-turn='-1']").disabled = page === 1;
    pager.querySelector("[data-turn='1']").disabled = page === pages;
  }
}

const usual = (field) => (field.options ? field.options[0].value : "");
const choices = [...fields].filter((field) => field.name && field.name !== "show");

/** What is chosen, in the address: a link that can be shared. */
function share() {
  const state = new URLSearchParams();
  for (const field of choices) {
    if (field.value !== usual(field) && !field.closest("[hidden]")) state.set(field.name, field.value);
  }
  const ticked = ticks.filter((tick) => tick.checked);
  if (ticked.length < ticks.length) for (const { value } of ticked.length ? ticked : [{ value: "" }]) state.append("show", value);
  if (page > 1) state.set("page", page);
  history.replaceState(null, "", state.size ? `#gallery?${state}` : "#gallery");
}

function restore() {
  const [start, query] = location.hash.split("?", 2);
  if (start !== "#gallery" || query === undefined) return;
  const state = new URLSearchParams(query);
  for (const field of choices) {
    field.value = state.get(field.name) ?? usual(field);
    if (field.selectedIndex === -1) field.selectedIndex = 0;
  }
  for (const tick of ticks) tick.checked = !state.has("show") || state.getAll("show").includes(tick.value);
  page = Number.parseInt(state.get("page"), 10) || 1;
  render();
  document.getElementById("gallery").scrollIntoView({ behavior: "instant" });
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", ({ target }) => {
  if (target.name === "show") {
    for (const card of cards.values()) card.show();
  } else {
    page = 1;
    render();
  }
  share();
});
for (const pager of document.querySelectorAll(".pager")) {
  pager.addEventListener("click", ({ target }) => {
    if (!target.dataset.turn) return;
    page += Number(target.dataset.turn);
    render();
    share();
    form.scrollIntoView({ behavior: "instant" });
  });
}
window.addEventListener("hashchange", restore);
form.hidden = false;
render();
restore();
})();

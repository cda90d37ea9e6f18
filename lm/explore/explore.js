// The page of scripts/explore.py: a text area, transparent, over the same text shaded.

const MOST_CACHED_LINES = 500;
const WORDS_AT_ONCE = 2000; // in a request of several lines
const MOST_WORDS = 5000; // in a line, and in a request; the server takes no more
const TOO_LONG = `Lines of more than ${MOST_WORDS} words are not scored.`;
const PAUSE = 300; // milliseconds without a key until the figures are drawn again
const DWELL = 150; // milliseconds that a pointer rests on a word before it is shown, so that it can move to the candidates

const [text, shades, detail, message] = ["#text", "#shades", "#detail", "#message"].map((each) => document.querySelector(each));
const cache = new Map(); // line → its score by each model
const previous = []; // by number of line, the scores of what stood there before
let scoring = false; // whether the server is scoring
let continuing = null; // what aborts the continuation that streams in
let hovering = 0; // the timer of the pointer's rest
let drawing = 0; // the timer of the figures

// --- scoring as one types

function lines() {
  return text.value.split("\n");
}

async function request(path, body, signal) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

/** Have the lines scored that have not been yet; what is typed meanwhile is scored next. */
async function score() {
  draw();
  if (scoring) return;
  scoring = true;
  try {
    let missing;
    while ((missing = [...new Set(lines())].filter((line) => isScored(line) && !cache.has(line))).length) {
      const some = firstLines(missing);
      const found = await (await request("score", { lines: some })).json();
      some.forEach((line, i) => cache.set(line, found.map((scores) => scores[i])));
      if (cache.size > MOST_CACHED_LINES) forgetOtherLines();
      message.textContent = "";
      draw();
    }
    const tooLong = lines().some((line) => line.trim() && !isScored(line));
    if (tooLong || message.textContent === TOO_LONG) message.textContent = tooLong ? TOO_LONG : "";
  } catch (error) {
    message.textContent = error.message;
  } finally {
    scoring = false;
  }
}

function wordCount(line) {
  return line.split(/\s+/).length;
}

/** Whether a line has words, and not too many. */
function isScored(line) {
  return line.trim() && wordCount(line.trim()) <= MOST_WORDS;
}

/** The first of the lines, one at least, as far as a request may have them. */
function firstLines(all) {
  let words = 0;
  return all.filter((line, i) => (words += wordCount(line)) <= WORDS_AT_ONCE || !i);
}

/** Keep the scores of the lines on the page only. */
function forgetOtherLines() {
  const shown = new Set(lines());
  for (const line of cache.keys()) if (!shown.has(line)) cache.delete(line);
}

// --- shading

/** What the words are shaded by: the number of a model, or "difference". */
function choice() {
  const chosen = document.querySelector("#choice input:checked");
  return !chosen || chosen.value === "difference" ? chosen?.value ?? 0 : +chosen.value;
}

function draw() {
  shades.replaceChildren(...lines().map(drawnLine));
  const known = lines().flatMap((line) => (cache.get(line) ? [cache.get(line)] : []));
  const about = (model, i) => (models.length > 1 ? `${model.name}: ` : "") + summary(known.map((each) => each[i]));
  const isComplete = lines().every((line) => cache.has(line) || !isScored(line)); // else a reader would be told twice
  if (isComplete) document.querySelector("#summary").textContent = models.map(about).join(" | ");
  if (!detail.contains(document.activeElement)) describe(chosenPlace()); // the keyboard may be at a candidate
}

/** A line of text as shaded words; until it is scored, those that it begins with keep their shades. */
function drawnLine(line, number) {
  const element = document.createElement("div");
  const scores = cache.get(line);
  if (scores) previous[number] = scores;
  const usable = scores ?? previous[number];
  let position = 0;
  for (const { start, end, i } of usable ? placed(line, usable[0].words, Boolean(scores)) : []) {
    element.append(line.slice(position, start));
    const span = create("span", "word", line.slice(start, end));
    paint(span, usable, i, number, start);
    element.append(span);
    position = end;
  }
  element.append(line.slice(position));
  if (scores?.[0].words.at(-1) === "<eos>" && !/<eos>\s*$/.test(line)) {
    const ending = create("span", "word ending", "");
    paint(ending, scores, scores[0].words.length - 1, number, line.length);
    element.append(ending);
  }
  if (!line) element.append("\u200b"); // an empty line has a height, too
  return element;
}

/** Where a line's words stand in it; those of an earlier text only as long as nothing else comes between. */
function placed(line, words, ofThisLine) {
  const places = [];
  let position = 0;
  for (const [i, word] of words.entries()) {
    // a tokenised text has @-@ for the - in a word
    const found = [word, word.replace(/^@(.)@$/, "$1")].map((each) => ({ start: line.indexOf(each, position), length: each.length }));
    const place = found.filter(({ start }) => start >= 0).sort((a, b) => a.start - b.start || b.length - a.length)[0];
    if (!place || (!ofThisLine && line.slice(position, place.start).trim())) break;
    position = place.start + place.length;
    places.push({ start: place.start, end: position, i });
  }
  if (!ofThisLine && /^\S/.test(line.slice(position))) places.pop(); // the last word goes on
  return places;
}

function paint(span, scores, i, line, start) {
  if (choice() === "difference") shadeByDifference(span, scores[0], scores[1], i);
  else shadeBySurprisal(span, scores[choice()], i);
  Object.assign(span.dataset, { line, place: i, start });
  span.scores = scores;
}

// --- the word at the cursor, or under the pointer

/** The line and column of the cursor. */
function cursor() {
  const before = text.value.slice(0, text.selectionStart).split("\n");
  return { line: before.length - 1, column: before.at(-1).length };
}

/** The place of the word at the cursor, or before it. */
function chosenPlace() {
  const { line, column } = cursor();
  const words = [...(shades.children[line]?.querySelectorAll(".word[data-place]") ?? [])];
  const word = words.findLast((each) => +each.dataset.start <= Math.max(column - 1, 0));
  return { line, place: +(word ?? words[0])?.dataset.place };
}

function describe({ line, place }) {
  shades.querySelector(".chosen")?.classList.remove("chosen");
  const word = shades.children[line]?.querySelector(`[data-place="${place}"]`);
  if (!word) return detail.replaceChildren(create("p", "faint", "Type, or point at a word."));
  word.classList.add("chosen");
  const choose = (replacement) => replaceWord(line, word, replacement);
  const title = (i) => (models.length > 1 ? models[i].name : "");
  detail.replaceChildren(...word.scores.map((score, i) => detailOf(score, place, title(i), choose)));
}

/** Put a candidate in the place of a word, with a space between it and its neighbours; in that of a line's end, before it. */
function replaceWord(line, word, replacement) {
  stop();
  const start = lines().slice(0, line).join("\n").length + (line ? 1 : 0) + +word.dataset.start;
  const end = start + word.textContent.length;
  const gap = (neighbour) => (/^\S$/.test(neighbour ?? "") ? " " : "");
  const written = replacement === "<eos>" ? "\n" : gap(text.value[start - 1]) + replacement + gap(text.value[end]);
  text.setRangeText(written, start, end, "end");
  text.focus();
  score();
}

function wordAt(event) {
  return document.elementsFromPoint(event.clientX, event.clientY).find((each) => each.matches("#shades .word[data-place]"));
}

text.addEventListener("pointermove", (event) => {
  clearTimeout(hovering);
  const word = event.pointerType === "mouse" && !event.buttons && wordAt(event);
  if (word) hovering = setTimeout(() => describe({ line: +word.dataset.line, place: +word.dataset.place }), DWELL);
});
text.addEventListener("pointerleave", () => clearTimeout(hovering));
document.addEventListener("selectionchange", () => {
  if (document.activeElement !== text) return;
  describe(chosenPlace());
  drawFigures();
});

// --- continuing

async function continueText() {
  stop();
  const aborter = (continuing = new AbortController());
  const options = Object.fromEntries(["temperature", "top_p", "max_words"].map((name) => [name, +document.getElementById(name).value]));
  let at = text.selectionStart;
  if (/^\S/.test(text.value.slice(at))) text.setRangeText(" ", at, at, "start"); // between the sample and what follows
  document.querySelector("#stop").disabled = false;
  try {
    const model = +document.querySelector("#model").value;
    const response = await request("continue", { model, prompt: text.value.slice(0, at), ...options }, aborter.signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; !(part = await reader.read()).done; ) {
      text.setRangeText(part.value, at, at, "end");
      at += part.value.length;
      score();
    }
    message.textContent = "";
  } catch (error) {
    if (error.name !== "AbortError") message.textContent = error.message;
  } finally {
    if (continuing === aborter) document.querySelector("#stop").disabled = true;
    drawFigures();
  }
}

function stop() {
  continuing?.abort();
  document.querySelector("#stop").disabled = true;
}

// --- figures of a line

/** Draw the open figures once nothing has changed for a while. */
function drawFigures() {
  clearTimeout(drawing);
  drawing = setTimeout(drawFiguresNow, PAUSE);
}

function drawFiguresNow() {
  const line = lines()[cursor().line];
  const model = choice() === "difference" ? 0 : choice();
  for (const name of ["heat_map", "attention"]) {
    const details = document.getElementById(name);
    const source = `${name}.png?${new URLSearchParams({ model, line })}`;
    const image = details.querySelector("img");
    if (name === "attention") details.hidden = !models[model].attention;
    if (!line.trim()) forget(image);
    if (!details.open || details.hidden || !line.trim() || image.dataset.source === source) continue;
    image.dataset.source = image.src = source;
    image.alt = details.textContent.trim();
  }
}

/** Show no figure, and draw the next one whichever it is. */
function forget(image) {
  image.removeAttribute("src");
  image.alt = image.dataset.source = "";
}

// --- the page

function begin() {
  const choices = models.length > 1 ? [...models.map((model, i) => [i, model.name]), ["difference", "difference"]] : [];
  for (const [value, name] of choices) {
    const label = create("label", "", "");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "choice", value, checked: value === 0 });
    input.addEventListener("change", () => (explain(), draw(), drawFigures()));
    label.append(input, ` ${name} `);
    document.querySelector("#choice").append(label);
  }
  for (const [i, model] of models.entries()) document.querySelector("#model").append(new Option(model.name, i));
  document.querySelector("#continue-by").hidden = models.length < 2;
  for (const input of document.querySelectorAll("input[type=range]")) {
    const show = () => (input.nextElementSibling.value = input.value);
    input.addEventListener("input", show);
    show();
  }
  for (const name of ["heat_map", "attention"]) {
    const details = document.getElementById(name);
    details.addEventListener("toggle", drawFigures);
    details.querySelector("img").addEventListener("error", ({ target }) => {
      forget(target);
      message.textContent = `No figure of ${details.textContent.trim().toLowerCase()}.`;
    });
  }
  for (const act of [stop, score, drawFigures]) text.addEventListener("input", act);
  detail.addEventListener("focusin", stop); // or the word would move away from under the keyboard
  document.querySelector("#continue").addEventListener("click", continueText);
  document.querySelector("#stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey) continueText();
    if (event.key === "Escape") stop();
  });
  explain();
  text.setSelectionRange(text.value.length, text.value.length);
  score();
  drawFigures();
}

/** The legend of what words are shaded by. */
function explain() {
  const difference = choice() === "difference";
  drawLegend(document.querySelector(".legend"), difference ? ORANGE_TO_PURPLE : YELLOW_TO_RED);
  document.querySelector("#low").textContent = difference ? `less probable under ${models[0].name}` : "surprisal 0";
  document.querySelector("#high").textContent = difference ? "more probable" : `${MAX_SURPRISAL} nats or more`;
}

begin();

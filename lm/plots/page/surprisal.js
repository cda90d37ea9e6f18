"use strict";

// Scores are the JSON of lm.score.Score: words, known, log_probs, ranks, top_log_probs.

const MAX_SURPRISAL = 12; // nats, as in the figures
const MAX_DIFFERENCE = 4; // nats
// ColorBrewer's YlOrRd and PuOr, which the colour-blind can tell apart
const YELLOW_TO_RED = ["#ffffcc", "#ffeda0", "#fed976", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#bd0026", "#800026"];
const ORANGE_TO_PURPLE = ["#b35806", "#e08214", "#fdb863", "#fee0b6", "#f7f7f7", "#d8daeb", "#b2abd2", "#8073ac", "#542788"];

/** The colour at a position from 0 to 1 of a palette, as [red, green, blue]. */
function colourAt(palette, position) {
  const place = Math.min(Math.max(position, 0), 1) * (palette.length - 1);
  const left = Math.min(Math.floor(place), palette.length - 2);
  const channels = (text) => [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
  const [first, second] = [channels(palette[left]), channels(palette[left + 1])];
  return first.map((channel, i) => Math.round(channel + (place - left) * (second[i] - channel)));
}

/** Shade an element, with legible text (luminance of ITU-R BT.709). */
function shade(element, palette, position) {
  const [red, green, blue] = colourAt(palette, position);
  element.style.backgroundColor = `rgb(${red}, ${green}, ${blue})`;
  element.style.color = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 115 ? "white" : "black";
}

function shadeBySurprisal(element, score, i) {
  shade(element, YELLOW_TO_RED, -score.log_probs[i] / MAX_SURPRISAL);
  element.classList.toggle("unknown", !score.known[i]);
}

/** Orange where the first model expects the word less than the second, purple where more. */
function shadeByDifference(element, first, second, i) {
  shade(element, ORANGE_TO_PURPLE, 0.5 + (first.log_probs[i] - second.log_probs[i]) / (2 * MAX_DIFFERENCE));
  element.classList.toggle("unknown", !first.known[i] || !second.known[i]);
}

/** Draw a palette as the background of the legend. */
function drawLegend(element, palette) {
  element.style.background = `linear-gradient(to right, ${palette.join(", ")})`;
}

function create(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function percent(logProb) {
  const value = 100 * Math.exp(logProb);
  return value >= 10 ? `${value.toFixed(0)} %` : value >= 0.1 ? `${value.toFixed(1)} %` : "< 0.1 %";
}

/** A word's rank, probability and most probable alternatives as bars; `choose(word)` makes these buttons. */
function detailOf(score, i, title, choose) {
  const detail = document.createElement("div");
  detail.append(create("h2", "", title ? `${title}: ${score.words[i]}` : score.words[i]));
  const unknown = score.known[i] ? "" : " · not in the vocabulary, scored as <unk>";
  const facts = `rank ${score.ranks[i].toLocaleString("en")} · ${percent(score.log_probs[i])} · ${(-score.log_probs[i]).toFixed(2)} nats`;
  detail.append(create("p", "faint", facts + unknown));
  const came = score.known[i] ? score.words[i] : "<unk>";
  for (const [word, logProb] of score.top_log_probs[i]) {
    const row = create(choose ? "button" : "div", word === came ? "candidate came" : "candidate", "");
    row.append(create("span", "", word), percent(logProb));
    row.style.setProperty("--share", `${100 * Math.exp(logProb)}%`);
    if (choose) row.addEventListener("click", () => choose(word));
    detail.append(row);
  }
  return detail;
}

/** Words and perplexity of a text. */
function summary(scores) {
  const logProbs = scores.flatMap((score) => score.log_probs);
  if (!logProbs.length) return "nothing to score";
  const mean = -logProbs.reduce((sum, each) => sum + each, 0) / logProbs.length;
  return `${logProbs.length.toLocaleString("en")} words · perplexity ${Math.exp(mean).toPrecision(4)} · ${mean.toFixed(2)} nats per word`;
}

// What was logged is text, and is shown as text: never markup. What cannot be seen is made visible,
// since it is how a text pretends to be another one.
import { html, useState } from "./lib.js";
import { ask } from "./api.js";
import { number } from "./format.js";

// Control and format characters (escapes, bidi controls, zero widths, tags), surrogates, private
// and unassigned ones, line and paragraph separators; fillers and variation selectors, which are
// letters or marks by name only. Line ends and tabs are what they are.
const HIDDEN = /(?![\n\t])([\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0e\uffa0\u{e0100}-\u{e01ef}])\1*/gu;

export function visible(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(HIDDEN)) {
    if (found.index > at) parts.push(text.slice(at, found.index));
    const code = found[1].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const times = found[0].length / found[1].length;
    parts.push(html`<span class="hidden-char">U+${code}${times > 1 ? `×${times}` : ""}</span>`);
    at = found.index + found[0].length;
  }
  if (!parts.length) return text;
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

// The same where there can be no elements: in options, titles and labels.
export function plainly(text) {
  return String(text ?? "").replace(HIDDEN, (all, one) => {
    const code = one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const times = all.length / one.length;
    return `[U+${code}${times > 1 ? `×${times}` : ""}]`;
  });
}

// A short text in a line: a name, a preview.
export function Line({ text, class: name = "" }) {
  return html`<bdi class=${name}>${visible(String(text ?? "").replace(/\s+/g, " "))}</bdi>`;
}

const SHARE = 50_000;

// A long text in shares that end with a line where they can: the browser lays out only what is seen.
function shares(text) {
  const found = [];
  let at = 0;
  while (at < text.length) {
    let end = Math.min(text.length, at + SHARE);
    if (end < text.length) {
      const line = text.lastIndexOf("\n", end) + 1;
      if (line > at + SHARE / 2) end = line;
      else if (/[\ud800-\udbff]/.test(text[end - 1])) end -= 1;
    }
    found.push(text.slice(at, end));
    at = end;
  }
  return found;
}

// A text of any length. A cut one offers the rest: `source` says where that is asked for.
export function Whole({ text, source, class: name = "" }) {
  const [more, setMore] = useState([]);
  const [state, setState] = useState("cut");
  const load = async () => {
    setState("loading");
    const pieces = [];
    let at = text.shown;
    try {
      while (at < text.length) {
        const { piece, next } = await ask("text", { ...source, number: text.number, at });
        if (next <= at) break;
        pieces.push(...shares(piece));
        at = next;
      }
      setMore(pieces);
      setState("whole");
    } catch (error) {
      setState(error.message);
    }
  };
  const cut = text.length !== undefined;
  return html`<div class=${`logged ${name}`} dir="auto">${visible(text.text)}${more.map(
    (piece, n) => html`<div class="piece" key=${n}>${visible(piece)}</div>`,
  )}</div>
    ${cut && state === "cut" && source && html`<button class="link more" onClick=${load}>
      … load the whole: ${number(text.length)} characters, ${number(text.shown)} shown</button>`}
    ${cut && state === "loading" && html`<p class="quiet">loading …</p>`}
    ${cut && !["cut", "loading", "whole"].includes(state) && html`<p class="bad">${state}</p>`}`;
}

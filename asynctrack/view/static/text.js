// What was logged is text, and is shown as text: never markup. What cannot be seen is made visible,
// since it is how a text pretends to be another one.
import { html } from "./lib.js";

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

// How many characters of a text cannot be seen.
export function hidden(text) {
  let count = 0;
  for (const found of text.matchAll(HIDDEN)) count += found[0].length / found[1].length;
  return count;
}

// A short text in a line: a name, a preview.
export function Line({ text, class: name = "" }) {
  return html`<bdi class=${name}>${visible(String(text ?? "").replace(/\s+/g, " "))}</bdi>`;
}

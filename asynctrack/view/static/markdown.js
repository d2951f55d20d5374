// Markdown as elements of our own making: what was logged stays text in all of them. Links and
// images are said, with their addresses, and lead nowhere; HTML is text. Nothing is nested deeper
// than a page can hold, and no text takes longer than its length lets expect.
import { html } from "./lib.js";
import { Scroll } from "./parts.js";
import { visible } from "./text.js";

export const LONGEST = 200_000;
const DEEPEST = 8;
// Of one list or text; what follows is shown as it was logged.
const BLOCKS = 5_000;
const LABEL = 1_000;
const ADDRESS = 2_000;

export function Markdown({ text }) {
  return html`<div class="markdown" dir="auto">${blocks(text.split(/\r?\n/), 0)}</div>`;
}

const blank = (line) => line.trim() === "";
const indent = (line) => line.length - line.trimStart().length;

function fence(line) {
  const found = indent(line) < 4 && /^(`{3,}|~{3,})/.exec(line.trimStart());
  return found ? found[1] : null;
}

function heading(line) {
  const found = indent(line) < 4 && /^(#{1,6})(?=[ \t]|$)/.exec(line.trimStart());
  return found ? found[1].length : 0;
}

function rule(line) {
  const signs = line.replace(/[ \t]/g, "");
  return signs.length > 2 && "-*_".includes(signs[0]) && signs === signs[0].repeat(signs.length);
}

function item(line) {
  const found = /^([-*+]|\d{1,9}[.)])(?=[ \t]|$)/.exec(line.trimStart());
  if (!found || rule(line)) return null;
  const at = indent(line);
  const rest = line.slice(at + found[1].length);
  const ordered = !"-*+".includes(found[1]);
  return { at, ordered, kind: found[1].at(-1), start: parseInt(found[1], 10), inner: at + found[1].length + (blank(rest) ? 1 : Math.min(4, indent(rest))) };
}

const cells = (line) => {
  const found = [];
  let cell = "";
  for (let n = 0; n < line.length; n += 1) {
    if (line[n] === "\\" && line[n + 1] === "|") cell += line[(n += 1)];
    else if (line[n] === "|") {
      found.push(cell.trim());
      cell = "";
    } else cell += line[n];
  }
  found.push(cell.trim());
  if (found[0] === "") found.shift();
  if (found.length && found.at(-1) === "") found.pop();
  return found;
};

function table(lines, n) {
  const under = lines[n + 1];
  if (!lines[n].includes("|") || under === undefined || !/^[ \t|:-]+$/.test(under) || !under.includes("-")) return false;
  return cells(lines[n]).length === cells(under).length;
}

const starts = (lines, n) => fence(lines[n]) || heading(lines[n]) || rule(lines[n]) || item(lines[n]) || lines[n].trimStart().startsWith(">") || table(lines, n);

function blocks(lines, depth) {
  if (depth > DEEPEST) return html`<p>${inline(lines.join("\n"))}</p>`;
  const found = [];
  let n = 0;
  while (n < lines.length) {
    if (found.length === BLOCKS) {
      found.push(html`<p>${visible(lines.slice(n).join("\n"))}</p>`);
      break;
    }
    const line = lines[n];
    const ticks = fence(line);
    const level = heading(line);
    if (blank(line)) n += 1;
    else if (ticks) {
      const code = [];
      for (n += 1; n < lines.length && !(fence(lines[n])?.startsWith(ticks) && blank(lines[n].trim().slice(fence(lines[n]).length))); n += 1) code.push(lines[n]);
      n += 1;
      found.push(html`<pre><code>${visible(code.join("\n"))}</code></pre>`);
    } else if (level) {
      const text = line.trim().slice(level).trim();
      found.push(html`<p class=${`heading level-${level}`}>${inline(text.endsWith("#") ? bare(text) : text)}</p>`);
      n += 1;
    } else if (rule(line)) {
      found.push(html`<hr />`);
      n += 1;
    } else if (line.trimStart().startsWith(">")) {
      const quoted = [];
      for (; n < lines.length && !blank(lines[n]) && (lines[n].trimStart().startsWith(">") || !starts(lines, n)); n += 1) quoted.push(lines[n].trimStart().replace(/^> ?/, ""));
      found.push(html`<blockquote>${blocks(quoted, depth + 1)}</blockquote>`);
    } else if (table(lines, n)) {
      const head = cells(line);
      const rows = [];
      for (n += 2; n < lines.length && lines[n].includes("|"); n += 1) rows.push(cells(lines[n]));
      found.push(html`<${Scroll} label="Table"><table class="plain"><thead><tr>${head.map((cell) => html`<th>${inline(cell)}</th>`)}</tr></thead>
        <tbody>${rows.map((row) => html`<tr>${head.map((_, column) => html`<td>${inline(row[column] ?? "")}</td>`)}</tr>`)}</tbody></table><//>`);
    } else if (item(line)) {
      const [list, next] = listed(lines, n, depth);
      found.push(list);
      n = next;
    } else {
      const text = [];
      do text.push(lines[n++]);
      while (n < lines.length && !blank(lines[n]) && !starts(lines, n));
      found.push(html`<p>${inline(text.join("\n"))}</p>`);
    }
  }
  return found;
}

// A heading without the signs that close it.
function bare(text) {
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  return end === 0 ? "" : /[ \t]/.test(text[end - 1]) ? text.slice(0, end).trimEnd() : text;
}

function listed(lines, from, depth) {
  const first = item(lines[from]);
  const items = [];
  let n = from;
  while (n < lines.length && items.length < BLOCKS) {
    const one = item(lines[n]);
    if (!one || one.kind !== first.kind || one.at > first.at + 3) break;
    const inner = [lines[n].slice(one.inner)];
    for (n += 1; n < lines.length; n += 1) {
      if (blank(lines[n])) {
        // What follows is part of it only as far inside as it is.
        if (n + 1 >= lines.length || blank(lines[n + 1]) || indent(lines[n + 1]) < one.inner) break;
        inner.push("");
      } else if (indent(lines[n]) >= one.inner) inner.push(lines[n].slice(one.inner));
      else if (starts(lines, n)) break;
      else inner.push(lines[n].trimStart());
    }
    items.push(inner);
    let after = n;
    while (after < lines.length && blank(lines[after])) after += 1;
    if (after < lines.length && after > n && item(lines[after])?.kind === first.kind) n = after;
  }
  const shown = items.map((inner) => {
    // A single line stands beside its sign.
    const plain = inner.length === 1 || inner.every((line, at) => at === 0 || (!blank(line) && !starts(inner, at)));
    return html`<li>${plain && !starts(inner, 0) ? inline(inner.join("\n")) : blocks(inner, depth + 1)}</li>`;
  });
  return [first.ordered ? html`<ol start=${first.start}>${shown}</ol>` : html`<ul>${shown}</ul>`, n];
}

const MARKS = { "*": ["em", "strong"], _: ["em", "strong"], "~": [null, "del"] };
const WORD = /[\p{L}\p{N}_]/u;

// Code, emphasis and links in a line. What is open is at most one of each mark, so that nothing is
// nested deep; what is not closed is text.
function inline(text, links = true) {
  const open = [{ mark: "", children: [] }];
  let plain = "";
  const unclosed = new Set();
  const flush = () => {
    if (plain) open.at(-1).children.push(visible(plain));
    plain = "";
  };
  let at = 0;
  let bracket = -2;
  while (at < text.length) {
    const sign = text[at];
    if (sign === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else if (sign === "`") {
      let length = 1;
      while (text[at + length] === "`") length += 1;
      const end = unclosed.has(length) || length > 9 ? -1 : closing(text, at + length, length);
      if (end < 0) {
        unclosed.add(length);
        plain += text.slice(at, at + length);
        at += length;
      } else {
        flush();
        open.at(-1).children.push(html`<code>${visible(text.slice(at + length, end).replace(/^ (.*) $/s, "$1"))}</code>`);
        at = end + length;
      }
    } else if (links && (sign === "[" || (sign === "!" && text[at + 1] === "["))) {
      if (bracket !== -1 && bracket < at) bracket = text.indexOf("](", at);
      const label = at + (sign === "!" ? 2 : 1);
      const said = text.slice(label, Math.max(label, bracket));
      const end = bracket < label || said.length > LABEL || said.includes("[") ? -1 : closed(text, bracket + 2);
      if (end < 0) {
        plain += sign;
        at += 1;
      } else {
        flush();
        const address = text.slice(bracket + 2, end).trim();
        open.at(-1).children.push(html`<span class="said-link">${sign === "!" ? "image: " : ""}${inline(said, false)} <small>(${visible(address)})</small></span>`);
        at = end + 1;
      }
    } else if (sign in MARKS) {
      let length = 1;
      while (text[at + length] === sign) length += 1;
      const mark = sign.repeat(Math.min(length, 4));
      const [before, after] = [text[at - 1] ?? " ", text[at + length] ?? " "];
      const inside = sign === "_" && WORD.test(before) && WORD.test(after);
      const known = length < 4 && (length === 3 ? sign !== "~" : MARKS[sign][length - 1]) && !inside;
      const opened = open.findLastIndex((one) => one.mark === mark);
      if (known && opened > 0 && /\S/.test(before)) {
        flush();
        while (open.length - 1 > opened) drop(open);
        const { children } = open.pop();
        const Tag = length === 3 ? "strong" : MARKS[sign][length - 1];
        open.at(-1).children.push(length === 3 ? html`<strong><em>${children}</em></strong>` : html`<${Tag}>${children}<//>`);
      } else if (known && opened < 0 && /\S/.test(after)) {
        flush();
        open.push({ mark, children: [] });
      } else plain += text.slice(at, at + length);
      at += length;
    } else {
      plain += sign;
      at += 1;
    }
  }
  flush();
  while (open.length > 1) drop(open);
  return open[0].children;
}

// What was opened and is not closed is text.
function drop(open) {
  const { mark, children } = open.pop();
  const above = open.at(-1).children;
  above.push(mark);
  for (const child of children) above.push(child);
}

// Where the address of a link ends, with as many brackets closed in it as are opened.
function closed(text, from) {
  let depth = 0;
  for (let at = from; at < Math.min(text.length, from + ADDRESS); at += 1) {
    if (text[at] === "(") depth += 1;
    else if (text[at] === ")" && (depth -= 1) < 0) return at;
  }
  return -1;
}

// Where a run of just so many backticks begins.
function closing(text, from, length) {
  const run = "`".repeat(length);
  for (let at = text.indexOf(run, from); at >= 0; at = text.indexOf(run, at)) {
    let end = at + length;
    while (text[end] === "`") end += 1;
    if (end - at === length) return at;
    at = end;
  }
  return -1;
}

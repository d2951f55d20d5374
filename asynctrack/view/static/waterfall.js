// The waterfall of a trace: its spans over time, without those that only wrap others.
import { html } from "./lib.js";
import { number, seconds, short } from "./format.js";
import { Status, kindOf } from "./parts.js";
import { Line, plainly } from "./text.js";

const DEEP = 12;

// The rows to show: without wrappers, unless all are asked for, and without what is below a folded
// one. Each knows how deep it stands then, and whether something is below it.
export function shownRows(rows, folded, all) {
  const kept = [];
  let hidden = []; // the depths of the wrappers around a row
  for (const row of rows) {
    while (hidden.length && hidden.at(-1) >= row.depth) hidden.pop();
    if (row.wrapper && !all) hidden.push(row.depth);
    else kept.push({ ...row, depth: row.depth - hidden.length });
  }
  const shown = [];
  let away = Infinity;
  kept.forEach((row, n) => {
    if (row.depth > away) return;
    away = folded.has(row.place) ? row.depth : Infinity;
    shown.push({ ...row, parent: kept[n + 1]?.depth > row.depth });
  });
  return shown;
}

// What stands beside a bar: what came of it if it did not end well, else its model.
function note(row) {
  if (row.error) return row.error;
  if (row.hands_on) return row.cause === "handoff" ? `→ ${row.hands_on}` : `asks: ${row.hands_on}`;
  return row.outcome === "cancelled" || row.outcome === "interrupted" ? row.said : (row.model ?? "");
}

export function Waterfall({ hash, rows, spans, loaded, length, place, folded, fold, choose, load, wrappers, all, showAll }) {
  const whole = length || 1e-9;
  const marks = length > 0 ? [0, 0.25, 0.5, 0.75, 1] : [0];
  const critical = rows.some((row) => row.critical.length > 0);
  return html`<section class="card waterfall" aria-label="Spans" data-shown=${hash}>
    ${(wrappers > 0 || critical) && html`<div class="bar wf-tools">${critical && html`<span class="quiet legend"><i class="way"></i>decides the duration</span>`}<span class="grow"></span>
      ${wrappers > 0 && html`<button class="switch" aria-pressed=${all} title="Spans that LangChain and LangGraph make around others" onClick=${() => showAll(!all)}>${number(wrappers)} ${wrappers === 1 ? "wrapper" : "wrappers"}</button>`}</div>`}
    <div class="wf-head"><span>span</span><span class="wf-axis">${marks.map((share) => html`<i key=${share} style=${{ left: `${share * 100}%` }}>${seconds(share * whole)}</i>`)}</span><span class="number wf-tokens">tokens</span><span class="number wf-self" title="In which none of the spans below it ran">itself</span><span class="number">time</span></div>
    <div class="wf-rows" role="tree" aria-label="Waterfall of spans">${rows.map((row) => html`<${Row} key=${row.place} row=${row} whole=${whole} open=${row.place === place} away=${folded.has(row.place)} fold=${fold} choose=${choose} />`)}</div>
    ${loaded < spans && html`<button class="link more" onClick=${load}>… ${number(spans - loaded)} more spans</button>`}
  </section>`;
}

function Row({ row, whole, open, away, fold, choose }) {
  const share = (at) => `${Math.max(0, Math.min(100, (at / whole) * 100))}%`;
  const left = row.at === null ? 0 : Math.min(100, (row.at / whole) * 100);
  // As long as it took, whatever the clock said at its end; to the right edge if no end is known.
  const endless = row.duration === null && ["unfinished", "abandoned"].includes(row.outcome);
  const width = row.at === null ? 0 : endless ? 100 - left : Math.min(100 - left, ((row.duration ?? 0) / whole) * 100);
  const late = left + width > 62;
  const tokens = (row.input_tokens ?? 0) + (row.output_tokens ?? 0);
  return html`<div role="treeitem" tabindex=${open ? 0 : -1} aria-selected=${open} aria-level=${row.depth + 1} aria-expanded=${row.parent ? !away : null}
      data-chosen=${open ? "" : null} class=${`wf-row kind-${kindOf(row.kind)} ${row.outcome}`} onClick=${() => choose(row.place)}>
    <span class="wf-name" style=${{ paddingLeft: `${Math.min(row.depth, DEEP) * 14}px` }}>
      ${row.parent ? html`<button class="fold" tabindex="-1" aria-label=${away ? "unfold" : "fold"} onClick=${(event) => {
        event.stopPropagation();
        fold(row.place, !away);
      }}>${away ? "▸" : "▾"}</button>` : html`<span class="fold"></span>`}
      <i class="dot" title=${plainly(row.kind)}></i><${Line} text=${row.name || row.kind} />${row.outcome === "ok" ? "" : html` <${Status} outcome=${row.outcome} said=${row.said} />`}${row.orphan ? html` <small class="quiet" title="It names a parent that nobody has seen">parent not known</small>` : ""}</span>
    <span class="wf-bar">${row.at !== null && html`<i class="fill" style=${{ left: `${left}%`, width: `${width}%` }}></i>`}${
      row.first_token !== null && row.at !== null && row.duration ? html`<i class="first" title=${`first token after ${seconds(row.first_token)}`} style=${{ left: `${left}%`, width: `${Math.min(width, (row.first_token / whole) * 100)}%` }}></i>` : ""}${
      row.critical.map(([from, to], n) => html`<i key=${n} class="way" title=${`decides ${seconds(to - from)} of the duration`} style=${{ left: share(from), width: share(to - from) }}></i>`)}
      <i class=${`model ${late && left < 34 ? "inside" : ""}`} style=${!late ? { left: `${left + width}%` } : { right: `${left < 34 ? 100 - left - width : 100 - left}%` }}><${Line} text=${note(row)} /></i></span>
    <span class="number wf-tokens">${tokens ? short(tokens) : ""}</span>
    <span class="number wf-self quiet">${row.self_time === null || row.self_time === row.duration ? "" : seconds(row.self_time)}</span>
    <span class="number">${row.duration === null && row.outcome !== "ok" ? html`<span class="quiet">${row.outcome}</span>` : seconds(row.duration)}</span></div>`;
}

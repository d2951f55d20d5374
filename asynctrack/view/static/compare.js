// Two Runs side by side: numbers, parameters, components, and their answers to the same input.
import { html } from "./lib.js";
import { useAnswer } from "./api.js";
import { TwoHistograms } from "./charts.js";
import { dollars, number, percent, seconds } from "./format.js";
import { Crumbs, ENDINGS, Failed, Pager, Scroll, State, Status, meaning } from "./parts.js";
import { here } from "./route.js";
import { Ending, plain } from "./run.js";
import { Line, visible } from "./text.js";

export function Compare({ route, state }) {
  const { a, b, swap, page } = route.asked;
  const { answer, error, fresh } = useAnswer("compare", { a, b, swap, page }, state.reading ? state.version : 0);
  if (error && !answer) return html`<${Failed} error=${error} />`;
  if (!answer) return html`<p class="quiet">asking …</p>`;
  const { sides } = answer;
  const same = sides[0].experiment === sides[1].experiment;
  const crumbs = same ? [{ text: sides[0].experiment, href: here(["experiment", sides[0].experiment]) }] : [];
  return html`<${Crumbs} parts=${[...crumbs, { text: `${sides[0].name} and ${sides[1].name}` }]} />
    <div class="bar title"><h1>${sides.map((side, n) => html`${n ? html` <span class="quiet">and</span> ` : ""}<a class=${n ? "name-b" : "name-a"} href=${here(["run", side.id])}><${Line} text=${side.name} /></a> <${State} run=${side} />`)}</h1>
      <span class="grow"></span><a class="button" href=${here(["compare"], { a, b, swap: swap ? null : 1 })} title="The earlier one stands left">swap</a></div>
    <div class="charts two">
      <section class="card"><h2>In numbers</h2><${Numbers} sides=${sides} differences=${answer.differences} priced=${answer.priced} /></section>
      <div><figure class="card"><figcaption>Latency of traces, as shares<span class="legend"><i class="side-a"></i><${Line} text=${sides[0].name} /> <i class="side-b"></i><${Line} text=${sides[1].name} /></span></figcaption><${TwoHistograms} sides=${sides} perTen=${answer.per_ten} /></figure>
        <section class="card"><h2>Parameters</h2><${Parameters} sides=${sides} /></section></div></div>
    <section class="card"><h2>By component</h2><${Components} answer=${answer} /></section>
    <section class=${`card ${fresh ? "" : "stale"}`} data-shown=${fresh ? route.hash : ""}><h2>Final answers to the same question</h2><${Pairs} answer=${answer} sides=${sides} link=${(to) => here(["compare"], { a, b, swap, page: to || null })} /></section>`;
}

// By how much b differs from a; in colour where that is more than noise: less is better then.
function Change({ a, b, difference }) {
  if (a === null || a === undefined || b === null || b === undefined || a === b) return html`<td class="number quiet">${a === b && a !== null && a !== undefined ? "=" : ""}</td>`;
  const kind = difference?.beyond_noise ? (difference.value > 0 ? "worse" : "better") : "";
  const title = difference && !kind ? "within noise" : null;
  if (!a) return html`<td class=${`number ${kind}`} title=${title}>from 0</td>`;
  const share = (100 * (b - a)) / a;
  return html`<td class=${`number ${kind}`} title=${title}>${share > 0 ? "+" : "−"}${Math.abs(share) >= 1000 ? `${(Math.abs(share) / 100).toFixed(0)} ×` : `${Math.abs(share).toFixed(Math.abs(share) < 10 ? 1 : 0)} %`}</td>`;
}

function Numbers({ sides, differences, priced }) {
  const [a, b] = sides;
  // Of two Runs with different numbers of traces the shares say which one is better.
  const ending = (name) => [name, (share, side) => html`<span title=${meaning(name, side)}>${number(side[name])} <small>${name === "recovered" ? "" : percent(side[name], side.traces)}</small></span>`,
    (side) => (side.traces ? side[name] / side.traces : null), name];
  const rows = [
    ["traces", number, (side) => side.traces],
    ...Object.keys(ENDINGS).filter((name) => name === "failed" || a[name] || b[name]).map(ending),
    ...["p50", "p90", "p95", "p99", "max"].map((mark) => [`latency ${mark}`, seconds, (side) => side.latency?.[mark], mark]),
    ["first token p50", seconds, (side) => side.first_token?.p50, "first_p50"],
    ["model calls", number, (side) => side.model_calls],
    ["tokens in", number, (side) => side.input_tokens],
    ["of them cached", number, (side) => side.cache_read_tokens],
    ["tokens out", number, (side) => side.output_tokens],
    ["of them reasoning", number, (side) => side.reasoning_tokens],
    ["tokens a trace", (value) => number(value === null ? null : Math.round(value)), (side) => (side.traces ? side.tokens / side.traces : null), "tokens_per_call"],
    ...(priced ? [["cost", dollars, (side) => side.cost], ["cost a trace", dollars, (side) => (side.traces && side.cost !== null ? side.cost / side.traces : null), "cost_per_call"]] : []),
    ...[...new Set(sides.flatMap((side) => Object.keys(side.metrics)))].slice(0, 40).map((name) => [name, plain, (side) => side.metrics[name]]),
  ];
  return html`<table class="plain"><thead><tr><th><span class="unseen">what</span></th><th class="number name-a"><${Line} text=${a.name} /></th><th class="number name-b"><${Line} text=${b.name} /></th><th class="number">change</th></tr></thead>
    <tbody>${rows.map(([name, format, value, measure]) => html`<tr key=${name}><td><${Line} text=${name} /></td><td class="number">${format(value(a), a)}</td><td class="number">${format(value(b), b)}</td><${Change} a=${value(a)} b=${value(b)} difference=${differences[measure]} /></tr>`)}</tbody></table>`;
}

function Parameters({ sides }) {
  const [a, b] = sides.map((side) => side.parameters);
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => !name.startsWith("asynctrack."));
  const differ = names.filter((name) => a[name] !== b[name]);
  const equal = names.filter((name) => a[name] === b[name]);
  const rows = (list) => html`<table class="plain parameters"><tbody>${list.map((name) => html`<tr key=${name}><td><${Line} text=${name} /></td><td>${name in a ? html`<${Line} text=${a[name]} />` : html`<span class="quiet">–</span>`}</td><td>${name in b ? html`<${Line} text=${b[name]} />` : html`<span class="quiet">–</span>`}</td></tr>`)}</tbody></table>`;
  return html`${differ.length ? rows(differ) : html`<p class="quiet">all the same</p>`}
    ${equal.length > 0 && html`<details><summary>${number(equal.length)} are the same</summary>${rows(equal)}</details>`}`;
}

// What is compared of each component; of all of these less is better.
const MEASURES = [
  ["failure_rate", "failed", (value) => percent(value, 1), (value) => `${(100 * value).toFixed(1)} pts`],
  ["p50", "p50", seconds, seconds],
  ["p95", "p95", seconds, seconds],
  ["first_p50", "first token p50", seconds, seconds],
  ["tokens_per_call", "tokens a call", rounded, rounded],
  ["cost_per_call", "cost a call", dollars, dollars],
];
const KINDS = { trace: "all traces" };

function rounded(value) {
  return value === null || value === undefined ? "–" : number(value < 10 ? Number(value.toPrecision(2)) : Math.round(value));
}

function Components({ answer }) {
  const { components, priced } = answer;
  const measures = MEASURES.filter(([name]) => (priced || name !== "cost_per_call") && components.some((one) => one.sides.some((side) => side && name in side.measured)));
  return html`<p class="quiet">Coloured is what is more than noise: where the interval of confidence, of 99 %, does not hold 0.</p>
    <${Scroll} label="By component"><table class="plain compared"><thead><tr><th>kind</th><th>name</th><th class="number">calls</th>${measures.map(([name, title]) => html`<th class="number" key=${name}>${title}</th>`)}</tr></thead>
    <tbody>${components.map((one) => html`<tr key=${`${one.kind} ${one.name}`}><td class="quiet">${KINDS[one.kind] ?? one.kind}</td><td><${Line} text=${one.name} /></td>
      <td class="number"><span class="name-a">${number(one.sides[0]?.calls ?? 0)}</span> <span class="name-b">${number(one.sides[1]?.calls ?? 0)}</span></td>
      ${measures.map(([name, , format, formatChange]) => html`<${Measured} key=${name} values=${one.sides.map((side) => side?.measured[name])} difference=${one.differences[name]} format=${format} formatChange=${formatChange} />`)}</tr>`)}</tbody></table><//>`;
}

// Both values, and by how much the second one is more, in colour where that is more than noise.
function Measured({ values, difference, format, formatChange }) {
  const [a, b] = values;
  if (a === undefined && b === undefined) return html`<td></td>`;
  const change = difference && difference.value !== 0 ? `${difference.value > 0 ? "+" : "−"}${formatChange(Math.abs(difference.value))}` : difference ? "=" : "";
  const between = difference && difference.low !== null && difference.high !== null ? `between ${signed(difference.low, formatChange)} and ${signed(difference.high, formatChange)}` : "too few calls to tell";
  const kind = difference?.beyond_noise ? (difference.value < 0 ? "better" : "worse") : "quiet";
  return html`<td class="number"><span class="name-a">${a === undefined ? "–" : format(a)}</span> <span class="name-b">${b === undefined ? "–" : format(b)}</span>${change && html`<div class=${`change ${kind}`} title=${difference.beyond_noise ? between : `within noise: ${between}`}>${change}</div>`}</td>`;
}

function signed(value, format) {
  return value < 0 ? `−${format(-value)}` : `+${format(value)}`;
}

function Pairs({ answer, sides, link }) {
  const alone = answer.only.map((count, n) => (count ? html` ${number(count)} only in <${Line} text=${sides[n].name} />.` : ""));
  if (!answer.matched) return html`<p class="quiet">No trace of the one was asked the same as one of the other.${alone}</p>`;
  const cell = (one, n) => html`<td class=${n ? "answer side-b" : "answer side-a"}><a href=${here(["run", sides[n].id, "trace", one.trace_id])}><${Status} outcome=${one.outcome} said=${one.said} /> ${seconds(one.duration)}</a>
      <div>${one.outcome === "ok" ? html`<span class="logged">${visible(one.answer)}</span>${one.cut ? " …" : ""}` : html`<${Ending} row=${one} />`}</div></td>`;
  return html`<p class="quiet">${number(answer.changed)} of ${number(answer.matched)} changed.${alone}</p>
    ${answer.pairs.length > 0 && html`<table class="plain pairs-table"><thead><tr><th>question</th><th class="name-a"><${Line} text=${sides[0].name} /></th><th class="name-b"><${Line} text=${sides[1].name} /></th></tr></thead>
    <tbody>${answer.pairs.map((pair, n) => html`<tr key=${n}><td><small class="quiet"><${Line} text=${pair.name} /></small><div><${Line} text=${pair.question} /></div></td>${pair.sides.map(cell)}</tr>`)}</tbody></table>`}
    ${answer.pages > 1 && html`<${Pager} page=${answer.page} pages=${answer.pages} more=${answer.page + 1 < answer.pages} link=${link} />`}`;
}

// Two Runs side by side: numbers, parameters, components, and their answers to the same input.
import { html } from "./lib.js";
import { useAnswer } from "./api.js";
import { TwoHistograms } from "./charts.js";
import { dollars, number, percent, seconds } from "./format.js";
import { Crumbs, ENDINGS, Failed, Scroll, State, Status, meaning } from "./parts.js";
import { here } from "./route.js";
import { Ending, plain } from "./run.js";
import { Line } from "./text.js";

export function Compare({ route, state }) {
  const { a, b } = route.asked;
  const { answer, error } = useAnswer("compare", { a, b }, state.reading ? state.version : 0);
  if (error && !answer) return html`<${Failed} error=${error} />`;
  if (!answer) return html`<p class="quiet">asking …</p>`;
  const { sides } = answer;
  const same = sides[0].experiment === sides[1].experiment;
  const crumbs = same ? [{ text: sides[0].experiment, href: here(["experiment", sides[0].experiment]) }] : [];
  return html`<${Crumbs} parts=${[...crumbs, { text: `${sides[0].name} and ${sides[1].name}` }]} />
    <div class="bar title"><h1>${sides.map((side, n) => html`${n ? html` <span class="quiet">and</span> ` : ""}<a class=${n ? "name-b" : "name-a"} href=${here(["run", side.id])}><${Line} text=${side.name} /></a> <${State} run=${side} />`)}</h1>
      <span class="grow"></span><a class="button" href=${here(["compare"], { a: b, b: a })}>swap</a></div>
    <div class="charts two">
      <section class="card"><h2>In numbers</h2><${Numbers} sides=${sides} priced=${answer.priced} /></section>
      <div><figure class="card"><figcaption>Latency of traces, as shares<span class="legend"><i class="side-a"></i><${Line} text=${sides[0].name} /> <i class="side-b"></i><${Line} text=${sides[1].name} /></span></figcaption><${TwoHistograms} sides=${sides} perTen=${answer.per_ten} /></figure>
        <section class="card"><h2>Parameters</h2><${Parameters} sides=${sides} /></section></div></div>
    <section class="card"><h2>Spans by kind and name</h2><${Components} sides=${sides} /></section>
    <section class="card"><h2>Answers to the same input</h2><${Pairs} answer=${answer} sides=${sides} /></section>`;
}

// By how much b differs from a; `good` is -1 where less is better.
function Change({ a, b, good = 0 }) {
  if (a === null || a === undefined || b === null || b === undefined || a === b) return html`<td class="number quiet">${a === b && a !== null && a !== undefined ? "=" : ""}</td>`;
  if (!a) return html`<td class=${`number ${good === 0 ? "" : b * good > 0 ? "better" : "worse"}`}>${good === 0 ? "" : "from 0"}</td>`;
  const share = (100 * (b - a)) / a;
  const kind = good === 0 || Math.abs(share) < 1 ? "" : share * good > 0 ? "better" : "worse";
  return html`<td class=${`number ${kind}`}>${share > 0 ? "+" : "−"}${Math.abs(share) >= 1000 ? `${(Math.abs(share) / 100).toFixed(0)} ×` : `${Math.abs(share).toFixed(Math.abs(share) < 10 ? 1 : 0)} %`}</td>`;
}

function Numbers({ sides, priced }) {
  const [a, b] = sides;
  // Of two Runs with different numbers of traces the shares say which one is better.
  const ending = (name) => [name, (share, side) => html`<span title=${meaning(name, side)}>${number(side[name])} <small>${name === "recovered" ? "" : percent(side[name], side.traces)}</small></span>`,
    (side) => (side.traces ? side[name] / side.traces : null), ENDINGS[name].good];
  const rows = [
    ["traces", number, (side) => side.traces, 0],
    ...Object.keys(ENDINGS).filter((name) => name === "failed" || a[name] || b[name]).map(ending),
    ...["p50", "p90", "p95", "p99", "max"].map((mark) => [`latency ${mark}`, seconds, (side) => side.latency?.[mark], -1]),
    ["first token p50", seconds, (side) => side.first_token?.p50, -1],
    ["model calls", number, (side) => side.model_calls, 0],
    ["tokens in", number, (side) => side.input_tokens, 0],
    ["of them cached", number, (side) => side.cache_read_tokens, 0],
    ["tokens out", number, (side) => side.output_tokens, 0],
    ["of them reasoning", number, (side) => side.reasoning_tokens, 0],
    ["tokens a trace", (value) => number(value === null ? null : Math.round(value)), (side) => (side.traces ? side.tokens / side.traces : null), -1],
    ...(priced ? [["cost", dollars, (side) => side.cost, 0], ["cost a trace", dollars, (side) => (side.traces && side.cost !== null ? side.cost / side.traces : null), -1]] : []),
    ...[...new Set(sides.flatMap((side) => Object.keys(side.metrics)))].slice(0, 40).map((name) => [name, plain, (side) => side.metrics[name], 0]),
  ];
  return html`<table class="plain"><thead><tr><th><span class="unseen">what</span></th><th class="number name-a"><${Line} text=${a.name} /></th><th class="number name-b"><${Line} text=${b.name} /></th><th class="number">change</th></tr></thead>
    <tbody>${rows.map(([name, format, value, good]) => html`<tr key=${name}><td><${Line} text=${name} /></td><td class="number">${format(value(a), a)}</td><td class="number">${format(value(b), b)}</td><${Change} a=${value(a)} b=${value(b)} good=${good} /></tr>`)}</tbody></table>`;
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

function Components({ sides }) {
  const both = new Map();
  sides.forEach((side, n) => side.components.forEach((one) => {
    const key = `${one.kind}\n${one.name}`;
    if (!both.has(key)) both.set(key, [null, null]);
    both.get(key)[n] = one;
  }));
  return html`<${Scroll} label="Spans by kind and name"><table class="plain"><thead><tr><th>kind</th><th>name</th><th class="number name-a">spans</th><th class="number name-b">spans</th><th class="number name-a">failed</th><th class="number name-b">failed</th>
      <th class="number name-a">p50</th><th class="number name-b">p50</th><th class="number">change</th><th class="number name-a">p95</th><th class="number name-b">p95</th><th class="number">change</th></tr></thead>
    <tbody>${[...both.values()].slice(0, 60).map(([a, b], n) => html`<tr key=${n}><td><${Line} text=${(a ?? b).kind} /></td><td><${Line} text=${(a ?? b).name} /></td><td class="number">${number(a?.spans)}</td><td class="number">${number(b?.spans)}</td>
      <td class="number">${number(a?.failed)}</td><td class="number">${number(b?.failed)}</td><td class="number">${seconds(a?.latency?.[0])}</td><td class="number">${seconds(b?.latency?.[0])}</td><${Change} a=${a?.latency?.[0]} b=${b?.latency?.[0]} good=${-1} />
      <td class="number">${seconds(a?.latency?.[2])}</td><td class="number">${seconds(b?.latency?.[2])}</td><${Change} a=${a?.latency?.[2]} b=${b?.latency?.[2]} good=${-1} /></tr>`)}</tbody></table><//>`;
}

function Pairs({ answer, sides }) {
  if (!answer.same_input) return html`<p class="quiet">No trace of the one has the same name and input as one of the other.</p>`;
  const cell = (pair, n) => {
    const of = n ? "y" : "x";
    const row = Object.fromEntries(["outcome", "said", "duration", "output", "error", "asks", "trace_id", "writer_id"].map((name) => [name, pair[`${of}_${name}`]]));
    return html`<td class=${n ? "answer side-b" : "answer side-a"}><a href=${here(["run", sides[n].id, "trace", row.trace_id], { writer: row.writer_id })}><${Status} outcome=${row.outcome} said=${row.said} /> ${seconds(row.duration)}</a>
      <div>${row.outcome === "ok" ? html`<${Line} text=${row.output} />` : html`<${Ending} row=${row} />`}</div></td>`;
  };
  return html`<p class="quiet">${number(answer.same_input)} inputs are in both; ${number(answer.differ)} were answered differently. ${answer.same_input > answer.pairs.length ? `The first ${answer.pairs.length} are shown.` : ""}</p>
    <table class="plain pairs-table"><thead><tr><th>input</th><th class="name-a"><${Line} text=${sides[0].name} /></th><th class="name-b"><${Line} text=${sides[1].name} /></th></tr></thead>
    <tbody>${answer.pairs.map((pair, n) => html`<tr key=${n} class=${pair.differs ? "" : "same"}><td><small class="quiet"><${Line} text=${pair.name} /></small><div><${Line} text=${pair.x_input} /></div></td>${cell(pair, 0)}${cell(pair, 1)}</tr>`)}</tbody></table>`;
}

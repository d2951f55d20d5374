// The experiment page: all its Runs, over time, and two of them to compare. Of several experiments
// at first all.
import { html, useState } from "./lib.js";
import { useAnswer } from "./api.js";
import { Lines } from "./charts.js";
import { date, dollars, number, percent, seconds, short, time, tokensIn, tokensOut, when } from "./format.js";
import { Crumbs, ENDINGS, Failed, Field, Pager, State, meaning, useChoice } from "./parts.js";
import { go, here } from "./route.js";
import { Line, plainly } from "./text.js";

const SHOWN = 5;

export function Home({ route, state }) {
  const asked = { experiment: route.experiment, sort: "-started", ...route.asked };
  const { answer, error, fresh } = useAnswer("home", asked, state.version);
  const [picked, setPicked] = useState([]);
  const [chosen, choose] = useState(null);
  const runs = answer?.runs ?? [];
  useChoice(runs.length, chosen, choose, { open: (n) => go(here(["run", runs[n].id])) });
  const place = route.experiment ? ["experiment", route.experiment] : [];
  const link = (change) => here(place, { ...route.asked, ...change });
  const pick = (id) => setPicked(picked.includes(id) ? picked.filter((one) => one !== id) : [...picked, id].slice(-2));
  if (error && !answer) return html`<${Failed} error=${error} />`;
  if (!answer) return html`<p class="quiet">asking …</p>`;
  const crumbs = route.experiment ? [{ text: route.experiment }] : answer.experiments.length === 1 ? [{ text: answer.experiment }] : [];
  const head = (sort, text, kind = "number") => {
    const now = asked.sort.replace("-", "") === sort;
    const down = asked.sort.startsWith("-");
    return html`<th class=${kind} aria-sort=${now ? (down ? "descending" : "ascending") : "none"}>
      <a href=${link({ sort: now && down ? sort : `-${sort}`, page: null })}>${text}${now ? (down ? " ↓" : " ↑") : ""}</a></th>`;
  };
  const varying = answer.varying.slice(0, SHOWN);
  const several = answer.experiments.length > 1 && !answer.experiment;
  return html`<${Crumbs} parts=${crumbs} /><h1 class="unseen">${route.experiment ? html`<${Line} text=${route.experiment} />` : "Experiments"}</h1>
    ${answer.experiments.length > 1 && html`<nav class="tabs" aria-label="Experiments">
      <a href="#/" aria-current=${answer.experiment ? null : "page"}>all <small>${number(answer.experiments.reduce((sum, one) => sum + one.runs, 0))}</small></a>
      ${answer.experiments.map((one) => html`<a key=${one.name} href=${here(["experiment", one.name])} aria-current=${answer.experiment === one.name ? "page" : null}>
        <${Line} text=${one.name} /> <small>${number(one.runs)}</small>${one.live > 0 && html` <span class="badge live"><i></i></span>`}</a>`)}</nav>`}
    <${Course} points=${answer.course} priced=${answer.priced} />
    <section class="card" data-shown=${fresh ? route.hash : ""}>
      <div class="bar">
        <h2>${number(answer.count)} ${answer.count === 1 ? "run" : "runs"}</h2>
        <${Field} type="search" placeholder="find a run by its name   /" aria-label="Find a run by its name" value=${asked.text}
          onInput=${(event) => go(link({ text: event.target.value, page: null }), { replace: true })} />
        <span class="grow"></span>
        ${answer.experiment && html`<a class="button" href=${here(["experiment", answer.experiment, "sessions"])}>sessions</a>`}
        ${picked.length === 2
          ? html`<a class="button" href=${here(["compare"], { a: picked[0], b: picked[1] })}>compare the two</a>`
          : html`<span class="quiet">${picked.length ? "pick one more to compare" : "pick two to compare"}</span>`}
      </div>
      <div class="scroll"><table class="list runs">
        <thead><tr><th class="pick"><span class="unseen">compare</span></th>${head("name", "run", "")}<th><span class="unseen">state</span></th>${head("started", "started", "")}
          ${head("traces", "traces")}${head("failed", "failed")}${head("p50", "p50")}${head("p95", "p95")}<th class="number">p99</th>
          ${head("tokens", "tokens")}${answer.priced && head("cost", "cost")}
          ${varying.map((name) => html`<th key=${name} class="parameter" title=${plainly(name)}><${Line} text=${name.split(".").pop()} /></th>`)}</tr></thead>
        <tbody>${runs.map((run, n) => html`<tr key=${run.id} data-chosen=${n === chosen ? "" : null} class=${picked.includes(run.id) ? "picked" : ""}>
          <td class="pick"><input type="checkbox" aria-label=${`compare ${plainly(run.name)}`} checked=${picked.includes(run.id)} onChange=${() => pick(run.id)} /></td>
          <td class="name"><a href=${here(["run", run.id])}>${several && html`<span class="quiet"><${Line} text=${run.experiment} />/</span>`}<${Line} text=${run.name} /></a></td>
          <td><${State} run=${run} /></td>
          <td class="time" data-label="started" title=${when(run.started)}>${date(run.started)} <span>${run.started ? time(run.started, false) : ""}</span></td>
          <td class="number" data-label="traces" title=${`${number(run.traces)} traces, ${number(run.spans)} spans`}>${short(run.traces)}</td>
          <td class=${`number ${run.failed ? "bad" : ""}`} data-label="failed" title=${[percent(run.failed, run.traces), ...Object.keys(ENDINGS).filter((name) => run[name]).map((name) => meaning(name, run))].join("\n")}>${short(run.failed)}</td>
          <td class="number" data-label="p50">${seconds(run.latency?.p50)}</td><td class="number" data-label="p95">${seconds(run.latency?.p95)}</td><td class="number" data-label="p99">${seconds(run.latency?.p99)}</td>
          <td class="number" data-label="tokens" title=${`in ${tokensIn(run)}; out ${tokensOut(run)}`}>${short(run.tokens)}</td>
          ${answer.priced && html`<td class="number" data-label="cost">${dollars(run.cost)}</td>`}
          ${varying.map((name) => html`<td key=${name} class="parameter" data-label=${plainly(name.split(".").pop())}><${Line} text=${run.parameters[name]} /></td>`)}</tr>`)}</tbody>
      </table></div>
      ${!runs.length && html`<p class="quiet empty">no run is called so</p>`}
      ${answer.pages > 1 && html`<${Pager} page=${answer.page} pages=${answer.pages} more=${answer.page + 1 < answer.pages} link=${(page) => link({ page })} />`}
      ${answer.varying.length > 0 && html`<p class="quiet note">Shown of the parameters: those that differ between these runs${answer.varying.length > SHOWN ? `, ${SHOWN} of ${answer.varying.length}` : ""}. All of them are on the page of each run.</p>`}
    </section>`;
}

function Course({ points, priced }) {
  if (points.length < 2) return null;
  const titles = points.map((point) => `${plainly(point.name)}, ${when(point.started)}`);
  const open = (n) => go(here(["run", points[n].id]));
  const ends = [
    [0, date(points[0].started)],
    [1, date(points[points.length - 1].started)],
  ];
  const chart = (title, legend, series, format) => html`<figure class="card"><figcaption>${title}${legend}</figcaption>
    <${Lines} series=${series} titles=${titles} format=${format} label=${`${title}, by run`} onOpen=${open} marks=${ends} /></figure>`;
  const share = points.map((point) => (point.traces ? (100 * point.failed) / point.traces : null));
  return html`<div class="charts course">
    ${chart("Latency of traces", html`<span class="legend"><i class="p50"></i>p50 <i class="p95"></i>p95</span>`, [
      ["p95", "p95", points.map((point) => point.latency?.p95)],
      ["p50", "p50", points.map((point) => point.latency?.p50)],
    ], seconds)}
    ${chart("Failed traces", null, [["failed", "failed", share]], (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`)}
    ${chart("Tokens", null, [["tokens", "tokens", points.map((point) => point.tokens)]], short)}
    ${priced && chart("Cost", null, [["cost", "cost", points.map((point) => point.cost)]], dollars)}
  </div>`;
}
